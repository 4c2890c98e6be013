"""The functions by which people change what happens to jobs and queues."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from linkly import function
from linkly_workers.queue.rows import CancelResult, Chosen, Discarded, Paused, QueueName, Redrive, Redriven
from linkly_workers.queue.service import Service
from linkly_workers.queue.shapes import JobId


class Repairing:
    """Serves them.

    Args:
        opened: Gives what serves the queues, when it is open.
    """

    def __init__(self, opened: Callable[[], Awaitable[Service]]) -> None:
        self._opened = opened

    @function("queue::cancel")
    async def cancel(self, request: JobId) -> CancelResult:
        """End a job, whatever it waits for; the attempt that runs is cancelled and awaited.

        Raises:
            JobNotFound: There is none, or it was removed some time after its end.
        """
        service = await self._opened()
        cancelled = await service.repairs.cancel(request.id)
        return CancelResult(cancelled, await service.records.row(await service.records.job(request.id)))

    @function("queue::redrive")
    async def redrive(self, request: Redrive) -> Redriven:
        """Let dead jobs begin anew, each at the newest end of its queue or of another one.

        Raises:
            QueueNotFound: There is no such queue.
            InvalidPayload: It is not said which jobs, or one has no message group for a fifo queue.
        """
        return Redriven(await (await self._opened()).repairs.redrive(request))

    @function("queue::discard")
    async def discard(self, request: Chosen) -> Discarded:
        """Throw dead jobs away.

        Raises:
            QueueNotFound: There is no such queue.
            InvalidPayload: It is not said which jobs.
        """
        return Discarded(await (await self._opened()).repairs.discard(request))

    @function("queue::pause")
    async def pause(self, request: QueueName) -> Paused:
        """Let a queue start nothing more; what runs goes on, and what comes in is accepted.

        Raises:
            QueueNotFound: There is no such queue.
        """
        await (await self._opened()).repairs.pause(request.queue, paused=True)
        return Paused(request.queue, True)

    @function("queue::resume")
    async def resume(self, request: QueueName) -> Paused:
        """Let a queue that was paused start jobs again.

        Raises:
            QueueNotFound: There is no such queue.
        """
        await (await self._opened()).repairs.pause(request.queue, paused=False)
        return Paused(request.queue, False)
