"""What users need to test their workers: an engine in a fixture, a wire in memory, a clock that tests move.

    async def test_greets():
        async with running_engine(Greeter()) as bus:
            assert await bus.trigger("greeter::hello", {"name": "Ann"}) == "hello Ann"

The engine is loaded by name when a test asks for one: this package does not import it.
"""

from __future__ import annotations

import asyncio
import heapq
import importlib
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from linkly.bus import Bus
from linkly.channel import ChannelReader, ChannelRef, ChannelWriter
from linkly.client import DRAIN_S, Client
from linkly.clock import Clock
from linkly.wire.dialer import Attach
from linkly.wire.memory import memory_pair
from linkly.worker import Worker, running


class ManualClock:
    """A clock that stands still until a test moves it.

    Args:
        start: Seconds since the epoch.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._start = start
        self._order = itertools.count()
        self._timers: list[tuple[float, int, ManualTimer]] = []

    def time(self) -> float:
        """Seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        return self._now - self._start

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> ManualTimer:
        """Call `callback` when the clock has been moved by `delay_s`."""
        timer = ManualTimer(callback)
        heapq.heappush(self._timers, (self._now + delay_s, next(self._order), timer))
        return timer

    async def sleep(self, delay_s: float) -> None:
        """Return when the clock has been moved by `delay_s`."""
        due = asyncio.Event()
        self.call_later(delay_s, due.set)
        await due.wait()

    async def advance(self, seconds: float) -> None:
        """Move the clock, run what falls due in order, and let the loop settle after each."""
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            due, _, timer = heapq.heappop(self._timers)
            if timer.cancelled:
                continue
            self._now = max(self._now, due)
            timer.callback()
            await settle()
        self._now = end
        await settle()


class ManualTimer:
    """A pending `ManualClock.call_later`."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """Forget the call."""
        self.cancelled = True


async def settle(turns: int = 20) -> None:
    """Let everything that is ready to run do so."""
    for _ in range(turns):
        await asyncio.sleep(0)


@asynccontextmanager
async def running_engine(
    *workers: Worker, wire: bool = False, clock: Clock | None = None, native: bool = True
) -> AsyncIterator[Bus]:
    """Run an engine with `workers`, in memory, without any port.

    Args:
        workers: Started in this order.
        wire: Run every worker, and the bus that is yielded, as remote ones over a wire in memory: a worker has to
            behave the same both ways.
        clock: For time-outs and everything that asks `bus.clock`.
        native: Over the wire: linkly's native framing, otherwise JSON as iii's clients speak it.

    Yields:
        A bus to call the workers with, registered as worker `test`.
    """
    engine_class: Any = importlib.import_module("linkly_engine.engine").Engine
    async with AsyncExitStack() as stack:
        engine: Any = await stack.enter_async_context(engine_class(clock=clock))
        if not wire:
            await engine.start(workers)
            yield engine.bus("test")
            return
        for worker in workers:
            bus = await stack.enter_async_context(wired(engine, name=worker.name, native=native))
            await stack.enter_async_context(running(worker, bus, alone=False))
        # A worker's own calls may need every other worker's registrations: they are all with the engine now.
        await settle()
        await engine.acknowledged()
        for worker in workers:
            await worker.ready()
        yield await stack.enter_async_context(wired(engine, name="test", native=native))


@asynccontextmanager
async def wired(engine: Any, *, name: str = "test", native: bool = True) -> AsyncIterator[Client]:
    """Connect a client to an engine over a wire in memory."""
    client = Client("memory://engine", name=name, dialer=_MemoryDialer(engine, native), clock=engine.clock)
    async with client:
        try:
            yield client
        finally:
            await _close(client)


async def _close(client: Client) -> None:
    """Close a client; a manual clock moves by the time that a call which nobody can cancel may take."""
    closing = asyncio.ensure_future(client.close())
    if isinstance(client.clock, ManualClock):
        await settle()
        if not closing.done():
            await client.clock.advance(DRAIN_S)
    await closing


class _MemoryDialer:
    """Reaches an engine in this process through a wire in memory; channels are opened directly."""

    def __init__(self, engine: Any, native: bool) -> None:
        self._engine = engine
        self._native = native

    async def connect(self, attach: Attach) -> None:
        near, far = memory_pair()
        near.receiver = attach(near, self._native)
        peer = self._engine.peers.connected(far, native=self._native)
        far.receiver = peer.receiver
        peer.start()

    async def open_reader(self, reference: ChannelRef) -> ChannelReader:
        ends: Any = importlib.import_module("linkly_engine.local.channels")
        reader: ChannelReader = ends.LocalReader(self._engine.channels, reference)
        return reader

    async def open_writer(self, reference: ChannelRef) -> ChannelWriter:
        ends: Any = importlib.import_module("linkly_engine.local.channels")
        writer: ChannelWriter = ends.LocalWriter(self._engine.channels, reference)
        return writer
