"""SQLite as several workers use it: shared by them, no worker itself."""

from linkly_workers._sqlite.writer import Durability, GroupCommitWriter, StatementResult, connect

__all__ = ["Durability", "GroupCommitWriter", "StatementResult", "connect"]
