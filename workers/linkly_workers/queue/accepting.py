"""Jobs that wait to be accepted share a transaction: each is answered when it is on disk.

One transaction is under way at a time; what comes meanwhile gathers for the next. If one of them cannot be accepted the
transaction has accepted nothing, and each is then decided by itself, so that no caller fails another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from linkly.clock import Clock
from linkly.context import current_invocation, current_origin
from linkly.errors import CallTimeout, ConnectionLost, InvocationStopped, LinklyError, OutcomeUnknown
from linkly.invocation import Invocation, trace_of
from linkly_workers._line import FairLine
from linkly_workers._scripts import Unavailable
from linkly_workers.queue.errors import KeyUsed, QueueFull
from linkly_workers.queue.jobs import NewJob
from linkly_workers.queue.store import QueueStore, Room

log = logging.getLogger("linkly.queue")

AT_ONCE = 256
"""Jobs that share a transaction; those of one caller that belong together are not cut apart."""

AGAIN_S = (0.05, 0.2, 1.0, 3.0)
"""Pauses before jobs are accepted anew that may have been accepted: a server that starts again needs some."""

_UNSURE = frozenset((OutcomeUnknown.code, CallTimeout.code, ConnectionLost.code, InvocationStopped.code))


class _Waiting(msgspec.Struct, eq=False):
    """Jobs of one caller, which are accepted together or not at all."""

    jobs: Sequence[NewJob]
    told: asyncio.Future[list[str]]
    trace: Invocation | None


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
        self._line: FairLine[_Waiting] = FairLine()
        self._task: asyncio.Task[None] | None = None

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
        loop = asyncio.get_running_loop()
        told: asyncio.Future[list[str]] = loop.create_future()
        caller = current_origin()
        self._line.check(caller, "their jobs to be accepted")
        self._line.append(caller, _Waiting(jobs, told, trace_of(current_invocation.get())))
        if self._task is None:
            self._task = loop.create_task(self._run(), name="queue: accept jobs")
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

    def _next(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        count = 0
        while self._line.rotation and count < AT_ONCE:
            waiting = self._line.popleft()
            if not waiting.told.done():  # its caller has gone
                batch.append(waiting)
                count += len(waiting.jobs)
        return batch

    async def _serve(self, batch: list[_Waiting]) -> None:
        current_invocation.set(batch[0].trace)
        try:
            receipts = await self._accepted_by_now([job for waiting in batch for job in waiting.jobs])
        except BaseException as error:
            if len(batch) > 1 and isinstance(error, LinklyError) and error.code not in (*_UNSURE, Unavailable.code):
                await self._serve_each(batch)  # the database refuses one of them
                return
            for waiting in batch:
                _fail(waiting, error)
            if not isinstance(error, Exception):
                raise
            return
        if receipts is not None:
            given = iter(receipts)
            for waiting in batch:
                self._tell(waiting, [next(given) for _ in waiting.jobs])
        elif len(batch) > 1:
            await self._serve_each(batch)
        else:
            _fail(batch[0], await self._why_not(batch[0].jobs))

    async def _serve_each(self, batch: list[_Waiting]) -> None:
        for waiting in batch:
            await self._serve([waiting])

    async def _accepted_by_now(self, jobs: Sequence[NewJob]) -> list[str] | None:
        """Accept jobs as `QueueStore.accept`; where nobody knows whether that has happened, once more.

        Their ids and keys make that harmless: what was accepted is refused the second time, or has its receipt.
        """
        try:
            return await self._store.accept(jobs, self._window_ms)
        except LinklyError as error:
            if error.code not in _UNSURE:
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

    def _tell(self, waiting: _Waiting, receipts: list[str]) -> None:
        self._accepted([job for job, receipt in zip(waiting.jobs, receipts, strict=True) if job.id == receipt])
        if not waiting.told.done():
            waiting.told.set_result(receipts)

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


def _fail(waiting: _Waiting, error: BaseException) -> None:
    if not waiting.told.done():
        waiting.told.set_exception(error)
