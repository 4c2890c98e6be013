"""Accepts jobs: those that wait at the same time share a transaction (`batching.py`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from linkly.clock import Clock
from linkly.errors import LinklyError
from linkly_workers.queue.batching import UNSURE, Batching
from linkly_workers.queue.errors import KeyUsed, QueueFull
from linkly_workers.queue.jobs import NewJob
from linkly_workers.queue.store import QueueStore
from linkly_workers.queue.stored import Room

log = logging.getLogger("linkly.queue")

AT_ONCE = 256
"""Jobs that share a transaction; those of one caller that belong together are not cut apart."""

AGAIN_S = (0.05, 0.2, 1.0, 3.0)
"""Pauses before jobs are accepted anew that may have been accepted: a server that starts again needs some."""


class Accepting:
    """Accepts the jobs of one store.

    Args:
        store: Where they are kept.
        window_ms: How long an idempotency key is remembered.
        accepted: Told of jobs that have come in.
        clock: For pauses.
    """

    def __init__(
        self, store: QueueStore, window_ms: int, accepted: Callable[[Sequence[NewJob]], object], clock: Clock
    ) -> None:
        self._clock = clock
        self._store = store
        self._window_ms = window_ms
        self._accepted = accepted
        self._batching: Batching[Sequence[NewJob], list[str]] = Batching(
            "their jobs to be accepted", self._write, size=len, most=AT_ONCE
        )

    async def accept(self, jobs: Sequence[NewJob]) -> list[str]:
        """Accept jobs, all or none; return their receipts.

        Raises:
            QueueFull: A queue has no room for them.
            KeyUsed: An idempotency key belongs to another job.
            Overloaded: Too many jobs of this caller wait to be accepted.
            WouldWaitForItself: The caller is in a transaction that keeps all others from writing.
            LinklyError: The database did not take them, or nobody knows (`outcome_unknown`).
        """
        self._store.check_waits()  # the batch is nobody's call, so the database cannot tell
        receipts = await self._batching.write(jobs)
        if receipts is None:
            raise await self._why_not(jobs)
        return receipts

    async def close(self) -> None:
        """Wait until nobody waits any more."""
        await self._batching.close()

    async def _write(self, batch: Sequence[Sequence[NewJob]]) -> list[list[str]] | None:
        jobs = [job for mine in batch for job in mine]
        receipts = await self._accepted_by_now(jobs)
        if receipts is None:
            return None
        self._accepted([job for job, receipt in zip(jobs, receipts, strict=True) if job.id == receipt])
        given = iter(receipts)
        return [[next(given) for _ in mine] for mine in batch]

    async def _accepted_by_now(self, jobs: Sequence[NewJob]) -> list[str] | None:
        """Accept jobs as `QueueStore.accept`; where nobody knows whether that has happened, once more.

        Their ids and keys make that harmless: what was accepted is refused the second time, or has its receipt.
        """
        try:
            return await self._store.accept(jobs, self._window_ms)
        except LinklyError as error:
            if error.code not in UNSURE:
                raise
            unknown = error
        for pause_s in AGAIN_S:
            await self._clock.sleep(pause_s)
            try:
                return await self._store.accept(jobs, self._window_ms)
            except LinklyError as error:
                log.debug("jobs whose acceptance is unknown are not accepted anew: %s", error)
            with suppress(LinklyError):
                receipts = await self._store.receipts_of(jobs)
                if receipts is not None:
                    return receipts
        raise unknown

    async def _why_not(self, jobs: Sequence[NewJob]) -> LinklyError:
        for job in jobs:
            if job.head.key is not None:
                try:
                    used = await self._store.receipt_of(job.queue, job.head.key)
                except LinklyError as error:
                    return error
                if used is not None and used[1] != job.digest:
                    return key_used(job.head.key, used[0])
        return queue_full(len(jobs), self._store.room[jobs[0].queue])


def key_used(key: str, job_id: str) -> KeyUsed:
    """Return the error of a key that another job has."""
    return KeyUsed(
        f"the idempotency key `{key}` belongs to job {job_id}, which has another function or payload; use a key for "
        "one job only",
        details={"key": key, "id": job_id},
    )


def queue_full(count: int, room: Room) -> QueueFull:
    """Return the error of a queue that has no room for so many more."""
    return QueueFull(
        f"the queue has no room for {count} more: it holds {room.max_jobs} jobs (`max_jobs`) and "
        f"{room.max_bytes} bytes (`max_bytes`) at most; try again when some are done",
        details={"retryable": True},
    )
