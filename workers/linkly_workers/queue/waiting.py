"""Waits for the ends of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from linkly.clock import Clock, time_limit
from linkly.errors import Overloaded
from linkly_workers.queue.jobs import State
from linkly_workers.queue.records import Record, Records
from linkly_workers.queue.store import QueueStore

MOST = 10_000
"""Calls that wait at a time."""

LOOK_AGAIN_S = 1.0
"""How often a job is looked at whose end another engine may write."""


class Waiting:
    """Those who wait, by the position of the job.

    Args:
        store: Where the jobs are.
        records: Reads them.
        clock: For the time that somebody waits.
    """

    def __init__(self, store: QueueStore, records: Records, clock: Clock) -> None:
        self._store = store
        self._records = records
        self._clock = clock
        self._by_position: dict[int, set[asyncio.Event]] = {}
        self._count = 0

    def ended(self, _queue: int, _state: State, positions: Sequence[int]) -> None:
        """Wake those who wait for jobs at these positions."""
        if self._by_position:
            for position in positions:
                for ended in self._by_position.get(position, ()):
                    ended.set()

    async def until_ended(self, job_id: str, timeout_ms: int) -> Record:
        """Return a job when it has ended; when the time is over before, as it is then.

        Raises:
            JobNotFound: There is none, or it was removed some time after its end.
            Overloaded: Too many wait already.
        """
        until = self._clock.monotonic() + timeout_ms / 1000
        record = await self._records.job(job_id)
        while not record.has_ended and (left_s := until - self._clock.monotonic()) > 0:
            with self._waiting(record.position) as ended:
                record = await self._records.job(job_id)
                if not record.has_ended:
                    again_s = min(left_s, LOOK_AGAIN_S) if self._store.scripts.are_shared else left_s
                    with suppress(TimeoutError):
                        async with time_limit(self._clock, again_s):
                            await ended.wait()
            record = await self._records.job(job_id)
        return record

    @contextmanager
    def _waiting(self, position: int) -> Iterator[asyncio.Event]:
        if self._count >= MOST:
            raise Overloaded(f"{MOST} calls wait for the ends of jobs; look with `queue::job`, or try again later")
        ended = asyncio.Event()
        self._count += 1
        self._by_position.setdefault(position, set()).add(ended)
        try:
            yield ended
        finally:
            self._count -= 1
            here = self._by_position[position]
            here.discard(ended)
            if not here:
                del self._by_position[position]
