"""Runs a batch on the loop's thread, for as long as the loop can spare.

An operation that turns out to be long, or needs a savepoint, undoes the batch; the writer hands it to its thread.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

from linkly_workers._line import FairLine
from linkly_workers._sqlite.batch import Undone, failed_unsaved
from linkly_workers._sqlite.connection import Budget, Connection
from linkly_workers._sqlite.loop_time import BATCH_S, LEAST_BATCH_S, QUICK_S, loop_time
from linkly_workers._sqlite.operation import Operation
from linkly_workers._sqlite.slow import BATCH_LIMIT, SlowOperations

LOOP_STATEMENT_S = 0.010
"""Longer statements are stopped and run again on the writing thread."""


class LoopBatch:
    """Takes operations from the line and runs them in one transaction, which it leaves open."""

    def __init__(
        self, connection: Connection, budget: Budget, queue: FairLine[Operation[Any]], slow: SlowOperations
    ) -> None:
        self._connection = connection
        self._budget = budget
        self._queue = queue
        self._slow = slow
        self._loop_time = loop_time()

    def run(self) -> tuple[list[Operation[Any]], Undone | None]:
        """Run a batch; returns who is in it, and why it has to be undone, if it has.

        Raises:
            sqlite3.Error: The transaction could not be begun; nobody was taken from the line.
        """
        queue, connection, budget, slow = self._queue, self._connection, self._budget, self._slow.keys
        connection.own("BEGIN IMMEDIATE")
        batch: list[Operation[Any]] = []
        rotation = queue.rotation
        undone: Undone | None = None
        now = perf_counter()
        end = now + min(BATCH_S, max(LEAST_BATCH_S, self._loop_time.left_s))
        try:
            # Every write of the process passes here: no call that an attribute can save.
            while rotation and now < end and len(batch) < BATCH_LIMIT:
                operation = queue.popleft()
                if operation.place or (slow and hash(operation.key) in slow):
                    queue.undo(operation.caller, operation)
                    break
                if operation.expired or operation.future.cancelled():
                    operation.disarm()
                    continue
                operation.taken = True
                batch.append(operation)
                began, budget.limit = now, now + LOOP_STATEMENT_S
                try:
                    operation.result = operation.run(connection)
                except BaseException as error:
                    failed_unsaved(connection, operation, error)
                now = perf_counter()
                if now - began > QUICK_S:
                    self._loop_time.spend(now - began)
            if now > budget.limit:  # one long step, which nothing could stop; only the last can have been it
                self._slow.stopped(batch[-1])
        except Undone as error:
            undone = error
            self._loop_time.spend(perf_counter() - now)
        budget.lift()
        return batch, undone
