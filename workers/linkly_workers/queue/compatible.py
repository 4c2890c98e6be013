"""The functions that iii's queue has, in its shapes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from linkly import function
from linkly.context import current_invocation
from linkly_workers.queue.service import Service
from linkly_workers.queue.shapes import ActionRequest, Publish, Receipt


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
