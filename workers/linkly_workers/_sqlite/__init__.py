"""SQLite as several workers use it: shared by them, no worker itself."""

from sqlite3 import Error

from linkly_workers._sqlite.connection import Budget, Connection, Durability, connect
from linkly_workers._sqlite.execution import StatementResult, execute
from linkly_workers._sqlite.statement import Statement, Statements
from linkly_workers._sqlite.turn import Turn
from linkly_workers._sqlite.writer import GroupCommitWriter

__all__ = [
    "Budget",
    "Connection",
    "Durability",
    "Error",
    "GroupCommitWriter",
    "Statement",
    "StatementResult",
    "Statements",
    "Turn",
    "connect",
    "execute",
]
