"""An engine in the test's process, for tests that need the engine beside a bus; `linkly.testing` has the others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from linkly.bus import Bus
from linkly.clock import Clock
from linkly.worker import Worker
from linkly_engine.core.changes import FunctionGone, FunctionHandedOn, FunctionServed
from linkly_engine.engine import Engine
from linkly_engine.remote.server import WorkerServer


@asynccontextmanager
async def engine_and_bus(*workers: Worker, clock: Clock | None = None) -> AsyncIterator[tuple[Engine, Bus]]:
    """Run an engine with workers and no port; yield it and a bus of the worker `test`."""
    async with Engine(clock=clock) as engine:
        await engine.start(workers)
        yield engine, engine.bus("test")


@asynccontextmanager
async def serving(
    *workers: Worker, clock: Clock | None = None, port: int = 0, **listener: Any
) -> AsyncIterator[tuple[Engine, WorkerServer]]:
    """Run an engine with workers and a worker port, by default any free one.

    Args:
        workers: Run in the engine.
        clock: For time-outs and everything else of the engine that waits.
        port: 0 for a free one.
        listener: What else `WorkerServer` takes.
    """
    async with Engine(clock=clock) as engine:
        if workers:
            await engine.start(workers)
        server = WorkerServer(engine, port=port, **listener)
        await server.start()
        try:
            yield engine, server
        finally:
            await server.stop()


async def until_served(engine: Engine, function_id: str, served: bool = True) -> None:
    """Return when somebody serves a function, or nobody does any more."""
    changed = asyncio.Event()
    engine.tables.observe(lambda _: changed.set(), FunctionServed, FunctionHandedOn, FunctionGone)
    while (engine.tables.functions.find("default", function_id) is not None) != served:
        changed.clear()
        await changed.wait()
