"""The engine: the only place where the tables meet awaiting.

It owns one registry, one table of triggers, one of workers, and the lifetimes of everything that was started.
In-process workers reach it through a `LocalBus`, remote ones through a `Peer`; both end in the same tables.

Start: `async with engine:`, then `await engine.start(workers)`, then open listeners (`linkly_engine.remote.server`).
Single in-process workers come and go with `start_worker` and `stop_worker`.
Stop: listeners first, then `await engine.stop()`: in-process workers end in reverse order, what they still serve
is finished by their own `lifespan`, remote workers are cut in a way that makes every published client come back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import msgspec

from linkly.clock import Clock, SystemClock
from linkly.deadline import Deadlines
from linkly.errors import ConfigError, LinklyError
from linkly.wire.connection import FrameStream
from linkly.worker import Worker, running
from linkly_engine.builtin.worker import EngineWorker
from linkly_engine.core.provider import tell_provider
from linkly_engine.core.records import WorkerRecord
from linkly_engine.core.router import Router
from linkly_engine.core.tables import Tables
from linkly_engine.local.bus import LocalBus
from linkly_engine.local.handover import Handover
from linkly_engine.remote.channels import ChannelStore
from linkly_engine.remote.peers import Peers
from linkly_engine.remote.turns import Turns
from linkly_engine.telemetry import Telemetry, events
from linkly_engine.telemetry.failures import Failures
from linkly_engine.telemetry.worker import TelemetryWorker

if TYPE_CHECKING:
    from linkly_engine.remote.admission import Arrival

log = logging.getLogger("linkly.engine")

NAMESPACE_GRACE_S = 5.0
FLUSH_S, FLUSH_STEP_S = 1.0, 0.005
DRAIN_S = 10.0
"""How long calls in flight have when their in-process worker is stopped."""


class _Hosted(msgspec.Struct, eq=False):
    """An in-process worker that was started: what ends it."""

    worker: Worker
    record: WorkerRecord
    stack: AsyncExitStack
    internal: bool


class Engine:
    """Routes calls between workers.

    Args:
        clock: What all time-outs go by.
        namespace_grace_s: How long a connection may stay silent about its namespace before its registrations
            land in `default`.

    Attributes:
        tables: Functions, triggers and workers, in process and remote.
        router: Finds who serves a call.
        peers: Remote workers by worker id.
        channels: Byte streams between workers.
        arrivals: Programs that are being started, to whom a new connection may belong.
        telemetry: What workers and the engine say about themselves.
        failures: Says which handlers have failed.
        turns: Shares the loop among the connections of remote workers.
    """

    def __init__(self, *, clock: Clock | None = None, namespace_grace_s: float = NAMESPACE_GRACE_S) -> None:
        self.clock: Clock = clock or SystemClock()
        self.namespace_grace_s = namespace_grace_s
        self.deadlines = Deadlines(self.clock)
        self.tables = Tables()
        self.router = Router(self.tables.functions)
        self.peers = Peers()
        self.channels = ChannelStore(self.clock)
        self._hosted: list[_Hosted] = []
        self.arrivals: list[Arrival] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self.telemetry = Telemetry(self.clock, self.peers.__contains__)
        self.failures = Failures()
        self.turns = Turns()
        self._builtins = EngineWorker(self)
        for observer in (tell_provider, self.peers.follow, self._builtins.follow, events.log_change):
            self.tables.observe(observer)

    # --- lifetime ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Engine:
        await self.start_worker(self._builtins, internal=True)
        await self.start_worker(TelemetryWorker(self.telemetry), internal=True)
        self.channels.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    async def start(self, workers: Iterable[Worker]) -> None:
        """Start in-process workers in order, bind their triggers, then call each one's `ready`.

        Raises:
            ConfigError: A worker could not start; nothing is left running after `stop`.
        """
        started = list(workers)
        for worker in started:
            await self.start_worker(worker)
        await self.acknowledged()
        for worker in started:
            await worker.ready()

    async def stop(self) -> None:
        """End everything: remote workers are dismissed, in-process ones ended in reverse order."""
        streams = [peer.connection.stream for peer in self.peers.values()]
        for peer in list(self.peers.values()):
            peer.dismiss()
        await _flushed(streams)
        try:
            async with AsyncExitStack() as ends:
                for hosted in self._hosted:
                    ends.push_async_callback(self._end, hosted)
        finally:
            self.channels.stop()
            tasks = [task for task in self._tasks if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            self.deadlines.close()

    async def drain(self) -> None:
        """Wait until every call that a remote worker has made has been answered, and every worker has drained."""
        # Beside one another: a call may wait for what only a drain ends, a transaction that somebody left open.
        await asyncio.gather(
            *(peer.connection.drain() for peer in self.peers.values()), *(_drain(worker) for worker in self.running)
        )
        await asyncio.gather(*(_drain(worker) for worker in self.running))  # what those calls have set off since

    async def acknowledged(self) -> None:
        """Wait until every in-process provider has dealt with every binding it was told of."""
        for each in list(self.tables.triggers.providers):
            await each.provider.acknowledged()

    def bus(self, name: str, *, internal: bool = True) -> LocalBus:
        """Return a bus for code that lives beside the engine, registered as worker `name`."""
        record = WorkerRecord(
            name=name,
            namespace="default",
            in_process=True,
            announced=True,
            internal=internal,
            runtime="engine",
            isolation="in-process",
            connected_at_ms=int(self.clock.time() * 1000),
        )
        self.tables.add_worker(record)
        return LocalBus(self, record)

    async def start_worker(
        self, worker: Worker, *, internal: bool = False, takes_over: Handover | None = None
    ) -> WorkerRecord:
        """Start one in-process worker; its triggers are bound when `acknowledged` returns, its `ready` is the caller's.

        Args:
            worker: Checked, not started.
            internal: It is a part of the engine: not among `running`.
            takes_over: What an earlier generation left.

        Raises:
            ConfigError: It could not start; nothing of it is left.
        """
        bus = self.bus(worker.name, internal=internal)
        self.tables.claim_name(bus.record, bus.record.home, worker.name, shared=True)
        if takes_over is not None:
            bus.before_first_registration = takes_over.hand_over
        async with AsyncExitStack() as stack:
            stack.callback(self.tables.forget, bus.record)
            try:
                if takes_over is not None:
                    takes_over.bequeath(worker)
                await stack.enter_async_context(running(worker, bus, alone=False))
            except LinklyError:
                raise
            except OSError as error:
                raise ConfigError(f"worker `{worker.name}` could not start: {error}") from error
            self._hosted.append(_Hosted(worker, bus.record, stack.pop_all(), internal))
        return bus.record

    async def stop_worker(self, worker: Worker, *, waiting: bool = False, drain_s: float = DRAIN_S) -> Handover:
        """Stop one in-process worker: calls in flight finish, new ones are kept from it, then it ends.

        Args:
            worker: A running one.
            waiting: A next generation comes at once: new calls wait for it. The caller has to `release` what is
                returned when it is up, or when it will not come.
            drain_s: How long calls in flight have.

        Returns:
            What stands in for it, for `start_worker(takes_over=...)`.
        """
        hosted = next(each for each in self._hosted if each.worker is worker)
        handover = Handover(self, hosted.record, waiting=waiting)
        with suppress(TimeoutError):
            async with asyncio.timeout(drain_s), asyncio.TaskGroup() as beside:
                beside.create_task(_drain(worker))  # a call may wait for what only this ends, as in `drain`
                # Asked now and then: an event would cost something on the way of every call.
                while handover.in_flight:  # noqa: ASYNC110
                    await asyncio.sleep(FLUSH_STEP_S)
                await _drain(worker)
        if handover.in_flight:
            log.warning("worker `%s` ends with %d calls unfinished", worker.name, handover.in_flight)
        try:
            if waiting:
                handover.keep(worker)
            await self._end(hosted)
        except Exception:
            log.exception("worker `%s` failed while it ended", worker.name)
        if not waiting:
            handover.release()
        return handover

    @property
    def running(self) -> list[Worker]:
        """In-process workers, the engine's own left out, in the order in which they start; they end in reverse."""
        return [hosted.worker for hosted in self._hosted if not hosted.internal]

    def arrange(self, order: Iterable[Worker]) -> None:
        """Say in which order the running workers stand; those not named stay in front of the others."""
        places = {id(worker): place for place, worker in enumerate(order)}
        self._hosted.sort(key=lambda hosted: places.get(id(hosted.worker), -1))

    def record_of(self, worker: Worker) -> WorkerRecord | None:
        """Return the lifetime of an in-process worker; `None` if it does not run."""
        return next((hosted.record for hosted in self._hosted if hosted.worker is worker), None)

    async def _end(self, hosted: _Hosted) -> None:
        self._hosted.remove(hosted)
        await hosted.stack.aclose()

    def spawn(self, coroutine: Coroutine[Any, Any, Any], *, name: str = "") -> asyncio.Task[Any]:
        """Run something the engine owns: it is cancelled at the latest when the engine stops."""
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(coroutine, name=name or None)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @property
    def background_calls(self) -> int:
        """Count the calls nobody waits for that are still running."""
        return len(self._tasks)


async def _flushed(streams: list[FrameStream]) -> None:
    """Let the sockets take what is queued; one that does not read is not waited for."""
    waited_s = 0.0
    while waited_s < FLUSH_S and any(stream.buffered_bytes() for stream in streams):
        await asyncio.sleep(FLUSH_STEP_S)  # a stream tells nobody that it is empty, and this is the end of everything
        waited_s += FLUSH_STEP_S


async def _drain(worker: Worker) -> None:
    """Let a worker finish what it owes; that it fails must keep nobody else from ending in order."""
    try:
        await worker.drain()
    except Exception:
        log.exception("worker `%s` failed while it drained", worker.name)
