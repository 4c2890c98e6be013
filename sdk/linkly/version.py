"""The version of linkly, for what says it without the rest of the package."""

__version__ = "0.1.0"
