"""The linkly engine: loads workers, routes calls between them, listens for remote ones."""

__version__ = "0.1.0"
