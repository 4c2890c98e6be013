"""Jobs that wait for a time: lets them wait their turn when it has come, and ends those that have expired."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

from linkly.clock import Clock, time_limit
from linkly.errors import LinklyError
from linkly_workers.queue.store import QueueStore
from linkly_workers.queue.stored import Due

log = logging.getLogger("linkly.queue")

AGAIN_S = 1.0
"""Pause before the database is asked again that has not answered."""


class Timetable:
    """Knows when a job is due next.

    Args:
        store: Where the jobs are.
        clock: What time it is.
        moved: Told where jobs have become due.
    """

    def __init__(self, store: QueueStore, clock: Clock, moved: Callable[[Iterable[Due]], object]) -> None:
        self._store = store
        self._clock = clock
        self._moved = moved
        self._changed = asyncio.Event()
        self._next: int | None = None

    def due(self, at: int) -> None:
        """Note that a job is due at a time, milliseconds since the epoch."""
        if self._next is None or at < self._next:
            self._next = at
            self._changed.set()

    async def serve(self) -> None:
        """Serve until this is cancelled."""
        while True:
            try:
                await self._round()
            except Exception as error:
                if not isinstance(error, LinklyError):
                    log.exception("looking for jobs that are due has failed, it is tried again")
                else:
                    log.warning("jobs that are due cannot be looked for, it is tried again: %s", error)
                await self._clock.sleep(AGAIN_S)

    async def _round(self) -> None:
        self._next = None
        self._changed.clear()
        at = await self._store.next_due()
        if at is not None:
            self.due(at)
        while (wait_s := self._wait_s()) is None or wait_s > 0:
            self._changed.clear()
            with suppress(TimeoutError):
                async with time_limit(self._clock, wait_s):
                    await self._changed.wait()
        while moved := await self._store.promote():
            self._moved(moved)

    def _wait_s(self) -> float | None:
        """Return how long nothing is due; `None`: there is nothing."""
        return None if self._next is None else (self._next - self._store.now()) / 1000
