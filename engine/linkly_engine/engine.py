"""The engine: makes the tables and what works on them, and owns every lifetime.

In-process workers reach the tables through a `LocalBus`, remote ones through a `Peer`.

Start: `async with engine:`, then `await engine.start(workers)`, then open listeners (`linkly_engine.remote.server`).
Single in-process workers are started and stopped by `host`.
Stop: close the listeners, then `await engine.stop()`: remote workers are closed with a code after which every published
client reconnects; in-process workers end, those that only call first (a gateway), and their `lifespan` finishes what
they still serve.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any

from linkly.clock import Clock, SystemClock
from linkly.deadline import Deadlines
from linkly.worker import Worker
from linkly_engine.builtin.listings import Listings
from linkly_engine.builtin.worker import EngineWorker
from linkly_engine.core.changes import BindingLive, BindingRefused, BindingTakenBack, FunctionHandedOn, TypeProvided
from linkly_engine.core.channels import ChannelStore
from linkly_engine.core.exchange import Exchange
from linkly_engine.core.provider import tell_provider
from linkly_engine.core.records import WorkerRecord
from linkly_engine.core.router import Router
from linkly_engine.core.tables import Tables
from linkly_engine.local.bus import LocalBus
from linkly_engine.local.host import Host
from linkly_engine.remote.peers import Peers
from linkly_engine.remote.turns import Turns
from linkly_engine.telemetry import Telemetry, events
from linkly_engine.telemetry.failures import Failures
from linkly_engine.telemetry.worker import TelemetryWorker

NAMESPACE_GRACE_S = 5.0
FLUSH_S = 1.0
"""How long a stop waits until what is queued for remote workers is sent."""


class Engine:
    """One engine: all that routes calls between workers, and every lifetime in it.

    Args:
        namespace_grace_s: How long a connection may stay silent about its namespace before its registrations
            land in `default`.
    """

    def __init__(self, *, clock: Clock | None = None, namespace_grace_s: float = NAMESPACE_GRACE_S) -> None:
        self.clock: Clock = clock or SystemClock()
        self.deadlines = Deadlines(self.clock)
        self.tables = Tables()
        self.channels = ChannelStore(self.clock)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.turns = Turns()
        self.exchange = Exchange(
            self.tables,
            Router(self.tables.functions),
            self.channels,
            self.clock,
            self.deadlines,
            self.spawn,
            Failures().failed,
        )
        self.peers = Peers(self.exchange, namespace_grace_s)
        self.telemetry = Telemetry(self.clock, self.peers.__contains__)
        self.host = Host(self.exchange)
        self.tables.observe(tell_provider, BindingLive, BindingTakenBack)
        self.tables.observe(self.peers.tell_refusal, BindingRefused)
        listings = Listings(self.tables, self.peers.calls_in_flight, self._metrics_of)
        self._builtins = EngineWorker(self.exchange, self.peers.admit, listings, self.statistics)
        self._log_functions = TelemetryWorker(self.telemetry)
        self.tables.observe(events.function_handed_on, FunctionHandedOn)
        self.tables.observe(events.type_provided, TypeProvided)
        self.tables.observe(events.binding_refused, BindingRefused)

    # --- lifetime ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Engine:
        await self.host.start(self._builtins, internal=True)
        await self.host.start(self._log_functions, internal=True)
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
            await self.host.start(worker)
        await self.acknowledged()
        for worker in started:
            await self.host.ready(worker)

    async def stop(self) -> None:
        """Dismiss remote workers, end in-process ones (`Host.end`), cancel what is left."""
        streams = [peer.connection.stream for peer in self.peers.values()]
        for peer in list(self.peers.values()):
            peer.dismiss()
        with suppress(TimeoutError):  # a client may have stopped reading
            async with asyncio.timeout(FLUSH_S):
                for stream in streams:
                    await stream.ended()
        try:
            await self.host.end()
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
        await asyncio.gather(*(peer.connection.drain() for peer in self.peers.values()), self.host.drain())
        await self.host.drain()  # what those calls have set off since

    async def acknowledged(self) -> None:
        """Wait until every in-process provider has dealt with every binding it was told of."""
        await self.host.acknowledged()

    def bus(self, name: str, *, internal: bool = True) -> LocalBus:
        """Return a bus for code that lives beside the engine, registered as worker `name`."""
        return self.host.bus(name, internal=internal)

    def statistics(self) -> dict[str, Any]:
        """Return how full every buffer is: what `engine::statistics` answers."""
        return {
            "functions": len(self.tables.functions),
            "waiting_functions": self.tables.functions.waiting,
            "background_calls": self.background_calls,
            "armed_deadlines": len(self.deadlines),
            "parked_triggers": sum(1 for binding in self.tables.triggers.bindings if binding.live_at is None),
            "channels": [
                {"id": pipe.id, "messages": pipe.buffered_messages, "bytes": pipe.buffered_bytes}
                for pipe in self.channels
            ],
            "frames_waiting": self.turns.frames_waiting,
            "telemetry": self.telemetry.statistics(),
            "connections": self.peers.statistics(),
        }

    def _metrics_of(self, worker: WorkerRecord) -> dict[str, Any] | None:
        return self.telemetry.gauges.of(worker.id, worker.runtime, int(self.clock.time() * 1000))

    def spawn(self, coroutine: Coroutine[Any, Any, Any], *, name: str = "") -> asyncio.Task[Any]:
        """Run something the engine owns: it is cancelled at the latest when the engine stops."""
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(coroutine, name=name or None)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @property
    def background_calls(self) -> int:
        """Count the calls nobody waits for that are still running, those of the engine's own events included."""
        return len(self._tasks) + self._builtins.events_waiting + self._log_functions.firings_waiting
