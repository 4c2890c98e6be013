"""The SQL of queues: a folder for each kind of database."""
