"""The functions that iii's queue has, in its shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import msgspec

from linkly import Json, LinklyError, function
from linkly.context import current_invocation
from linkly_workers.queue.errors import MessageIdNotSet, QueueNotSet, TopicRequired
from linkly_workers.queue.iii_shapes import (
    BUILTIN,
    FUNCTION_QUEUE,
    DeadMessage,
    DeadMessagesFailed,
    DeadMessagesRequest,
    DeadTopicRow,
    DeadTopicsFailed,
    DiscardMessageFailed,
    ListTopicsFailed,
    MessageRequest,
    MessageResult,
    QueueRequest,
    RedriveFailed,
    RedriveMessageFailed,
    RedriveResult,
    TopicRequest,
    TopicRow,
    TopicStats,
    TopicStatsFailed,
)
from linkly_workers.queue.queues import NAMED, Queue
from linkly_workers.queue.records import PAGE_BYTES, Record
from linkly_workers.queue.rows import Chosen, DeadFilter, Redrive
from linkly_workers.queue.service import Service
from linkly_workers.queue.shapes import ActionRequest, Publish, Receipt
from linkly_workers.queue.stored import QueueRow
from linkly_workers.queue.topics import SUBSCRIPTION


class Compatible:
    """Serves them.

    Args:
        opened: Gives what serves the queues, when it is open.
        settled: Waits for subscriptions that are being made.
    """

    def __init__(self, opened: Callable[[], Awaitable[Service]], settled: Callable[[], Awaitable[None]]) -> None:
        self._opened = opened
        self._settled = settled

    @function("engine::queue::enqueue", metadata={"internal": True})
    async def enqueue(self, request: ActionRequest) -> Receipt:
        """Accept the call of an enqueue action.

        Raises:
            QueueNotFound: There is no such queue.
            QueueFull: It has no room.
            KeyUsed: The idempotency key belongs to another job.
            PayloadTooLarge: The payload is larger than `max_payload_bytes`.
            InvalidPayload: A time has no zone, or a fifo queue is not told the group.
        """
        service = await self._opened()
        return Receipt((await service.accepting.accept([await service.enqueueing.of_action(request)]))[0])

    @function("iii::durable::publish")
    async def publish(self, request: Publish) -> None:
        """Give a message to every function that has subscribed to its topic; it is on disk when this answers.

        Raises:
            TopicNotSet: The topic is empty.
            QueueFull: A subscription has no room; nobody gets the message.
            PayloadTooLarge: The message is larger than `max_payload_bytes`.
        """
        service = await self._opened()
        await self._settled()
        await service.publishing.publish(request, current_invocation.get())

    # --- topics and dead letters ---------------------------------------------------------------------------

    @function("engine::queue::list_topics")
    async def list_topics(self) -> list[TopicRow]:
        """List the topics that have subscriptions, and the named queues.

        Raises:
            ListTopicsFailed: The database does not answer.
        """
        with _failing(ListTopicsFailed):
            service = await self._opened()
            rows = await service.records.queues(None)
            topics = Counter(row.name for row in rows if row.kind == SUBSCRIPTION and row.ended_at is None)
            found = [TopicRow(name, BUILTIN, count) for name, count in sorted(topics.items())]
            named = [service.queues.served(row.id) for row in rows if row.kind == NAMED]
            return found + [TopicRow(each.row.name, BUILTIN, each.settings.concurrency) for each in named if each]

    @function("engine::queue::topic_stats")
    async def topic_stats(self, request: TopicRequest) -> TopicStats:
        """Say how many messages a topic or a named queue has; what waits for a time is left out.

        Raises:
            TopicRequired: It is not said which.
            TopicStatsFailed: The database does not answer.
        """
        name = _required(request)
        with _failing(TopicStatsFailed):
            service = await self._opened()
            rows = await _meant(service, name)
            accounts = await service.accounts.of(rows)
            served = [service.queues.served(row.id) for row in rows if row.ended_at is None]
            return TopicStats(
                depth=sum(each.waiting + each.active for each in accounts),
                consumer_count=sum(_consumers(each) for each in served if each),
                dlq_depth=sum(each.dead for each in accounts),
            )

    @function("engine::queue::dlq_topics")
    async def dlq_topics(self) -> list[DeadTopicRow]:
        """Count the dead letters of each topic and named queue.

        Raises:
            DeadTopicsFailed: The database does not answer.
        """
        with _failing(DeadTopicsFailed):
            service = await self._opened()
            rows = [row for row in await service.records.queues(None) if row.kind in (NAMED, SUBSCRIPTION)]
            counts: Counter[tuple[str, str]] = Counter()
            for row, account in zip(rows, await service.accounts.of(rows), strict=True):
                counts[row.name, FUNCTION_QUEUE if row.kind == NAMED else BUILTIN] += account.dead
            return [DeadTopicRow(*key, count) for key, count in sorted(counts.items())]

    @function("engine::queue::dlq_messages")
    async def dlq_messages(self, request: DeadMessagesRequest) -> list[DeadMessage]:
        """Return dead letters of a topic or a named queue, those first that have died first.

        Fewer than `limit` of them, if their payloads are large.

        Raises:
            TopicRequired: It is not said which.
            DeadMessagesFailed: The database does not answer.
        """
        name = _required(request)
        with _failing(DeadMessagesFailed):
            service = await self._opened()
            page = await _dead(service, await _meant(service, name), request.offset, request.limit)
            payloads = await service.records.payloads(page)
            return [_message(record, payloads[record.position]) for record in page if record.position in payloads]

    @function("iii::queue::redrive")
    async def redrive(self, request: QueueRequest) -> RedriveResult:
        """Let all dead letters of a topic or a named queue begin anew.

        Raises:
            QueueNotSet: It is not said which.
            RedriveFailed: The database does not take it.
        """
        name = _given(request)
        with _failing(RedriveFailed):
            service = await self._opened()
            rows = await _meant(service, name)
            return RedriveResult(name, sum([await service.repairs.redrive(Redrive(queue=row.title)) for row in rows]))

    @function("iii::queue::redrive_message")
    async def redrive_message(self, request: MessageRequest) -> MessageResult:
        """Let one dead letter begin anew.

        Raises:
            QueueNotSet, MessageIdNotSet: It is not said which.
            RedriveMessageFailed: The database does not take it.
        """
        name, message_id = _given(request), _message_id(request)
        with _failing(RedriveMessageFailed):
            service = await self._opened()
            ids = await _of_these(service, name, message_id)
            return MessageResult(name, message_id, await service.repairs.redrive(Redrive(ids=ids)) if ids else 0)

    @function("iii::queue::discard_message")
    async def discard_message(self, request: MessageRequest) -> MessageResult:
        """Throw one dead letter away; `redriven` of the answer counts it, as in iii.

        Raises:
            QueueNotSet, MessageIdNotSet: It is not said which.
            DiscardMessageFailed: The database does not take it.
        """
        name, message_id = _given(request), _message_id(request)
        with _failing(DiscardMessageFailed):
            service = await self._opened()
            ids = await _of_these(service, name, message_id)
            return MessageResult(name, message_id, await service.repairs.discard(Chosen(ids=ids)) if ids else 0)


def _consumers(queue: Queue) -> int:
    return queue.settings.concurrency if queue.row.kind == NAMED else 1


def _given(request: QueueRequest) -> str:
    name = request.queue or request.topic
    if not name:
        raise QueueNotSet('say which queue or topic: {"queue": "default"}')
    return name


def _required(request: TopicRequest) -> str:
    name = request.topic or request.queue
    if not name:
        raise TopicRequired('say which topic or queue: {"topic": "order.created"}')
    return name


def _message_id(request: MessageRequest) -> str:
    if not request.message_id:
        raise MessageIdNotSet('say which message: {"message_id": "..."}, as engine::queue::dlq_messages has it')
    return request.message_id


async def _meant(service: Service, name: str) -> list[QueueRow]:
    """Return the queues of a name: the named queue, else the subscriptions of the topic, else the one of this title."""
    rows = await service.records.queues(None)
    subscriptions = [row for row in rows if row.kind == SUBSCRIPTION]
    return (
        [row for row in rows if row.kind == NAMED and row.name == name]
        or [row for row in subscriptions if row.name == name]
        or [row for row in subscriptions if row.title == name]
    )


async def _of_these(service: Service, name: str, message_id: str) -> list[str]:
    """Return the message if it is one of these queues, else nothing."""
    queues = {row.id for row in await _meant(service, name)}
    return [record.id for record in await service.records.by_id([message_id]) if record.queue in queues]


async def _dead(service: Service, rows: list[QueueRow], offset: int, limit: int) -> list[Record]:
    page: list[Record] = []
    size = 0
    for row in rows:
        async for records in service.records.every_dead(row.id, DeadFilter(), 500):
            for record in records:
                if offset:
                    offset -= 1
                    continue
                size += record.size
                if len(page) == limit or (page and size > PAGE_BYTES):
                    return page
                page.append(record)
    return page


def _message(record: Record, payload: str) -> DeadMessage:
    error = record.reason or ""
    if record.error is not None:
        body = msgspec.json.decode(record.error)
        error = f"{body.get('code')}: {body.get('message')}"
    return DeadMessage(
        id=record.id,
        payload=Json(payload.encode()),
        error=error,
        failed_at=(record.finished_at or 0) // 1000,
        retries=record.starts - record.returned,
        size_bytes=record.size,
    )


@contextmanager
def _failing(failure: type[LinklyError]) -> Iterator[None]:
    """Give an error iii's code; `details.code` says what it was."""
    try:
        yield
    except LinklyError as error:
        raise failure(error.message, details={**error.details, "code": error.code}) from error
