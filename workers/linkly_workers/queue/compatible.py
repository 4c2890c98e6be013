"""The functions that iii's queue has, in its shapes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from linkly import function
from linkly_workers.queue.enqueueing import Enqueueing
from linkly_workers.queue.jobs import NewJob
from linkly_workers.queue.shapes import ActionRequest, Receipt


class Compatible:
    """Serves them."""

    _accept: Callable[[Sequence[NewJob]], Awaitable[list[str]]]
    _enqueueing: Enqueueing

    def open(self, accept: Callable[[Sequence[NewJob]], Awaitable[list[str]]], enqueueing: Enqueueing) -> None:
        """Begin to serve."""
        self._accept = accept
        self._enqueueing = enqueueing

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
        return Receipt((await self._accept([await self._enqueueing.of_action(request)]))[0])
