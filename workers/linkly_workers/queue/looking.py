"""The functions that look at jobs and queues and change nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from linkly import function
from linkly_workers.queue.rows import (
    DeadRequest,
    Jobs,
    JobsRequest,
    QueueInfo,
    QueueName,
    Queues,
    Verification,
    WaitRequest,
)
from linkly_workers.queue.service import Service
from linkly_workers.queue.shapes import JobId, JobRow


class Looking:
    """Serves them.

    Args:
        opened: Gives what serves the queues, when it is open.
    """

    def __init__(self, opened: Callable[[], Awaitable[Service]]) -> None:
        self._opened = opened

    @function("queue::job")
    async def job(self, request: JobId) -> JobRow:
        """Return a job as it is now, by its receipt.

        Raises:
            JobNotFound: There is none, or it was removed some time after its end.
        """
        records = (await self._opened()).records
        return await records.row(await records.job(request.id))

    @function("queue::wait")
    async def wait(self, request: WaitRequest) -> JobRow:
        """Return a job when it has ended; when the time is over before, as it is then.

        Raises:
            JobNotFound: There is none, or it was removed some time after its end.
            Overloaded: Too many calls wait already.
        """
        service = await self._opened()
        return await service.records.row(await service.waiting.until_ended(request.id, request.timeout_ms))

    @function("queue::jobs")
    async def jobs(self, request: JobsRequest) -> Jobs:
        """Return some jobs without their payloads, in the order of their acceptance.

        Raises:
            QueueNotFound: There is no such queue.
            InvalidPayload: The cursor is none.
        """
        return await (await self._opened()).records.jobs(request)

    @function("queue::dead")
    async def dead(self, request: DeadRequest) -> Jobs:
        """Return some dead letters, queue by queue, those first that have died first.

        Raises:
            QueueNotFound: There is no such queue.
            InvalidPayload: A time or the cursor is none.
        """
        return await (await self._opened()).records.dead(request)

    @function("queue::list")
    async def list(self) -> Queues:
        """Return every queue, subscriptions and queues that have left the config among them."""
        service = await self._opened()
        return Queues(await service.accounts.of(await service.store.queues()))

    @function("queue::show")
    async def show(self, request: QueueName) -> QueueInfo:
        """Return a queue, with its settings.

        Raises:
            QueueNotFound: There is none of this name.
        """
        service = await self._opened()
        [info] = await service.accounts.of([await service.records.queue(request.queue)])
        return info

    @function("queue::verify")
    async def verify(self) -> Verification:
        """Compare what was counted with the jobs that there are, and name each difference."""
        return await (await self._opened()).accounts.verify()
