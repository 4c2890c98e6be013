"""`queue::enqueue` and `iii::durable::publish` as a part of `database::atomic` (see `linkly.atomic`).

Their statements accept a job or a message. They fail if a queue has no room, or somebody has used the job's idempotency
key meanwhile; asked again, this says which it was. The consumers are woken after the commit, and after a crash they
look for themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from linkly import Json, function
from linkly.atomic import Call, Committed, GuardedStatement, NotAtomic, Prepare, Prepared, PreparedOperation
from linkly.context import current_invocation
from linkly.errors import InvalidPayload, LinklyError
from linkly_workers.queue.accepting import key_used, queue_full
from linkly_workers.queue.jobs import NewJob
from linkly_workers.queue.service import Service
from linkly_workers.queue.shapes import Enqueue, Publish, Receipt

T = TypeVar("T")


class Accepted(msgspec.Struct):
    """A job that was committed: where, and when something is due."""

    queue: int
    lane: int
    due_at: int | None = None
    expires_at: int | None = None


class After(msgspec.Struct):
    """What was committed: jobs, and topics that have messages."""

    jobs: list[Accepted]
    topics: list[str]


class _Part(msgspec.Struct, frozen=True):
    """One operation: its place, its call, and how often it was prepared before."""

    index: int
    call: Call
    attempt: int

    def payload(self, kind: type[T]) -> T:
        """Return what its function gets.

        Raises:
            NotAtomic: The function does not take part.
            InvalidPayload: It does not fit.
        """
        name = self.call.function_id
        if name not in ("queue::enqueue", "iii::durable::publish"):
            raise NotAtomic(
                f"`{name}` cannot be part of a transaction; of queue `queue::enqueue` and `iii::durable::publish` can",
                details={"function_id": name},
            )
        try:
            return msgspec.json.decode(self.call.payload, type=kind)
        except msgspec.MsgspecError as error:
            raise InvalidPayload(f"Failed to deserialize input for function `{name}`: {error}") from error


class Preparing:
    """Turns operations into statements.

    Args:
        db: Where the queues are.
        opened: Gives what serves them, when it is open.
        settled: Waits for subscriptions that are being made.
        window_ms: How long an idempotency key is remembered.
    """

    def __init__(
        self,
        db: str,
        opened: Callable[[], Awaitable[Service]],
        settled: Callable[[], Awaitable[None]],
        window_ms: int,
    ) -> None:
        self._db = db
        self._opened = opened
        self._settled = settled
        self._window_ms = window_ms

    @function("queue::prepare", metadata={"internal": True})
    async def prepare(self, request: Prepare) -> Prepared:
        """Turn operations into statements of a transaction, for `database::atomic`.

        Raises:
            NotAtomic: The queues are not in that database, or a function does not take part.
            QueueFull, KeyUsed, QueueNotFound, PayloadTooLarge, InvalidPayload: As `queue::enqueue`.
        """
        if self._db != request.db:
            raise NotAtomic(
                f"the queues are in database `{self._db}`, so their jobs cannot be part of a transaction in database "
                f"`{request.db}`; set `db: {request.db}` in the config of queue",
                details={"db": request.db, "setting": "db", "failed_index": 0},
            )
        service = await self._opened()
        parts = [_Part(index, call, request.attempt) for index, call in enumerate(request.operations)]
        operations: list[PreparedOperation] = []
        jobs: list[NewJob] = []
        topics: set[str] = set()
        by_key: dict[tuple[int, str], NewJob] = {}
        for part in parts:
            try:
                if part.call.function_id == "iii::durable::publish":
                    operations.append(await self._publishing(service, part, topics))
                else:
                    operations.append(await self._enqueueing(service, part, jobs, by_key))
            except LinklyError as error:
                error.details["failed_index"] = part.index
                raise
        if request.attempt and jobs:
            await self._check_room(service, jobs)
        accepted = [Accepted(job.queue, job.lane, job.due_at, job.expires_at) for job in jobs]
        return Prepared(operations, Json(msgspec.json.encode(After(accepted, sorted(topics)))))

    @function("queue::committed", metadata={"internal": True})
    async def committed(self, request: Committed) -> None:
        """Look for jobs that `database::atomic` has committed."""
        service = await self._opened()
        after = msgspec.json.decode(request.after, type=After)
        service.store.lanes_made({each.lane for each in after.jobs})
        service.queues.accepted(after.jobs)
        if after.topics:
            await service.publishing.published(after.topics)

    async def _enqueueing(
        self, service: Service, part: _Part, jobs: list[NewJob], by_key: dict[tuple[int, str], NewJob]
    ) -> PreparedOperation:
        job = await service.enqueueing.of_request(part.payload(Enqueue), current_invocation.get())
        receipt = await self._known(service, job, by_key)
        if receipt is not None:
            return _prepared([], Receipt(receipt))
        jobs.append(job)
        texts = await service.store.accepting([job], self._window_ms)
        if job.head.key is not None:  # its receipt is another job's if somebody has used the key meanwhile
            texts.append(await service.store.is_there(job))
        return _prepared(texts, Receipt(job.id))

    async def _publishing(self, service: Service, part: _Part, topics: set[str]) -> PreparedOperation:
        request = part.payload(Publish)
        await self._settled()
        message = service.publishing.message(request, current_invocation.get())
        if part.attempt:
            await service.publishing.make_room(request.topic, message.size, part.attempt - 1)
        topics.add(request.topic)
        return _prepared(await service.topics.publishing(message, request.topic), None)

    async def _known(self, service: Service, job: NewJob, by_key: dict[tuple[int, str], NewJob]) -> str | None:
        """Return the receipt of an earlier job with the same key, `None` if there is none."""
        key = job.head.key
        if key is None:
            return None
        mine = by_key.setdefault((job.queue, key), job)
        used = (mine.id, mine.digest) if mine is not job else await service.store.receipt_of(job.queue, key)
        if used is not None and used[1] != job.digest:
            raise key_used(key, used[0])
        return None if used is None else used[0]

    async def _check_room(self, service: Service, jobs: list[NewJob]) -> None:
        """Refuse jobs for which there is no room, now that somebody was first."""
        for queue in {job.queue for job in jobs}:
            mine = [job for job in jobs if job.queue == queue]
            held, room = await service.store.held(queue), service.store.room[queue]
            size = sum(job.size for job in mine)
            if held.max_jobs + len(mine) > room.max_jobs or held.max_bytes + size > room.max_bytes:
                raise queue_full(len(mine), room)


def _prepared(texts: list[dict[str, Any]], answer: object) -> PreparedOperation:
    return PreparedOperation(msgspec.convert(texts, list[GuardedStatement]), Json(msgspec.json.encode(answer)))
