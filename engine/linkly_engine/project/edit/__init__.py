"""Edits the list of workers in a config.yaml as text: comments, order, quotes, indentation and line ends survive.

`layout` finds the position of each entry, `edit` changes the text and proves the change by parsing it, `file` reads and
writes the file whole. It knows neither workers nor a running engine.
"""
