"""A database on a server, whichever server it is: connections that callers share, and their transactions.

A backend brings how a connection is made and what it does (`connection`), and what its driver's errors mean (`driver`).
"""
