"""Everything of the queue worker that belongs to one database, from its opening to its end."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

from linkly.bus import Bus
from linkly_workers.queue.accepting import Accepting
from linkly_workers.queue.accounts import Accounts
from linkly_workers.queue.dying import Dying
from linkly_workers.queue.enqueueing import Enqueueing
from linkly_workers.queue.jobs import State
from linkly_workers.queue.publishing import Publishing
from linkly_workers.queue.queues import Queues
from linkly_workers.queue.records import Records
from linkly_workers.queue.repairs import Repairs
from linkly_workers.queue.retention import Retention
from linkly_workers.queue.settings import QueueSettings, QueueWorkerSettings
from linkly_workers.queue.sharing import Sharing
from linkly_workers.queue.store import QueueStore
from linkly_workers.queue.stored import Room
from linkly_workers.queue.topics import Topics
from linkly_workers.queue.turning import turn
from linkly_workers.queue.waiting import Waiting


class Service:
    """The queues of one database.

    Args:
        bus: Where the database is, and the functions that are run.
        settings: Of the worker.
        dying: Is told of jobs that are dead.

    Attributes:
        store: Where the jobs are.
        queues: What there is, and who serves it.
        sharing: What is done for other engines, where several have the same jobs.
        accepting: Takes jobs in.
        enqueueing: Makes them.
        topics: What topics have in the store.
        publishing: Takes messages in.
        records: Reads them.
        accounts: Counts them.
        repairs: Changes what happens to them.
        waiting: Wakes those who wait for their ends.
        retention: Removes them some time later.
    """

    def __init__(self, bus: Bus, settings: QueueWorkerSettings, dying: Dying) -> None:
        self._settings = settings
        self._name = secrets.token_hex(8)
        self.store = QueueStore(bus.trigger, settings.db, bus.clock, settings.lease_ms)
        self.queues = Queues(self.store, bus, settings.subscriptions)
        self.sharing = Sharing(self.store, self.queues, bus.clock, settings.lease_ms)
        self.accepting = Accepting(self.store, settings.idempotency_window_ms, self.queues.accepted, bus.clock)
        self.enqueueing = Enqueueing(self.store, self.queues, settings.max_payload_bytes)
        topics = settings.subscriptions
        room = Room(topics.max_jobs, topics.max_bytes)
        self.topics = Topics(self.store, room, topics.keep_unsubscribed, topics.keep_unsubscribed_ms)
        self.publishing = Publishing(self.store, self.topics, self.queues, self.enqueueing, topics)
        self.records = Records(self.store)
        self.accounts = Accounts(self.store, self.queues, self.records, self.queues.rates)
        self.repairs = Repairs(self.store, self.queues, self.records)
        self.waiting = Waiting(self.store, self.records, bus.clock)
        self.retention = Retention(self.store, self.queues, bus.clock, settings.absent_retention_ms)
        self._dying = dying
        self._is_opening = False
        self._removing: asyncio.Task[None] | None = None
        for listener in (self.waiting.ended, self.retention.ended, self._ended):
            self.queues.endings.listen(listener)

    async def open(self) -> None:
        """Make the tables and begin.

        Raises:
            ConfigError: There is no such database, or they cannot be made in it.
            Unavailable: The database is away; this may be called again.
        """
        await self.store.open(self._name)
        await self.topics.open()
        self._is_opening = True
        try:
            await self.queues.open(self._settings.queues())
            for name in self._settings.queues():
                await turn(self.store, self.records, self.queues.named(name))
        finally:
            self._is_opening = False
        self.queues.wake()
        if self.store.is_shared:
            await self.sharing.open()

        self._removing = asyncio.get_running_loop().create_task(self.retention.serve(), name="queue: remove old jobs")

    def _ended(self, _queue: int, state: State, positions: Sequence[int]) -> None:
        if state is State.DEAD:
            self._dying.died(self.records, self._max_attempts, positions, at_start=self._is_opening)

    def _max_attempts(self, queue: int) -> int:
        served = self.queues.served(queue)
        return QueueSettings().max_attempts if served is None else served.settings.max_attempts

    async def is_current(self) -> bool:
        """Return whether the database is still the one in which this was opened.

        Raises:
            Unavailable: The database is away.
        """
        return await self.store.has_engine(self._name)

    async def stop(self, grace_s: float) -> None:
        """Start nothing more, and give back what still runs after a time; what comes in is accepted all the same."""
        await self.queues.close(grace_s)
        if self._removing is not None:
            self._removing.cancel()
            await asyncio.wait([self._removing])
        await self.sharing.close()

    async def close(self, grace_s: float) -> None:
        """Answer those whose jobs are being accepted, and stop."""
        await self.accepting.close()
        await self.publishing.close()
        await self.stop(grace_s)
