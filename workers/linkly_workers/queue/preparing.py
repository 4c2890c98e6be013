"""`queue::enqueue` as a part of `database::atomic` (see `linkly.atomic`): the statements that accept a job.

They fail if the queue has no room, or somebody has used the job's idempotency key meanwhile; asked again, this says
which it was. The consumers are woken after the commit, and after a crash they look for themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from linkly import Json, function
from linkly.atomic import Call, Committed, GuardedStatement, NotAtomic, Prepare, Prepared, PreparedOperation
from linkly.context import current_invocation
from linkly.errors import InvalidPayload, LinklyError
from linkly_workers.queue.accepting import key_used, queue_full
from linkly_workers.queue.jobs import NewJob
from linkly_workers.queue.service import Service
from linkly_workers.queue.shapes import Enqueue, Receipt


class Accepted(msgspec.Struct):
    """A job that was committed: where, and when something is due."""

    queue: int
    lane: int
    due_at: int | None = None
    expires_at: int | None = None


class Preparing:
    """Turns operations into statements.

    Args:
        db: Where the queues are.
        opened: Gives what serves them, when it is open.
        window_ms: How long an idempotency key is remembered.
    """

    def __init__(self, db: str, opened: Callable[[], Awaitable[Service]], window_ms: int) -> None:
        self._db = db
        self._opened = opened
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
        operations: list[PreparedOperation] = []
        jobs: list[NewJob] = []
        by_key: dict[tuple[int, str], NewJob] = {}
        for index, call in enumerate(request.operations):
            try:
                job = await service.enqueueing.of_request(_enqueue_of(call), current_invocation.get())
                receipt = await self._known(service, job, by_key)
            except LinklyError as error:
                error.details["failed_index"] = index
                raise
            statements: list[GuardedStatement] = []
            if receipt is None:
                receipt = job.id
                jobs.append(job)
                texts = await service.store.accepting([job], self._window_ms)
                if job.head.key is not None:  # its receipt is another job's if somebody has used the key meanwhile
                    texts.append(await service.store.is_there(job))
                statements = msgspec.convert(texts, list[GuardedStatement])
            operations.append(PreparedOperation(statements, Json(msgspec.json.encode(Receipt(receipt)))))
        if request.attempt and jobs:
            await self._check_room(service, jobs)
        accepted = [Accepted(job.queue, job.lane, job.due_at, job.expires_at) for job in jobs]
        return Prepared(operations, Json(msgspec.json.encode(accepted)))

    @function("queue::committed", metadata={"internal": True})
    async def committed(self, request: Committed) -> None:
        """Look for jobs that `database::atomic` has committed."""
        service = await self._opened()
        accepted = msgspec.json.decode(request.after, type=list[Accepted])
        await service.store.know_lanes({each.lane for each in accepted})
        service.queues.accepted(accepted)

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


def _enqueue_of(call: Call) -> Enqueue:
    if call.function_id != "queue::enqueue":
        raise NotAtomic(
            f"`{call.function_id}` cannot be part of a transaction; of queue `queue::enqueue` can",
            details={"function_id": call.function_id},
        )
    try:
        return msgspec.json.decode(call.payload, type=Enqueue)
    except msgspec.MsgspecError as error:
        raise InvalidPayload(f"Failed to deserialize input for function `{call.function_id}`: {error}") from error
