"""Run an engine in the foreground: start, say what is there, wait for a signal, stop in order.

The first SIGINT or SIGTERM stops accepting, lets calls in flight finish for at most `GRACE_S`, flushes and closes;
a second one ends at once.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from linkly.errors import LinklyError
from linkly.worker import Worker
from linkly_engine.engine import Engine
from linkly_engine.server import WorkerServer

log = logging.getLogger("linkly.engine")

GRACE_S = 10.0


class Listener(Protocol):
    """Where remote workers may connect, from config.yaml."""

    host: str
    port: int
    handshake_timeout_s: float


class Project(Protocol):
    """What `linkly_engine.config` makes of a config.yaml."""

    @property
    def listeners(self) -> list[Any]:
        """Worker ports to open, each a `Listener`."""
        ...

    @property
    def namespace_grace_s(self) -> float:
        """How long a connection's namespace may stay unknown."""
        ...


def run(
    project: Project,
    workers: list[Worker],
    *,
    on_ready: Callable[[Engine, list[WorkerServer]], None] | None = None,
) -> int:
    """Serve until a signal comes; return the exit code.

    Args:
        project: Listeners and engine settings.
        workers: Checked, not started.
        on_ready: Called when everything is up, for the text a person sees.
    """
    try:
        return _run(_serve(project, workers, on_ready))
    except LinklyError as error:
        print(f"Error: {error.message}", file=sys.stderr)
        return 1


def _run(main: Coroutine[Any, Any, int]) -> int:
    factory = None
    try:
        import uvloop

        factory = uvloop.new_event_loop
    except ImportError:  # Windows: asyncio's own loop serves as well, slower
        pass
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


async def _serve(
    project: Project,
    workers: list[Worker],
    on_ready: Callable[[Engine, list[WorkerServer]], None] | None,
) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stopping.is_set():
            log.warning("second signal: ending at once")
            os._exit(130)
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    servers: list[WorkerServer] = []
    async with Engine(namespace_grace_s=project.namespace_grace_s) as engine:
        try:
            await engine.start(workers)
            for listener in project.listeners:
                server = WorkerServer(
                    engine,
                    host=listener.host,
                    port=listener.port,
                    handshake_timeout_s=listener.handshake_timeout_s,
                )
                await server.start()
                servers.append(server)
            # What start-up made lives as long as the engine: the collector need not look at it again.
            gc.collect()
            gc.freeze()
            if on_ready is not None:
                on_ready(engine, servers)
            await stopping.wait()
            log.info("stopping: calls in flight have %g s to finish", GRACE_S)
        finally:
            for server in servers:
                await server.stop()
        draining = asyncio.ensure_future(engine.drain())
        await asyncio.wait([draining], timeout=GRACE_S)
        draining.cancel()
    return 0
