"""Makes jobs of what was asked for: which queue and group, when, what is kept beside the payload."""

from __future__ import annotations

from datetime import datetime

import msgspec

from linkly.errors import InvalidPayload, PayloadTooLarge
from linkly.invocation import Invocation, Json
from linkly.receipts import new_receipt
from linkly_workers.queue.jobs import Head, NewJob
from linkly_workers.queue.queues import Queue, Queues
from linkly_workers.queue.shapes import ActionRequest, Enqueue, When
from linkly_workers.queue.store import QueueStore


class Enqueueing:
    """Makes jobs.

    Args:
        store: Gives lanes, and says what time it is.
        queues: Where they go.
        max_payload_bytes: Larger payloads are refused.
    """

    def __init__(self, store: QueueStore, queues: Queues, max_payload_bytes: int) -> None:
        self._store = store
        self._queues = queues
        self._max_payload_bytes = max_payload_bytes

    async def of_action(self, request: ActionRequest) -> NewJob:
        """Return the job of an enqueue action."""
        return await self._job(
            request,
            queue=request.queue,
            function_id=request.function_id,
            namespace=request.namespace,
            payload=_given(request.data),
            receipt=request.receipt,
            traceparent=request.traceparent,
            baggage=request.baggage,
        )

    async def of_request(self, request: Enqueue, caller: Invocation | None) -> NewJob:
        """Return the job of `queue::enqueue`, which belongs to the trace of its caller."""
        return await self._job(
            request,
            queue=request.queue,
            function_id=request.function_id,
            namespace=request.namespace,
            payload=_given(request.payload),
            receipt=None,
            traceparent=None if caller is None else caller.traceparent,
            baggage=None if caller is None else caller.baggage,
        )

    async def _job(
        self,
        when: When,
        *,
        queue: str,
        function_id: str,
        namespace: str,
        payload: Json,
        receipt: str | None,
        traceparent: str | None,
        baggage: str | None,
    ) -> NewJob:
        """Check and complete what was asked for.

        Raises:
            QueueNotFound: There is no such queue.
            InvalidPayload: A time or a group is missing or cannot be.
            PayloadTooLarge: The payload is.
        """
        into = self._queues.named(queue)
        text = self.text_of(payload)
        fields = _fields(payload, into)
        now = self._store.now()
        run_at = _time("run_at", when.run_at)
        due_at = max(run_at or 0, now + (when.delay_ms or 0))
        expires_at = _time("expires_at", when.expires_at)
        lane = await self._store.lane(into.row.id, namespace, function_id)
        return NewJob(
            id=receipt or new_receipt(),
            queue=into.row.id,
            lane=lane.id,
            payload=text,
            head=Head(
                enqueued_at=now,
                traceparent=traceparent,
                baggage=baggage,
                key=when.idempotency_key,
                run_at=due_at if due_at > now else None,
            ),
            due_at=due_at if due_at > now else None,
            expires_at=expires_at,
            priority=_priority(when, into, fields),
            message_group=_group(when, into, fields),
        )

    def text_of(self, payload: Json) -> str:
        """Return a payload as it is stored.

        Raises:
            PayloadTooLarge: It is larger than the setting allows.
        """
        data = bytes(memoryview(payload))
        if len(data) > self._max_payload_bytes:
            raise PayloadTooLarge(
                f"the payload has {len(data)} bytes, max_payload_bytes of the queue worker is "
                f"{self._max_payload_bytes}; put what is large somewhere else and enqueue where it is",
                details={"bytes": len(data), "max_payload_bytes": self._max_payload_bytes},
            )
        return data.decode()


def group_of(payload: Json, queue: Queue, known: str | None) -> str | None:
    """Return the message group of a job that comes into a queue from elsewhere; `None`: the queue has none.

    Args:
        payload: Of the job.
        queue: Where it goes.
        known: The group in which it stood.

    Raises:
        InvalidPayload: The queue has groups, and the payload does not name one.
    """
    if queue.has_groups and (known is not None or queue.settings.message_group_field is None):
        return known or ""  # a subscription is one line
    return _group(When(), queue, _fields(payload, queue))


def _given(payload: Json | msgspec.UnsetType) -> Json:
    return Json(b"null") if payload is msgspec.UNSET else payload


def _fields(payload: Json, queue: Queue) -> dict[str, object]:
    if queue.settings.message_group_field is None and queue.settings.priority_field is None:
        return {}
    value = msgspec.json.decode(bytes(memoryview(payload)))
    return value if isinstance(value, dict) else {}


def _group(when: When, queue: Queue, fields: dict[str, object]) -> str | None:
    if not queue.has_groups:
        if when.message_group is not None:
            raise InvalidPayload(
                f"Queue '{queue.row.name}' has no message groups: its `type` is `{queue.settings.type}`; leave "
                "message_group out, or set `type: fifo`"
            )
        return None
    if when.message_group is not None:
        return when.message_group
    field = queue.settings.message_group_field or ""
    if field not in fields:
        raise InvalidPayload(f"FIFO queue '{queue.row.name}' requires field '{field}' in data but it was not found")
    group = fields[field]
    if group is None:
        raise InvalidPayload(f"FIFO queue '{queue.row.name}': field '{field}' must not be null")
    return group if isinstance(group, str) else msgspec.json.encode(group).decode()


def _priority(when: When, queue: Queue, fields: dict[str, object]) -> int:
    if queue.has_groups:
        if when.priority is not None:
            raise InvalidPayload(
                f"FIFO queue '{queue.row.name}' takes no priority: its jobs run in the order of their groups"
            )
        return 0
    given = fields.get(queue.settings.priority_field or "") if when.priority is None else when.priority
    return given if isinstance(given, int) and not isinstance(given, bool) and abs(given) < 1 << 31 else 0


def _time(name: str, text: str | None) -> int | None:
    """Return a time in milliseconds since the epoch."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidPayload(
            f"{name} is `{text}`, and has to be a time with its zone (RFC 3339), for example 2026-01-31T12:00:00Z"
        )
    return int(moment.timestamp() * 1000)
