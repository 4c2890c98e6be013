"""Takes in messages of topics: a job for each subscription, all of them or none.

Messages that are published at the same time share a transaction (`batching.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from linkly.errors import LinklyError
from linkly.invocation import Invocation
from linkly.receipts import new_receipt
from linkly_workers.queue.batching import Batching
from linkly_workers.queue.enqueueing import Enqueueing
from linkly_workers.queue.errors import QueueFull, TopicNotSet
from linkly_workers.queue.jobs import Head, NewJob, State
from linkly_workers.queue.queues import Queues
from linkly_workers.queue.settings import SubscriptionSettings
from linkly_workers.queue.shapes import Publish
from linkly_workers.queue.store import QueueStore
from linkly_workers.queue.topics import Topics

log = logging.getLogger("linkly.queue")

AT_ONCE = 64
"""Messages that share a transaction."""

ROUNDS = 10
"""How often room is made for one message, while others take it."""


class Publishing:
    """Publishes messages.

    Args:
        store: Says what time it is.
        topics: Where they go.
        queues: Told where jobs have come in.
        enqueueing: Knows what a payload has to be.
        settings: Of subscriptions.
    """

    def __init__(
        self, store: QueueStore, topics: Topics, queues: Queues, enqueueing: Enqueueing, settings: SubscriptionSettings
    ) -> None:
        self._store = store
        self._topics = topics
        self._queues = queues
        self._enqueueing = enqueueing
        self._settings = settings
        self._batching: Batching[tuple[str, NewJob], bool] = Batching(
            "their messages to be accepted", self._write, size=lambda _: 1, most=AT_ONCE
        )

    async def close(self) -> None:
        """Wait until nobody waits any more."""
        await self._batching.close()

    async def publish(self, request: Publish, caller: Invocation | None) -> None:
        """Accept a message for every subscription of its topic; it is on disk when this returns.

        Raises:
            TopicNotSet: The topic is empty.
            QueueFull: A subscription has no room; nobody gets the message.
            PayloadTooLarge: The message is.
            WouldWaitForItself: The caller is in a transaction that keeps all others from writing.
            LinklyError: The database did not take it, or nobody knows (`outcome_unknown`).
        """
        self._store.check_waits()  # the batch is nobody's call, so the database cannot tell
        message = self.message(request, caller)
        for number in range(ROUNDS):
            if await self._batching.write((request.topic, message)):
                return
            await self.make_room(request.topic, message.size, number)
        raise _full(request.topic, "others have taken the room each time that some was made")

    async def _write(self, batch: Sequence[tuple[str, NewJob]]) -> list[bool] | None:
        queues = await self._topics.publish(batch)
        if queues is None:
            return None
        self._queues.woken(queues)
        if self._store.kept in queues:
            await self._kept()
        for queue, count in queues.items():
            self._queues.rates.add(queue, "accepted", count)
        return [True] * len(batch)

    async def published(self, topics: Collection[str]) -> None:
        """Look where messages of these topics may have come in that somebody else has written."""
        await self._kept()
        self._queues.woken(
            [queue.row.id for queue in self._queues if queue.row.function_id and queue.row.name in topics]
        )

    async def _kept(self) -> None:
        """Bound the messages that have no subscription; they are accepted, so that a failure fails no caller."""
        self._queues.timetable.due(self._store.now() + self._settings.keep_unsubscribed_ms)
        try:
            await self._topics.bound_kept()
        except LinklyError as error:
            log.warning("there may be too many messages that nobody has subscribed to: %s", error)

    def message(self, request: Publish, caller: Invocation | None) -> NewJob:
        """Return a message as it is stored, of the trace of its caller.

        Raises:
            TopicNotSet: The topic is empty.
            PayloadTooLarge: The message is.
        """
        if not request.topic:
            raise TopicNotSet('a message needs a topic: {"topic": "order.created", "data": ...}')
        return NewJob(
            id=new_receipt(),
            queue=0,
            lane=0,
            payload=self._enqueueing.text_of(request.data),
            head=Head(
                enqueued_at=self._store.now(),
                traceparent=None if caller is None else caller.traceparent,
                baggage=None if caller is None else caller.baggage,
                topic=request.topic,
            ),
        )

    async def make_room(self, topic: str, size: int, number: int) -> None:
        """Let the oldest messages of subscriptions that are full be dead, if that is the setting.

        Raises:
            QueueFull: It is not, or there is nothing that waits.
        """
        for full in await self._topics.full(topic, size):
            room = self._topics.room
            what = (
                f"the subscription of `{full.function_id}` has {full.jobs} jobs; it may hold {room.max_jobs} "
                f"(`subscriptions.max_jobs`) and {room.max_bytes} bytes (`subscriptions.max_bytes`)"
            )
            if self._settings.when_full == "refuse" or size > room.max_bytes:
                raise _full(topic, what)
            # Where jobs are few and large, nobody knows how many: ever more of them.
            dead = await self._topics.bury_oldest(full, max(full.jobs + 1 - room.max_jobs, 1 << number))
            self._queues.endings.tell(full.id, State.DEAD, dead)
            if not dead:
                raise _full(topic, f"{what}, and all of them are running")


def _full(topic: str, why: str) -> QueueFull:
    return QueueFull(
        f"the message for topic `{topic}` was not accepted: {why}; try again when some are done",
        details={"topic": topic, "retryable": True},
    )
