"""Provides the trigger type `queue:dead`: functions are told of jobs that are dead, whatever they died of.

They are told after the commit that says so, once, while the engine lives (`linkly.delivery`): of a job that died just
before a crash nobody is told, but its dead letter is kept (`queue::dead`). Jobs that died because the engine had ended
die when it starts; functions that are bound later than that hear of those as well, once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec

from linkly import TriggerType
from linkly.bus import Bus
from linkly.delivery import Delivery, Recipient
from linkly.errors import LinklyError
from linkly.invocation import Json
from linkly.queue import DeadJob, DeadTrigger, JobError
from linkly.trigger import Binding
from linkly_workers.queue.jobs import State, unpack_head
from linkly_workers.queue.records import Record, Records

log = logging.getLogger("linkly.queue")

AT_START = 1000
"""So many jobs that died at the start are told to functions that are bound later."""

AT_A_TIME = 100
"""Jobs that are read at a time."""

MaxAttempts = Callable[[int], int]
"""Gives the attempts that a job of a queue may have."""


class _Deaths(msgspec.Struct):
    """Jobs that have died, and who is told: all that want to know, or one function that has just been bound."""

    records: Records
    max_attempts: MaxAttempts
    positions: list[int]
    binding_id: str | None = None


class Dying:
    """Tells of the deaths of one worker's jobs."""

    def __init__(self) -> None:
        self._delivery: Delivery[DeadJob] = Delivery(
            "dead jobs",
            log,
            cause=lambda job: f"the death of job {job.id} of queue {job.queue}",
            subject=lambda config: config.queue,
            wants=lambda config, job: config.queue in (None, job.queue),
            ordered=False,
        )
        self._deaths: list[_Deaths] = []
        self._at_start: list[_Deaths] = []
        self._heard: set[tuple[str, str]] = set()
        self._task: asyncio.Task[None] | None = None

    def trigger_type(self) -> TriggerType:
        """Return `queue:dead`."""
        return TriggerType(
            "queue:dead",
            "A job of a queue is dead: it is run no more.",
            bind=self._bind,
            unbind=self._delivery.unbind,
            config_type=DeadTrigger,
            payload_type=DeadJob,
        )

    @asynccontextmanager
    async def running(self, bus: Bus) -> AsyncIterator[None]:
        """Tell inside of it; at the end tell what waits, for a limited time."""
        async with self._delivery.running(bus):
            try:
                yield
            finally:
                if self._task is not None:
                    await asyncio.wait([self._task])

    def died(
        self, records: Records, max_attempts: MaxAttempts, positions: Sequence[int], *, at_start: bool = False
    ) -> None:
        """Tell of jobs that have died.

        Args:
            records: Where they are.
            max_attempts: Of their queue.
            positions: Where they are in it.
            at_start: When the engine started, so that functions may not be bound yet.
        """
        deaths = _Deaths(records, max_attempts, list(positions))
        if at_start and sum(len(each.positions) for each in self._at_start) < AT_START:
            self._at_start.append(deaths)
        if len(self._delivery):
            self._tell(deaths)

    async def drain(self) -> None:
        """Wait until all has been told."""
        if self._task is not None:
            await asyncio.wait([self._task])
        await self._delivery.drain()

    async def _bind(self, binding: Binding) -> None:
        await self._delivery.bind(binding)
        function = (binding.namespace, binding.function_id)
        if function not in self._heard:
            self._heard.add(function)
            for deaths in self._at_start:
                self._tell(msgspec.structs.replace(deaths, binding_id=binding.id))

    def _tell(self, deaths: _Deaths) -> None:
        self._deaths.append(deaths)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="queue: tell of dead jobs")

    async def _run(self) -> None:
        try:
            while self._deaths:
                deaths = self._deaths.pop(0)
                for start in range(0, len(deaths.positions), AT_A_TIME):
                    try:
                        await self._read(deaths, deaths.positions[start : start + AT_A_TIME])
                    except LinklyError as error:
                        log.warning("functions are not told of %d dead jobs: %s", len(deaths.positions), error)
        finally:
            self._task = None

    async def _read(self, deaths: _Deaths, positions: Sequence[int]) -> None:
        records = [each for each in await deaths.records.at(positions) if each.state is State.DEAD]
        payloads = await deaths.records.payloads(records)
        for record in records:
            job = _dead_job(
                record,
                await deaths.records.title(record.queue),
                payloads.get(record.position, "null"),
                deaths.max_attempts(record.queue),
            )
            dropped = self._delivery.offer(self._recipients(deaths.binding_id, job.queue), job)
            if dropped:
                log.warning("%d functions are not told of dead job %s: too many wait to be told", dropped, job.id)

    def _recipients(self, binding_id: str | None, queue: str) -> Sequence[Recipient]:
        found = self._delivery.matching(queue, None)
        return (
            found if binding_id is None else [each for each in found if each.binding and each.binding.id == binding_id]
        )


def _dead_job(record: Record, queue: str, payload: str, max_attempts: int) -> DeadJob:
    head = unpack_head(record.head)
    return DeadJob(
        id=record.id,
        queue=queue,
        function_id=record.function_id,
        namespace=record.namespace,
        payload=Json(payload.encode()),
        reason=record.reason or "failed",
        error=None if record.error is None else msgspec.json.decode(record.error, type=JobError),
        attempts=record.starts - record.returned,
        max_attempts=max_attempts,
        enqueued_at=datetime.fromtimestamp(head.enqueued_at / 1000, UTC),
        died_at=datetime.fromtimestamp((record.finished_at or 0) / 1000, UTC),
        idempotency_key=head.key,
        topic=head.topic,
        message_group=record.message_group,
    )
