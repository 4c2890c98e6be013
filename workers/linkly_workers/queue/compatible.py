"""The functions that iii's queue has, in its shapes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from linkly import function
from linkly_workers.queue.service import Service
from linkly_workers.queue.shapes import ActionRequest, Receipt


class Compatible:
    """Serves them.

    Args:
        opened: Gives what serves the queues, when it is open.
    """

    def __init__(self, opened: Callable[[], Awaitable[Service]]) -> None:
        self._opened = opened

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
