"""Which operations are too long for the loop's thread: learned when one is stopped, forgotten when it is quick again.

Without the second half one hiccup of the machine would send a hot statement to the writing thread, with a commit of its
own, for ever. What is slow is an operation, not a statement: each of a transaction's statements may be quick, and the
statement that a long one was stopped in is quick by itself. What a text alone tells stands in `Statement.place`.
"""

from __future__ import annotations

from typing import Any

from linkly_workers._line import FairLine
from linkly_workers._sqlite.operation import Operation
from linkly_workers._sqlite.text import ANYWHERE
from linkly_workers._sqlite.turn import Asking

KEYS = 512

BATCH_LIMIT = 512
"""Operations that share one commit at most, so that the first of them does not wait for ever."""

SAVED_AFTER_FAILURE = 2000
"""Operations of several statements that run on the writing thread, with savepoints, after one has failed half-way."""


class SlowOperations:
    """Keys of operations that go to the writing thread at once.

    Attributes:
        keys: Hashes of the keys of slow operations, the oldest first; nearly always empty. The keys themselves may be
            SQL of megabytes.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self.keys: dict[int, None] = {}

    def has(self, operation: Operation[Any]) -> bool:
        """Return whether an operation belongs on the writing thread."""
        return operation.place != ANYWHERE or (bool(self.keys) and hash(operation.key) in self.keys)

    def take(self, queue: FairLine[Operation[Any]]) -> list[Operation[Any]]:
        """Take a batch for the writing thread: a slow operation by itself, or others together."""
        batch = [queue.popleft()]
        if not self.has(batch[0]):
            self.gather(queue, batch)
        return batch

    def gather(self, queue: FairLine[Operation[Any]], batch: list[Operation[Any]]) -> None:
        """Take into a batch who is next in line and can share its commit."""
        while queue and len(batch) < BATCH_LIMIT and not (self.has(queue.head) or isinstance(queue.head, Asking)):
            batch.append(queue.popleft())

    def stopped(self, operation: Operation[Any]) -> None:
        """An operation took too long on the loop's thread, whether it could be stopped or was one long step."""
        if operation.key is None:
            return
        if len(self.keys) >= KEYS:
            del self.keys[next(iter(self.keys))]
        self.keys[hash(operation.key)] = None

    def ran(self, operation: Operation[Any]) -> None:
        """An operation has run on the writing thread."""
        if self.keys and operation.error is None and operation.took_s < self._limit_s / 2:
            self.keys.pop(hash(operation.key), None)
