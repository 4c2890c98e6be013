"""Durable queues: a call that was accepted is made, whatever fails meanwhile (docs/workers.md#queue).

A named queue holds calls of functions; a topic hands each message to every function that has subscribed to it. Jobs
live in a database (`store.py`); `accepting.py` takes them in, `serving.py` runs them.

Differences from iii's queue, all on purpose: a receipt is answered when the job is on disk; jobs that run when the
engine ends run again; an attempt has a time-out; the groups of a fifo queue are lines of their own, and a retry holds
up its own group only; a subscription outlives its worker; `max_attempts` is one word (`max_retries` of a queue are
attempts, as in iii, `maxRetries` of a subscriber are one less).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from linkly import Settings, Worker, function, trigger
from linkly.context import current_invocation
from linkly.errors import LinklyError
from linkly_workers._scripts import Unavailable
from linkly_workers.queue.accepting import Accepting
from linkly_workers.queue.compatible import Compatible
from linkly_workers.queue.enqueueing import Enqueueing
from linkly_workers.queue.jobs import NewJob
from linkly_workers.queue.queues import Queues
from linkly_workers.queue.settings import QueueWorkerSettings
from linkly_workers.queue.shapes import Enqueue, EnqueueMany, Receipt, Receipts
from linkly_workers.queue.store import QueueStore

log = logging.getLogger("linkly.queue")

OPEN_AGAIN_S = 1.0
"""How often a store is tried that could not be opened because its database is away."""


class QueueWorker(Worker):
    """Accepts jobs and runs them."""

    name = "queue"
    settings_type: ClassVar[type[Settings]] = QueueWorkerSettings
    settings: QueueWorkerSettings
    _opening: asyncio.Task[None] | None = None

    def __init__(self, settings: QueueWorkerSettings | None = None) -> None:
        super().__init__(settings)
        self._named = self.settings.queues()
        self._compatible = Compatible()

    def composed_of(self) -> tuple[object, ...]:
        """Return what serves iii's functions."""
        return (self._compatible,)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Make what serves the queues; at the end give back what still runs."""
        self._store = QueueStore(self.bus.trigger, self.settings.db, self.bus.clock)
        self._queues = Queues(self._store, self.bus)
        self._accepting = Accepting(self._store, self.settings.idempotency_window_ms, self._queues.accepted)
        self._enqueueing = Enqueueing(self._store, self._queues, self.settings.max_payload_bytes)
        self._opened = asyncio.get_running_loop().create_future()
        self._compatible.open(self._accept, self._enqueueing)
        try:
            yield
        finally:
            if self._opening is not None:
                self._opening.cancel()
                await asyncio.wait([self._opening])
            await self._accepting.close()
            await self._queues.close(self.settings.stop_grace_s)

    async def ready(self) -> None:
        """Open the store and begin. A server that is down is waited for.

        Raises:
            ConfigError: There is no such database, or the tables cannot be made in it.
        """
        try:
            await self._open()
        except Unavailable as error:
            log.warning("the queues cannot be opened yet: %s", error)
            self._opening = asyncio.get_running_loop().create_task(self._open_later(), name="queue: open the store")

    async def _open(self) -> None:
        await self._store.open(self.name)
        await self._queues.open(self._named)
        if not self._opened.done():
            self._opened.set_result(None)

    async def _open_later(self) -> None:
        while not self._opened.done():
            await self.bus.clock.sleep(OPEN_AGAIN_S)
            try:
                await self._open()
            except Unavailable:
                continue
            except LinklyError as error:
                log.error("the queues cannot be opened: %s", error)
                return

    async def drain(self) -> None:
        """Stop in order, while the workers whose functions run are still there."""
        await self._queues.close(self.settings.stop_grace_s)

    async def _accept(self, jobs: Sequence[NewJob]) -> list[str]:
        return await self._accepting.accept(jobs)

    @function("queue::enqueue")
    async def enqueue(self, request: Enqueue) -> Receipt:
        """Let a queue call a function; answers when that is on disk, and the function runs later.

        Raises:
            QueueNotFound: There is no such queue.
            QueueFull: It has no room.
            KeyUsed: The idempotency key belongs to another job.
            PayloadTooLarge: The payload is larger than `max_payload_bytes`.
            InvalidPayload: A time has no zone, or a fifo queue is not told the group.
        """
        await asyncio.shield(self._opened)
        job = await self._enqueueing.of_request(request, current_invocation.get())
        return Receipt((await self._accept([job]))[0])

    @function("queue::enqueue_many")
    async def enqueue_many(self, request: EnqueueMany) -> Receipts:
        """Let queues call functions; all of the calls are accepted, or none.

        Raises:
            QueueNotFound: There is no such queue.
            QueueFull: One has no room.
            KeyUsed: An idempotency key belongs to another job.
            PayloadTooLarge: A payload is larger than `max_payload_bytes`.
            InvalidPayload: A time has no zone, or a fifo queue is not told the group.
        """
        await asyncio.shield(self._opened)
        caller = current_invocation.get()
        return Receipts(await self._accept([await self._enqueueing.of_request(each, caller) for each in request.jobs]))

    @function(
        "queue::functions-changed", metadata={"internal": True}, triggers=[trigger("engine::functions-available")]
    )
    async def functions_changed(self, functions: list[Any]) -> None:
        """Look for jobs of functions that have come.

        Args:
            functions: All that there are now.
        """
        self._queues.functions.are(functions)
