"""Waiting for another program that holds the write lock of the file.

SQLite's own waiting cannot be ended by a caller whose time is over, and every batch would wait anew. So the writing
thread waits in short slices, between which everybody stands in line again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from linkly_workers._line import FairLine
from linkly_workers._sqlite.operation import Operation
from linkly_workers._sqlite.turn import Asking

LOCK_SLICE_MS = 50
"""So long the writing thread waits at a time."""

HOLDERS_PATIENCE_MS = 5000
"""So long SQLite waits for what runs in a turn."""


class Lock:
    """Whether another program has locked the file, and since when. It knows no clock and no file.

    Attributes:
        since: When it was met first; `None` once a transaction could be begun.
    """

    def __init__(self, path: str, patience_s: float) -> None:
        self._path = path
        self._patience_s = patience_s
        self.since: float | None = None

    def met(
        self, queue: FairLine[Operation[Any]], batch: Sequence[Operation[Any]], now: float
    ) -> Sequence[Operation[Any]]:
        """Put a batch that could not be begun back into line; it is empty if the lock could be had.

        Returns:
            Who has to be answered because everybody has waited too long, but not who asks for a turn: a turn has its
            own deadline.
        """
        if not batch:
            self.since = None
            return ()
        for operation in batch:
            operation.taken, operation.error = False, None
            if operation.expired:
                operation.expire()
        for operation in reversed(batch):
            queue.appendleft(operation.caller, operation)
        if self.since is None:
            self.since = now
        if now - self.since < self._patience_s:
            return ()
        self.since = None
        failing = [operation for operation in queue if not isinstance(operation, Asking)]
        asking = [operation for operation in queue if isinstance(operation, Asking)]
        queue.clear()
        for turn in asking:
            queue.append(turn.caller, turn)
        for operation in failing:
            operation.error = self._error()
        return failing

    def _error(self) -> sqlite3.OperationalError:
        error = sqlite3.OperationalError(
            f"another program has locked {self._path} for {self._patience_s:g} s; nothing was written; try again"
        )
        error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_BUSY, "SQLITE_BUSY"
        return error
