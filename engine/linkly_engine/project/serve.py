"""Run an engine in the foreground: start, welcome, wait for a signal, stop in order.

The first SIGINT or SIGTERM stops accepting, lets calls in flight finish for at most `GRACE_S`, flushes and closes;
a second one ends at once. SIGHUP reads config.yaml again, as every change of the file does; it ends the engine when it
came because the terminal was closed.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from linkly.errors import LinklyError
from linkly.worker import Worker
from linkly_engine.engine import Engine
from linkly_engine.project.config import Config
from linkly_engine.project.descriptors import watch_descriptors
from linkly_engine.project.project import Project
from linkly_engine.project.watch import watch_file

log = logging.getLogger("linkly.engine")

COLLECTOR = (5_000, 20, 100)
"""Thresholds of the garbage collector. A full collection stops the loop: 300 ms with 100,000 registered functions. With
Python's own figures, 700, 10 and 10, a client that registers or inserts in a flood caused one every 200 ms."""

SWITCH_S = 0.0005
"""How long a thread waits before it asks the loop for the interpreter. A commit on the writing thread needs it several
times: with Python's own 5 ms a click took 49 ms (p99 107) while one client flooded the loop, now 10 (23); the flooder
gets as much done."""

GRACE_S = 10.0


def run(
    config: Config,
    workers: list[Worker],
    *,
    on_ready: Callable[[Project], None] | None = None,
) -> int:
    """Serve until a signal comes; return the exit code.

    Args:
        config: The project.
        workers: Its in-process workers, checked, not started.
        on_ready: Called when everything is up, for the text a person sees.

    Raises:
        LinklyError: Something could not start; what did has ended.
    """
    return _run(_serve(config, workers, on_ready))


def _run(main: Coroutine[Any, Any, int]) -> int:
    factory = None
    try:
        import uvloop

        factory = uvloop.new_event_loop
    except ImportError:  # Windows: asyncio's own loop serves as well, slower
        pass
    code: int | None = None
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            code = runner.run(main)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "can't start new thread" not in str(error):
            raise
        if code is not None:  # everything has ended but idle threads of the interpreter
            return code
        raise LinklyError(
            f"the engine has ended: no memory or no thread could be had ({error or 'out of memory'}). What was "
            "answered is as durable as ever. Raise the limit (`ulimit -v`, `ulimit -u`, the container's memory)"
        ) from error
    return code


async def _serve(
    config: Config,
    workers: list[Worker],
    on_ready: Callable[[Project], None] | None,
) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stopping.is_set():
            log.warning("second signal: ending at once")
            logging.shutdown()
            os._exit(130)
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    on_terminal = os.isatty(2)

    def on_hangup() -> None:
        if on_terminal and _terminal_is_gone():
            stopping.set()
        else:
            engine.spawn(project.reload(forced=True), name="SIGHUP")

    async with Engine(namespace_grace_s=config.namespace_grace_s) as engine:
        project = Project(engine, config, workers)
        watching: list[asyncio.Task[None]] = []
        try:
            await project.start()
            # Objects of the start-up live as long as the engine: the collector leaves them out.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*COLLECTOR)
            sys.setswitchinterval(SWITCH_S)
            loop.add_signal_handler(signal.SIGHUP, on_hangup)
            if on_ready is not None:
                on_ready(project)
            watching.append(loop.create_task(watch_file(project.file.path, project.reload), name="config.yaml"))
            watching.append(loop.create_task(watch_descriptors(engine.clock), name="file descriptors"))
            await stopping.wait()
            log.info("stopping: calls in flight have %g s to finish", GRACE_S)
        finally:
            for task in watching:
                task.cancel()
            await project.close()
            draining = asyncio.ensure_future(engine.drain())
            await asyncio.wait([draining], timeout=GRACE_S)
            draining.cancel()
            await project.stop()
    return 0


def _terminal_is_gone() -> bool:
    import termios

    try:
        termios.tcgetattr(2)
    except (OSError, termios.error):
        return True
    return False
