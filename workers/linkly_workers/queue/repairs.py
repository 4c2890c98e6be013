"""Changes what happens to jobs, some of them in each transaction, so that nobody waits long for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import groupby

from linkly.errors import InvalidPayload
from linkly.invocation import Json
from linkly_workers.queue.enqueueing import group_of
from linkly_workers.queue.jobs import State
from linkly_workers.queue.queues import Queue, Queues
from linkly_workers.queue.records import Record, Records, json_list
from linkly_workers.queue.rows import Chosen, Redrive
from linkly_workers.queue.store import MOST_ROWS, QueueStore
from linkly_workers.queue.stored import Moving


class Repairs:
    """Repairs the jobs of a store.

    Args:
        store: Where they are.
        queues: Which are served.
        records: Reads jobs.
    """

    def __init__(self, store: QueueStore, queues: Queues, records: Records) -> None:
        self._store = store
        self._queues = queues
        self._records = records

    async def cancel(self, job_id: str) -> bool:
        """End a job, whatever it waits for; the attempt that runs is cancelled and awaited.

        Returns:
            Whether this has ended it: otherwise it had ended before.

        Raises:
            JobNotFound: There is none with this id.
        """
        while not (record := await self._records.job(job_id)).has_ended:
            if await self._store.cancel(record.id, record.queue, record.message_group):
                self._queues.endings.tell(record.queue, State.CANCELLED, [record.position])
                await self._queues.cancelled(record.queue, record.position)
                return True
        return False

    async def redrive(self, request: Redrive) -> int:
        """Let jobs begin anew, each at the newest end of its queue or of another one; return how many.

        What was done when this is interrupted stays; the same may be asked for again.

        Raises:
            QueueNotFound: There is no such queue.
            InvalidPayload: It is not said which jobs, or one has no message group for a fifo queue.
        """
        into = None if request.into is None else self._queues.named(request.into)
        if request.waiting and into is None:
            raise InvalidPayload("jobs that wait are moved only: say `into` which queue")
        count = 0
        async for queue, records in self._chosen(request):
            target = into or self._queues.served(queue)
            if into is not None and into.row.id == queue:
                records = [record for record in records if record.state is State.DEAD]
            count += await self._redrive(queue, records, target)
        return count

    async def _redrive(self, queue: int, records: list[Record], target: Queue | None) -> int:
        into = queue if target is None else target.row.id
        lacking = [record for record in records if record.message_group is None]
        payloads = await self._records.payloads(lacking) if target is not None and target.has_groups else {}
        moving: list[Moving] = []
        for record in records:
            group = record.message_group
            if target is not None:
                payload = Json(payloads.get(record.position, "null").encode())
                group = group_of(payload, target, record.message_group)
            lane = await self._store.lane(into, record.namespace, record.function_id)
            moving.append(Moving(record.position, lane.id, group, record.message_group))
        lanes = json_list(sorted({each.lane for each in moving}))
        now = self._store.now()
        await self._store.scripts.execute("served", {"lanes": lanes, "now": now, "before": now})  # it will be, again
        redriven = await self._store.redrive(queue, into, moving)
        for record in records:
            if record.due_at is not None:
                self._queues.timetable.due(record.due_at)
            if record.expires_at is not None:
                self._queues.timetable.due(record.expires_at)
        self._queues.woken({queue, into})
        return redriven

    async def discard(self, request: Chosen) -> int:
        """Throw jobs away; return how many.

        Raises:
            QueueNotFound: There is no such queue.
            InvalidPayload: It is not said which jobs.
        """
        count = 0
        async for queue, records in self._chosen(request):
            groups = {record.message_group for record in records}
            positions = await self._store.discard(queue, [record.position for record in records], groups)
            self._queues.endings.tell(queue, State.DISCARDED, positions)
            self._queues.woken({queue})
            count += len(positions)
        return count

    async def pause(self, title: str, *, paused: bool) -> None:
        """Let a queue start nothing more, or start again.

        Raises:
            QueueNotFound: There is no such queue.
        """
        row = await self._records.queue(title)
        await self._store.pause(row.id, paused=paused)
        self._queues.paused(row.id, paused=paused)

    async def _chosen(self, request: Chosen) -> AsyncIterator[tuple[int, list[Record]]]:
        """Give the jobs that are meant, some of one queue at a time."""
        states = {State.DEAD, *((State.WAITING, State.DELAYED, State.RETRYING) if request.waiting else ())}
        if request.ids is not None:
            found = [record for record in await self._records.by_id(request.ids) if record.state in states]
            for queue, some in groupby(sorted(found, key=lambda record: record.queue), lambda record: record.queue):
                mine = list(some)
                for start in range(0, len(mine), MOST_ROWS):
                    yield queue, mine[start : start + MOST_ROWS]
            return
        filters = (request.queue, request.function_id, request.reason, request.error)
        if not any((*filters, request.died_after, request.died_before)):
            raise InvalidPayload("say which jobs: `ids`, `queue`, or another filter")
        for row in await self._records.queues(request.queue):
            async for records in self._records.every_dead(row.id, request, MOST_ROWS):
                yield row.id, records
            if request.waiting:
                async for records in self._records.every_waiting(row.id, request.function_id, MOST_ROWS):
                    yield row.id, records
