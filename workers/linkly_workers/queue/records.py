"""Reads jobs as they are stored, for those who look at them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from linkly.errors import InvalidPayload, LinklyError
from linkly.invocation import Json
from linkly.timestamps import moment_of, time_text
from linkly_workers.queue.errors import JobNotFound, QueueNotFound
from linkly_workers.queue.jobs import State, unpack_head
from linkly_workers.queue.queues import NAMED
from linkly_workers.queue.rows import DeadFilter, DeadRequest, Jobs, JobsRequest
from linkly_workers.queue.shapes import JobRow
from linkly_workers.queue.store import RESULT_TOO_LARGE, QueueStore
from linkly_workers.queue.stored import QueueRow

LAST_MS = 253_402_300_799_000
"""The end of year 9999: a time after it has no text."""

PAGE_BYTES = 8 * 1024 * 1024
"""Payloads that are answered at a time; one alone may be larger."""


class Record(msgspec.Struct, kw_only=True):
    """A job without its payload; the columns of script `job`."""

    position: int
    id: str
    queue: int
    namespace: str
    function_id: str
    state: State
    starts: int
    returned: int
    priority: int
    message_group: str | None
    due_at: int | None
    expires_at: int | None
    started_at: int | None
    finished_at: int | None
    reason: str | None
    error: str | None
    head: bytes
    size: int

    @property
    def has_ended(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.state > State.ACTIVE

    def row(self, title: str, payload: str | None = None) -> JobRow:
        """Return what is shown of it.

        Args:
            title: What its queue is called.
            payload: If that is shown.
        """
        head = unpack_head(self.head)
        return JobRow(
            id=self.id,
            queue=title,
            function_id=self.function_id,
            namespace=self.namespace,
            state=self.state.name.lower(),
            attempts=self.starts - self.returned,
            enqueued_at=time_text(head.enqueued_at / 1000),
            due_at=_time(self.due_at),
            started_at=_time(self.started_at),
            finished_at=_time(self.finished_at),
            expires_at=_time(self.expires_at),
            priority=self.priority,
            message_group=self.message_group,
            idempotency_key=head.key,
            topic=head.topic,
            reason=self.reason,
            error=None if self.error is None else Json(self.error.encode()),
            payload=None if payload is None else Json(payload.encode()),
        )


class Records:
    """The jobs of a store.

    Args:
        store: Where they are.
    """

    def __init__(self, store: QueueStore) -> None:
        self._store = store
        self._titles: dict[int, str] = {}

    # --- queues --------------------------------------------------------------------------------------------

    async def queue(self, title: str) -> QueueRow:
        """Return a queue that there is, or was.

        Raises:
            QueueNotFound: There is none of this name.
        """
        rows = await self._store.queues()
        for row in sorted(rows, key=lambda row: row.kind != NAMED):
            if row.title == title:
                return row
        raise QueueNotFound(f"there is no queue `{title}`; there are: {', '.join(sorted(row.title for row in rows))}")

    async def queues(self, title: str | None) -> list[QueueRow]:
        """Return a queue, or all of them.

        Raises:
            QueueNotFound: There is none of this name.
        """
        return await self._store.queues() if title is None else [await self.queue(title)]

    # --- jobs ----------------------------------------------------------------------------------------------

    async def job(self, job_id: str) -> Record:
        """Return a job.

        Raises:
            JobNotFound: There is none with this id.
        """
        records = await self._read("job", {"id": job_id})
        if not records:
            raise JobNotFound(
                f"there is no job `{job_id}`: no queue has accepted it, or it was removed some time after its end "
                "(`keep_done`, `keep_done_ms`)"
            )
        return records[0]

    async def by_id(self, ids: Sequence[str]) -> list[Record]:
        """Return those of these jobs that there are."""
        return await self._read("jobs_by_id", {"ids": json_list(ids)})

    async def at(self, positions: Sequence[int]) -> list[Record]:
        """Return the jobs at these positions."""
        return await self._read("jobs_at", {"positions": json_list(positions)})

    async def jobs(self, request: JobsRequest) -> Jobs:
        """Return some jobs, in the order of their acceptance.

        Raises:
            QueueNotFound: There is no such queue.
            InvalidPayload: The cursor is none.
        """
        states = list(State) if request.state is None else [State[request.state.upper()]]
        queue = None if request.queue is None else (await self.queue(request.queue)).id
        [after] = _cursor(request.cursor, 1)
        records = await self._some(queue, states, request.function_id, after, request.limit)
        cursor = str(records[-1].position) if len(records) == request.limit else None
        return Jobs(await self.rows(records, payloads=False), cursor)

    async def dead(self, request: DeadRequest) -> Jobs:
        """Return some dead letters, queue by queue, those first that have died first.

        Raises:
            QueueNotFound: There is no such queue.
            InvalidPayload: A time or the cursor is none.
        """
        first, died_at, position = _cursor(request.cursor, 3)
        found: list[Record] = []
        for queue in await self.queues(request.queue):
            if queue.id >= first and len(found) < request.limit:
                after = (died_at, position) if queue.id == first else (0, 0)
                found += await self._dead(queue.id, request, after, request.limit - len(found))
        size, page = 0, list[Record]()
        for record in found:
            size += record.size
            if page and size > PAGE_BYTES:
                break
            page.append(record)
        more = len(found) == request.limit or len(page) < len(found)
        last = page[-1] if page else None
        cursor = f"{last.queue}.{last.finished_at}.{last.position}" if more and last is not None else None
        return Jobs(await self.rows(page, payloads=True), cursor)

    async def every_dead(self, queue: int, which: DeadFilter, most: int) -> AsyncIterator[list[Record]]:
        """Give all dead letters of a queue that there are by now and a filter matches, some at a time."""
        after, now = (0, 0), self._store.now()
        while found := await self._dead(queue, which, after, most, now):
            yield found
            after = (found[-1].finished_at or 0, found[-1].position)

    async def every_waiting(self, queue: int, function_id: str | None, most: int) -> AsyncIterator[list[Record]]:
        """Give all jobs of a queue that wait by now, some at a time."""
        states, after = [State.WAITING, State.DELAYED, State.RETRYING], 0
        [newest] = await self._store.scripts.query("newest", {})
        while found := await self._some(queue, states, function_id, after, most):
            yield [record for record in found if record.position <= newest["position"]]
            after = found[-1].position
            if after >= newest["position"]:
                return

    async def _some(
        self, queue: int | None, states: Sequence[State], function_id: str | None, after: int, most: int
    ) -> list[Record]:
        asked = {"queue": queue, "function_id": function_id, "after": after, "most": most}
        return await self._read("jobs", asked | {"states": json_list([int(state) for state in states])})

    async def _dead(
        self, queue: int, which: DeadFilter, after: tuple[int, int], most: int, until: int = LAST_MS
    ) -> list[Record]:
        since = _milliseconds(which.died_after, "died_after", 0)
        asked = {
            "queue": queue,
            "died_after": max(after[0], since),
            "after": after[1] if after[0] >= since else 0,
            "died_before": min(until, _milliseconds(which.died_before, "died_before", LAST_MS)),
            "function_id": which.function_id,
            "reason": which.reason,
            "error": which.error,
            "most": most,
        }
        return await self._read("dead", asked)

    # --- what is shown -------------------------------------------------------------------------------------

    async def rows(self, records: Sequence[Record], *, payloads: bool) -> list[JobRow]:
        """Return what is shown of jobs."""
        texts = await self.payloads(records) if payloads else {}
        return [record.row(await self.title(record.queue), texts.get(record.position)) for record in records]

    async def row(self, record: Record) -> JobRow:
        """Return what is shown of a job, with its payload."""
        return (await self.rows([record], payloads=True))[0]

    async def title(self, queue: int) -> str:
        """Return what a queue is called."""
        if queue not in self._titles:
            self._titles = {row.id: row.title for row in await self._store.queues()}
        return self._titles[queue]

    async def payloads(self, records: Sequence[Record]) -> dict[int, str]:
        """Return the payloads of jobs, by position."""
        return await self.payloads_at([record.position for record in records])

    async def payloads_at(self, positions: Sequence[int]) -> dict[int, str]:
        """Return the payloads of the jobs at these positions, by position."""
        if not positions:
            return {}
        try:
            rows = await self._store.scripts.query("payloads", {"positions": json_list(positions)})
        except LinklyError as error:
            if error.code != RESULT_TOO_LARGE or len(positions) == 1:
                raise
            half = len(positions) // 2
            return await self.payloads_at(positions[:half]) | await self.payloads_at(positions[half:])
        return {row["position"]: row["payload"] for row in rows}

    async def _read(self, script: str, values: dict[str, Any]) -> list[Record]:
        return msgspec.convert(await self._store.scripts.query(script, values), list[Record])


def json_list(items: Sequence[object]) -> str:
    """Return a list as a script takes it."""
    return msgspec.json.encode(items).decode()


def _cursor(text: str | None, parts: int) -> list[int]:
    if text is None:
        return [0] * parts
    numbers = text.split(".")
    if len(numbers) != parts or not all(number.isascii() and number.isdigit() for number in numbers):
        raise InvalidPayload(f"cursor is `{text}`, and has to be the next_cursor of an earlier answer")
    return [int(number) for number in numbers]


def _milliseconds(text: str | None, what: str, otherwise: int) -> int:
    return otherwise if text is None else int(moment_of(text, what).timestamp() * 1000)


def _time(at: int | None) -> str | None:
    return None if at is None else time_text(min(at, LAST_MS) / 1000)
