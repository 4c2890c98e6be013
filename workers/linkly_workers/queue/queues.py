"""The queues that there are: named ones of the config, and subscriptions; each with its consumer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import msgspec

from linkly.bus import Bus
from linkly_workers.queue.endings import Endings
from linkly_workers.queue.errors import QueueNotFound
from linkly_workers.queue.functions import Functions
from linkly_workers.queue.jobs import Claimed, Ended, Lane, State
from linkly_workers.queue.rates import Rates
from linkly_workers.queue.running import Policy, run_job
from linkly_workers.queue.serving import Consumer
from linkly_workers.queue.settings import QueueSettings, SubscriptionSettings
from linkly_workers.queue.store import QueueStore
from linkly_workers.queue.stored import Due, Lost, QueueRow, Room
from linkly_workers.queue.terms import Terms
from linkly_workers.queue.timetable import Timetable
from linkly_workers.queue.topics import SUBSCRIPTION, Key, key_of

NAMED = "queue"


class Coming(Protocol):
    """Where a job has come in, and when something of it is due."""

    queue: int
    due_at: int | None
    expires_at: int | None


class Queue(msgspec.Struct, eq=False):
    """A queue that is served.

    Attributes:
        row: As it is stored.
        settings: How it is served.
        policy: How its jobs run.
        consumer: Serves it.
        task: In which that happens.
    """

    row: QueueRow
    settings: QueueSettings
    policy: Policy
    consumer: Consumer
    task: asyncio.Task[None]

    @property
    def has_groups(self) -> bool:
        """Whether its jobs stand in message groups."""
        return self.settings.type == "fifo"


class Queues:
    """The queues of one store.

    Args:
        store: Where the jobs are.
        bus: Where they run.
        subscriptions: What subscribers do not say.
    """

    def __init__(self, store: QueueStore, bus: Bus, subscriptions: SubscriptionSettings) -> None:
        self._store = store
        self._bus = bus
        self._subscriptions = subscriptions
        self._subscribed: dict[Key, Queue] = {}
        self._by_id: dict[int, Queue] = {}
        self._named: dict[str, Queue] = {}
        self._rows: dict[int, QueueRow] = {}
        self.rates = Rates(bus.clock)
        self.endings = Endings()
        self.endings.listen(lambda queue, state, positions: self.rates.add(queue, state.name.lower(), len(positions)))
        self.functions = Functions(bus, self.wake)
        self.timetable = Timetable(store, bus.clock, self.moved)
        self._timing: asyncio.Task[None] | None = None

    def __iter__(self) -> Iterator[Queue]:
        """Give those that are served."""
        return iter(list(self._by_id.values()))

    # --- lifetime ------------------------------------------------------------------------------------------

    async def open(self, named: dict[str, QueueSettings]) -> None:
        """Serve the queues of the config and the subscriptions; what ran when an engine ended is put back or buried.

        Raises:
            ConfigError: The store cannot be opened.
            LinklyError: The database is away.
        """
        rows = {name: await self._store.make_queue(NAMED, name, Room.of(settings)) for name, settings in named.items()}
        self._rows = {row.id: row for row in await self._store.queues()}
        await self.functions.ask()
        max_attempts = {row.id: named[name].max_attempts for name, row in rows.items()}
        subscriptions = [row for row in self._rows.values() if row.kind == SUBSCRIPTION and row.has_settings]
        max_attempts |= {row.id: self._terms(row).settings(self._subscriptions).max_attempts for row in subscriptions}
        await self._recover(max_attempts)
        for name, row in rows.items():
            self._named[name] = self.serve(row, named[name])
        for row in subscriptions:
            if row.ended_at is None:
                await self._store.counted_here(row.id, Room.of(self._terms(row).settings(self._subscriptions)))
                self.subscribed(row)
        self._timing = asyncio.get_running_loop().create_task(self.timetable.serve(), name="queue: jobs that are due")

    def subscribed(self, row: QueueRow) -> None:
        """Serve a subscription, from now on as its row says."""
        terms = self._terms(row)
        settings, key = terms.settings(self._subscriptions), key_of(row)
        queue = self._subscribed.get(key)
        if queue is None:
            self._subscribed[key] = self.serve(row, settings, terms.condition_function_id)
            return
        queue.row, queue.settings = row, settings
        queue.policy = Policy.of(row.title, settings, terms.condition_function_id)
        queue.consumer.concurrency = settings.concurrency
        queue.consumer.paused = row.paused
        queue.consumer.wake()

    async def remove(self, queue: Queue, grace_s: float) -> None:
        """Serve a subscription no longer; what runs has ended, or is given back after a time."""
        del self._by_id[queue.row.id], self._subscribed[key_of(queue.row)]
        await queue.consumer.stop(grace_s)
        await asyncio.wait([queue.task])

    def _terms(self, row: QueueRow) -> Terms:
        return Terms.stored(row.settings)

    def serve(self, row: QueueRow, settings: QueueSettings, condition_function_id: str | None = None) -> Queue:
        """Begin to serve a queue."""

        async def run(job: Claimed, lane: Lane) -> Ended:
            return await run_job(self._bus, job, lane, queue.policy, self.functions.is_gone)

        async def served() -> list[Lane]:
            return [lane for lane in await self._store.lanes(row.id) if self.functions.serve(lane)]

        consumer = Consumer(
            row.id,
            self._store,
            self._bus.clock,
            run=run,
            served=served,
            due=self.timetable.due,
            over=lambda state, positions: self.endings.tell(row.id, state, positions),
            concurrency=settings.concurrency,
            groups=settings.type == "fifo",
        )
        consumer.paused = row.paused
        task = asyncio.get_running_loop().create_task(consumer.serve(), name=f"queue {row.title}")
        policy = Policy.of(row.title, settings, condition_function_id)
        queue = self._by_id[row.id] = Queue(row, settings, policy, consumer, task)
        self._rows[row.id] = row
        consumer.wake()
        return queue

    async def close(self, grace_s: float) -> None:
        """Stop in order: see `Consumer.stop`."""
        queues = list(self)
        await asyncio.gather(*(queue.consumer.stop(grace_s) for queue in queues))
        if queues:
            await asyncio.wait([queue.task for queue in queues], timeout=grace_s or None)
        tasks = [task for task in (self._timing, *(queue.task for queue in queues)) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._timing = None

    async def adopt(self) -> None:
        """Take over what runs on engines that are gone, and let it run here if it may."""
        await self._recover({queue.row.id: queue.settings.max_attempts for queue in self})
        self.wake()

    async def read_again(self) -> None:
        """Take over what other engines have changed: queues that are paused, and subscriptions."""
        self._rows = {row.id: row for row in await self._store.queues()}
        for row in self._rows.values():
            queue = self._by_id.get(row.id)
            if queue is not None and queue.row.settings == row.settings:
                queue.row = row
                queue.consumer.paused = row.paused or row.ended_at is not None
                queue.consumer.wake()
            elif row.kind == SUBSCRIPTION and row.has_settings and row.ended_at is None:
                settings = self._terms(row).settings(self._subscriptions)
                if queue is None or queue.settings.type == settings.type:  # else its consumer would have to be another
                    await self._store.counted_here(row.id, Room.of(settings))
                    self.subscribed(row)

    async def _recover(self, max_attempts: dict[int, int]) -> None:
        """Put back what was active when an engine ended; what has no start left is dead."""
        by_queue: dict[tuple[int, int], list[Lost]] = {}
        for job in await self._store.lost():
            by_queue.setdefault((job.queue, job.engine), []).append(job)
        default = QueueSettings().max_attempts
        for (queue, engine), jobs in by_queue.items():
            ended = [job.ended(max_attempts.get(queue, default)) for job in jobs]
            taken = (await self._store.turn(queue, ended, engine=engine)).taken  # others may adopt them as well
            dead = [end.position for end in ended if end.state is State.DEAD and end.position in taken]
            self.endings.tell(queue, State.DEAD, dead)

    # --- finding -------------------------------------------------------------------------------------------

    def named(self, name: str) -> Queue:
        """Return a queue of the config.

        Raises:
            QueueNotFound: There is none of this name.
        """
        try:
            return self._named[name]
        except KeyError:
            raise QueueNotFound(
                f"Queue '{name}' not found; configured: {', '.join(sorted(self._named))}. Add it to `queue_configs` of "
                "the worker `queue` in config.yaml"
            ) from None

    def subscription(self, key: Key) -> Queue | None:
        """Return a subscription that is served, or has ended since the start."""
        return self._subscribed.get(key)

    def served(self, queue: int) -> Queue | None:
        """Return a queue by its number, if it is served."""
        return self._by_id.get(queue)

    def title(self, queue: int) -> str:
        """Return what a queue is called, also one that is not served any more."""
        row = self._rows.get(queue)
        return str(queue) if row is None else row.title

    # --- what happens --------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Look everywhere for jobs."""
        for queue in self._by_id.values():
            queue.consumer.wake()

    def accepted(self, jobs: Sequence[Coming]) -> None:
        """Look where jobs have come in."""
        for job in jobs:
            self.rates.add(job.queue, "accepted", 1)
            if job.due_at is not None:
                self.timetable.due(job.due_at)
            if job.expires_at is not None:
                self.timetable.due(job.expires_at)
        self.woken({job.queue for job in jobs if job.due_at is None})

    def moved(self, moved: Iterable[Due]) -> None:
        """Look where jobs have become due, and tell of those that have expired."""
        by_queue: dict[int, list[int]] = {}
        for each in moved:
            expired = by_queue.setdefault(each.queue, [])
            if each.expires:
                expired.append(each.position)
        for queue, expired in by_queue.items():
            self.endings.tell(queue, State.EXPIRED, expired)
        self.woken(by_queue)

    def paused(self, queue: int, *, paused: bool) -> None:
        """Start nothing more of a queue, or start again."""
        served = self._by_id.get(queue)
        if served is not None:
            served.row.paused = paused
            served.consumer.paused = paused or served.row.ended_at is not None
            served.consumer.wake()

    async def cancelled(self, queue: int, position: int) -> None:
        """Cancel the attempt of a job that was cancelled, if it runs here, and let the next jobs start."""
        served = self._by_id.get(queue)
        if served is not None:
            served.consumer.wake()
            await served.consumer.cancel(position)

    def woken(self, queues: Iterable[int]) -> None:
        """Look for jobs in these queues."""
        for number in queues:
            queue = self._by_id.get(number)
            if queue is not None:
                queue.consumer.wake()

    async def wake_lanes(self, numbers: Sequence[int]) -> None:
        """Look for jobs where these lanes are, if their functions can be called here."""
        self._store.lanes_made(numbers)
        asked = frozenset(numbers)
        self.woken(
            {lane.queue for lane in await self._store.lanes() if lane.id in asked and self.functions.serve(lane)}
        )
