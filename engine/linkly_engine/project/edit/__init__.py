"""Edits the list of workers in a config.yaml as text: comments, order, quotes, indentation and line ends survive.

`layout` says where each entry stands, `edit` turns one text into another and proves by parsing that it means what was
meant, `file` reads and writes it whole. Nothing in here knows what a worker is, or whether an engine runs.
"""
