"""An engine in a fixture, in memory. It is loaded by name when a test asks for one: this package does not import it."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from linkly.bus import Bus
from linkly.channel import ChannelReader, ChannelRef, ChannelWriter
from linkly.client import DRAIN_S, Client
from linkly.clock import Clock
from linkly.testing.clock import ManualClock, settle
from linkly.wire.dialer import Attach
from linkly.wire.memory import memory_pair
from linkly.worker import Worker, running


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
