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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from linkly import Settings, TriggerType, Worker, function, trigger
from linkly.clock import time_limit
from linkly.context import current_invocation
from linkly.errors import LinklyError
from linkly_workers._scripts import Unavailable
from linkly_workers.queue.compatible import Compatible
from linkly_workers.queue.dying import Dying
from linkly_workers.queue.looking import Looking
from linkly_workers.queue.preparing import Preparing
from linkly_workers.queue.queues import Queue
from linkly_workers.queue.repairing import Repairing
from linkly_workers.queue.service import Service
from linkly_workers.queue.settings import QueueWorkerSettings
from linkly_workers.queue.shapes import Configured, Enqueue, EnqueueMany, Receipt, Receipts
from linkly_workers.queue.subscriptions import Subscriptions

log = logging.getLogger("linkly.queue")

OPEN_AGAIN_S = 1.0
"""How often a store is tried that could not be opened because its database is away."""

OPENED_WITHIN_S = 5.0
"""How long a caller waits for a store that is being opened."""


class QueueWorker(Worker):
    """Accepts jobs and runs them."""

    name = "queue"
    settings_type: ClassVar[type[Settings]] = QueueWorkerSettings
    settings: QueueWorkerSettings
    _service: Service
    _opening: asyncio.Task[None] | None = None

    def __init__(self, settings: QueueWorkerSettings | None = None) -> None:
        super().__init__(settings)
        self.settings.queues()
        self._subscriptions = Subscriptions(self.settings.subscriptions, self.settings.stop_grace_s)
        self._compatible = Compatible(self._opened, self._subscriptions.settled)
        self._preparing = Preparing(
            self.settings.db, self._opened, self._subscriptions.settled, self.settings.idempotency_window_ms
        )
        self._dying = Dying()
        self._for_people = (Looking(self._opened), Repairing(self._opened))
        self._is_open = asyncio.Event()

    def composed_of(self) -> tuple[object, ...]:
        """Return what serves iii's functions, `database::atomic`, and those who look at jobs and repair them."""
        return (self._compatible, self._preparing, *self._for_people)

    def trigger_types(self) -> list[TriggerType]:
        """Return `durable:subscriber` and `queue:dead`."""
        return [self._subscriptions.trigger_type(), self._dying.trigger_type()]

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Make what serves the queues; at the end give back what still runs."""
        self._service = Service(self.bus, self.settings, self._dying)
        async with self._dying.running(self.bus):
            try:
                yield
            finally:
                if self._opening is not None:
                    self._opening.cancel()
                    await asyncio.wait([self._opening])
                await self._subscriptions.close()
                await self._service.close(self.settings.stop_grace_s)

    async def ready(self) -> None:
        """Open the store and begin. A server that is down is waited for.

        Raises:
            ConfigError: There is no such database, or the tables cannot be made in it.
        """
        try:
            await self._open()
        except Unavailable as error:
            log.warning("the queues cannot be opened yet: %s", error)
            if self._opening is None:
                self._opening = asyncio.get_running_loop().create_task(self._open_later(), name="queue: open the store")

    async def others_changed(self, names: frozenset[str]) -> None:
        """Begin anew if the database is another one now, with other jobs."""
        if "database" in names:
            await self.ready()

    async def _open(self) -> None:
        if self._is_open.is_set():
            if await self._service.is_current():
                self._service.queues.wake()
                return
            self._is_open.clear()
            await self._subscriptions.close()
            await self._service.close(0)  # its jobs cannot end in another database
            self._service = Service(self.bus, self.settings, self._dying)
        await self._service.open()
        await self._subscriptions.open(self._service, self.bus.clock)
        self._is_open.set()

    async def _open_later(self) -> None:
        while True:
            await self.bus.clock.sleep(OPEN_AGAIN_S)
            try:
                await self._open()
            except Unavailable:
                continue
            except LinklyError:
                log.exception("the queues cannot be opened")
                continue
            self._opening = None
            return

    async def _opened(self) -> Service:
        """Return what serves the queues, when it is open.

        Raises:
            Unavailable: It is not for some time already: its database is away.
        """
        if not self._is_open.is_set():
            try:
                async with time_limit(self.bus.clock, OPENED_WITHIN_S):
                    await self._is_open.wait()
            except TimeoutError:
                raise Unavailable(
                    f"the queues are not open: database `{self.settings.db}` does not answer; nothing was accepted",
                    details={"db": self.settings.db, "retryable": True},
                ) from None
        return self._service

    def queue(self, name: str) -> Queue:
        """Return a queue of the config, and who serves it.

        Raises:
            QueueNotFound: There is none of this name.
        """
        return self._service.queues.named(name)

    async def drain(self) -> None:
        """Stop in order, while the workers whose functions run are still there."""
        await self._service.stop(self.settings.stop_grace_s)
        await self._dying.drain()

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
        service = await self._opened()
        job = await service.enqueueing.of_request(request, current_invocation.get())
        return Receipt((await service.accepting.accept([job]))[0])

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
        service, caller = await self._opened(), current_invocation.get()
        jobs = [await service.enqueueing.of_request(each, caller) for each in request.jobs]
        return Receipts(await service.accepting.accept(jobs))

    @function("queue::configured", metadata={"internal": True})
    async def configured(self) -> Configured:
        """Say where jobs are kept and which named queues there are; the database need not be there."""
        return Configured(self.settings.db, sorted(self.settings.queues()))

    @function(
        "queue::functions-changed", metadata={"internal": True}, triggers=[trigger("engine::functions-available")]
    )
    async def functions_changed(self, functions: list[Any]) -> None:
        """Look for jobs of functions that have come.

        Args:
            functions: All that there are now.
        """
        self._service.queues.functions.are(functions)
