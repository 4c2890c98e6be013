"""What engines that share a database do for one another.

Each has a lease, by the database's clock, for all jobs that run on it. It is renewed while there are such jobs, by the
claims and by this; an engine without jobs writes nothing. Jobs of an engine whose lease is over are taken over by
another one: their attempts end as those of a lost worker, by their tokens, so that of several engines that try it one
does, and what the other engine still says of them comes too late. What others have enqueued, let become due, paused or
subscribed is found by one question for all queues, asked again and again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from linkly.clock import Clock
from linkly.errors import LinklyError
from linkly_workers.queue.queues import Queues
from linkly_workers.queue.store import QueueStore

log = logging.getLogger("linkly.queue")

AGAIN_S = 1.0
"""Pause before the database is asked again that has not answered."""


class Sharing:
    """Looks for what others have done, and keeps the lease of this engine.

    Args:
        store: Where the jobs are.
        queues: What is served here.
        clock: For pauses.
        lease_ms: How long a lease is.
    """

    def __init__(self, store: QueueStore, queues: Queues, clock: Clock, lease_ms: int) -> None:
        self._store = store
        self._queues = queues
        self._clock = clock
        self._lease_ms = lease_ms
        self._version: int | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Begin; the database is shared with others.

        Raises:
            LinklyError: The database is away.
        """
        await self._store.fold()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._again_and_again(self._look, self._poll_s), name="queue: look for others' jobs"),
            loop.create_task(self._again_and_again(self._keep, self._renewal_s), name="queue: keep the lease"),
        ]

    async def close(self) -> None:
        """Leave, when nothing runs here any more."""
        if not self._tasks:
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self._tasks = []
        try:
            await self._store.leave()
        except LinklyError as error:
            log.warning("this engine's counts stay in rows of its own until another one finds them: %s", error)

    async def _again_and_again(self, what: Callable[[], Awaitable[None]], every_s: Callable[[], float]) -> None:
        failed = False
        while True:
            pause_s = min(AGAIN_S, self._renewal_s()) if failed else every_s()
            await self._clock.sleep(pause_s)
            try:
                await what()
                failed = False
            except Exception as error:
                if not isinstance(error, LinklyError):
                    log.exception("looking for what other engines do has failed, it is tried again")
                elif not failed:
                    log.warning("what other engines do cannot be seen, it is tried again: %s", error)
                failed = True

    def _poll_s(self) -> float:
        return min((queue.settings.poll_interval_ms for queue in self._queues), default=self._lease_ms) / 1000

    def _renewal_s(self) -> float:
        return self._lease_ms / 3000

    async def _keep(self) -> None:
        active = [queue.consumer for queue in self._queues if queue.consumer.active]
        if active:
            await self._store.keep_lease()
        for consumer in active:
            await consumer.revoke()

    async def _look(self) -> None:
        seen = await self._store.poll()
        if seen.version != self._version:
            await self._queues.read_again()
            self._version = seen.version
        if seen.are_lost:
            await self._queues.adopt()
            await self._store.fold()
        if seen.due_at is not None:
            self._queues.timetable.due(seen.due_at)
        await self._queues.wake_lanes(seen.lanes)
