"""The commits of a writer, on the loop's thread or on the writing one, and what is answered when one is refused.

A refused commit may be somebody's deferred constraint: then the batch runs again on the writing thread, one by one, to
find out whose. Or it was the disk: then nobody is answered, and nothing else is written, before it is known what is
left of it (see `data_file`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from linkly.errors import OutcomeUnknown
from linkly_workers._sqlite.batch import Done, Locked, run_and_commit
from linkly_workers._sqlite.connection import Budget, Connection, is_locked
from linkly_workers._sqlite.data_file import DataFile
from linkly_workers._sqlite.disk import Disk
from linkly_workers._sqlite.lock import LOCK_SLICE_MS
from linkly_workers._sqlite.operation import Operation


class Commits:
    """Runs and commits batches; one call at a time, on whichever thread."""

    def __init__(self, connection: Connection, budget: Budget, file: DataFile) -> None:
        self._connection = connection
        self._budget = budget
        self._file = file
        self._current: Operation[Any] | None = None

    def commit(self, batch: Sequence[Operation[Any]], disk: Disk) -> sqlite3.Error | None:
        """Commit a batch that has run; return the error if it was refused: the batch has to `run` again."""
        began = perf_counter()
        try:
            self._connection.own("COMMIT")
        except sqlite3.Error as error:
            self._file.refused(self._connection, error)
            return error
        disk.committed(perf_counter() - began)
        try:
            self._file.committed()
        except OutcomeUnknown as unknown:
            for operation in batch:
                operation.error = operation.error or unknown
        return None

    def on_thread(self, batch: list[Operation[Any]], disk: Disk) -> Done:
        """Commit a batch that has run, on the writing thread."""
        refused = self.commit(batch, disk)
        return (batch, ()) if refused is None else self.run(batch, refused=refused)

    def run(
        self,
        batch: list[Operation[Any]],
        patience_ms: int = LOCK_SLICE_MS,
        refused: sqlite3.Error | None = None,
    ) -> Done:
        """Run a batch and commit it, on the writing thread: with patience, and without the loop's limits.

        `refused` is the error with which the commit of this very batch was refused, if it was.
        """
        connection = self._connection
        self._budget.on_thread(self._is_unwanted)
        try:
            connection.own("PRAGMA busy_timeout = ", patience_ms)
            if self._file.doubtful:
                self._resolve(batch, refused)
            run_and_commit(connection, batch, self._started, self._file)
        except Locked as locked:
            return [operation for operation in batch if operation not in locked.left], locked.left
        except BaseException as error:
            for operation in batch:
                operation.error = operation.error or error
        finally:
            connection.own("PRAGMA busy_timeout = 0")
            self._budget.on_loop()
        return batch, ()

    def _resolve(self, batch: Sequence[Operation[Any]], refused: sqlite3.Error | None) -> None:
        """Find out what is true before anything else is done; if that cannot be, the batch does not run."""
        try:
            self._file.resolve(self._connection)
        except sqlite3.Error as error:
            if refused is not None:
                raise self._file.unknown(refused) from error
            if is_locked(error):
                raise Locked(batch) from error
            raise

    def _started(self, operation: Operation[Any] | None) -> None:
        self._current = operation

    def _is_unwanted(self) -> bool:
        return self._current is not None and self._current.unwanted
