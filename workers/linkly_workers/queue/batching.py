"""What waits at the same time is written by one transaction: each is answered when it is on disk.

One transaction is under way at a time; what comes meanwhile gathers for the next. If one of them cannot be written the
transaction has written nothing, and each is then decided by itself, so that no caller fails another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from linkly.context import current_invocation, current_origin
from linkly.errors import CallTimeout, ConnectionLost, InvocationStopped, LinklyError, OutcomeUnknown
from linkly.invocation import Invocation, trace_of
from linkly_workers._line import FairLine
from linkly_workers._scripts import Unavailable

UNSURE = frozenset((OutcomeUnknown.code, CallTimeout.code, ConnectionLost.code, InvocationStopped.code))
"""Codes of errors after which nobody knows whether it was written."""

T = TypeVar("T")
R = TypeVar("R")


class _Waiting(Generic[T, R]):
    """What one caller wants to be written."""

    __slots__ = ("item", "told", "trace")

    def __init__(self, item: T, told: asyncio.Future[R | None], trace: Invocation | None) -> None:
        self.item = item
        self.told = told
        self.trace = trace


class Batching(Generic[T, R]):
    """Writes what callers bring, in the order of a fair line.

    Args:
        what: What callers wait for, for messages and the task's name.
        write: Writes items, all or none, and returns what each caller is told; `None`: nothing was written, because of
            one of them.
        size: How much an item counts.
        most: So much shares a transaction; an item is not cut apart.
    """

    def __init__(
        self,
        what: str,
        write: Callable[[Sequence[T]], Awaitable[Sequence[R] | None]],
        *,
        size: Callable[[T], int],
        most: int,
    ) -> None:
        self._what = what
        self._write = write
        self._size = size
        self._most = most
        self._line: FairLine[_Waiting[T, R]] = FairLine()
        self._task: asyncio.Task[None] | None = None

    async def write(self, item: T) -> R | None:
        """Write an item; return what `write` says of it, `None` if it cannot be written.

        Raises:
            Overloaded: Too much of this caller waits.
            LinklyError: What `write` raised.
        """
        loop = asyncio.get_running_loop()
        told: asyncio.Future[R | None] = loop.create_future()
        caller = current_origin()
        self._line.check(caller, self._what)
        self._line.append(caller, _Waiting(item, told, trace_of(current_invocation.get())))
        if self._task is None:
            self._task = loop.create_task(self._run(), name=f"queue: {self._what}")
        return await told

    async def close(self) -> None:
        """Wait until nobody waits any more."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while batch := self._next():
                await self._serve(batch)
        finally:
            self._task = None

    def _next(self) -> list[_Waiting[T, R]]:
        batch: list[_Waiting[T, R]] = []
        size = 0
        while self._line.rotation and size < self._most:
            waiting = self._line.popleft()
            if not waiting.told.done():  # its caller has gone
                batch.append(waiting)
                size += self._size(waiting.item)
        return batch

    async def _serve(self, batch: list[_Waiting[T, R]]) -> None:
        current_invocation.set(batch[0].trace)
        try:
            results = await self._write([waiting.item for waiting in batch])
        except BaseException as error:
            if len(batch) > 1 and isinstance(error, LinklyError) and error.code not in (*UNSURE, Unavailable.code):
                await self._serve_each(batch)  # the database refuses one of them
                return
            for waiting in batch:
                if not waiting.told.done():
                    waiting.told.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        if results is None and len(batch) > 1:
            await self._serve_each(batch)
            return
        given: Sequence[R | None] = [None] if results is None else results
        for waiting, result in zip(batch, given, strict=True):
            if not waiting.told.done():
                waiting.told.set_result(result)

    async def _serve_each(self, batch: list[_Waiting[T, R]]) -> None:
        for waiting in batch:
            await self._serve([waiting])
