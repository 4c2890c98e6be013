"""Workers in processes of their own: real folders, real processes, an engine with a real port."""

import asyncio
import json
import logging
import os
import select
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from linkly.clock import Clock
from linkly.worker import Worker
from linkly_engine.engine import Engine
from linkly_engine.process.child import ChildWorker
from linkly_engine.process.guard import Guard
from linkly_engine.process.starting import Starter
from linkly_engine.remote.server import WorkerServer
from support.serving import serving

LIMIT_S = 30
PATHS = os.pathsep.join(path for path in sys.path if path.endswith(("sdk", "engine", "workers")))


class Children:
    """An engine, its worker port, and the folders of its workers."""

    def __init__(self, engine: Engine, server: WorkerServer, guard: Guard, folder: Path) -> None:
        self.engine = engine
        self.guard = guard
        self.folder = folder
        self.bus = engine.bus("test")
        self.url = server.url
        self.all: list[ChildWorker] = []

    def write(self, name: str, text: str, worker: str = "w") -> Path:
        """Write a file of a worker."""
        path = self.folder / worker / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def manifest(
        self,
        start: str,
        *,
        worker: str = "w",
        env: dict[str, str] | None = None,
        watch: str = "engine",
        **scripts: str,
    ) -> None:
        """Write the manifest of a worker."""
        manifest = {
            "name": worker,
            "scripts": {"start": start, **scripts},
            "env": {"PYTHONPATH": PATHS, **(env or {})},
            "watch": watch,
        }
        self.write("iii.worker.yaml", json.dumps(manifest), worker)

    def child(self, worker: str = "w", **options: Any) -> ChildWorker:
        """Return a worker that is not started yet."""
        starter = Starter(
            self.engine.exchange,
            self.engine.peers,
            name=worker,
            folder=self.folder / worker,
            url=lambda: self.url,
            logs=self.folder / ".linkly" / "logs" / worker,
            guard=self.guard,
            **options,
        )
        child = ChildWorker(self.engine.clock, starter)
        self.all.append(child)
        return child

    async def started(self, worker: str = "w", **options: Any) -> ChildWorker:
        """Return a worker that runs, or has failed."""
        child = self.child(worker, **options)
        await child.start()
        await child.status.outcome()
        await child.watching()
        return child

    async def spawned(self, worker: str = "w", **options: Any) -> ChildWorker:
        """Return a worker whose program has been started."""
        child = self.child(worker, **options)
        with Said("linkly.process") as lines:
            await child.start()
            await lines.line_with("started as process")
        return child

    async def after_its_word(self, word: str, worker: str = "w", **options: Any) -> ChildWorker:
        """Return a worker whose program has written a line."""
        child = self.child(worker, **options)
        with Said(f"linkly.worker.{worker}") as lines:
            await child.start()
            await lines.line_with(word)
        return child


Run = Callable[..., AbstractAsyncContextManager[Children]]


@pytest.fixture
def children(tmp_path: Path) -> Run:
    """Return what runs an engine with its workers below `tmp_path`; all must be over in `LIMIT_S`."""

    @asynccontextmanager
    async def run(*workers: Worker, clock: Clock | None = None) -> AsyncIterator[Children]:
        async with asyncio.timeout(LIMIT_S), serving(*workers, clock=clock) as (engine, server), Guard() as guard:
            running = Children(engine, server, guard, tmp_path)
            try:
                yield running
            finally:
                for child in running.all:
                    await child.stop()

    return run


class Said(logging.Handler):
    """Waits for lines of a logger."""

    def __init__(self, logger: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._more = asyncio.Event()
        self._logger = logging.getLogger(logger)
        self._level = self._logger.level

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self._more.set()

    async def line_with(self, text: str, times: int = 1) -> str:
        """Wait until as many lines contain a text; return the last."""
        while sum(text in line for line in self.lines) < times:
            self._more.clear()
            await self._more.wait()
        return [line for line in self.lines if text in line][-1]

    def __enter__(self) -> "Said":
        self._logger.addHandler(self)
        self._logger.setLevel(logging.DEBUG)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)


@pytest.fixture
def said() -> type[Said]:
    return Said


def has_ended(pid: int, within_s: float = LIMIT_S) -> bool:
    """Wait until a process has ended; blocks the loop."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], within_s)[0])
    finally:
        os.close(descriptor)


@pytest.fixture
def ended() -> Callable[..., bool]:
    return has_ended


PROGRAM = """\
import asyncio, os
from linkly import Client, Function, http

VERSION = "one"

async def main():
    async with Client(os.environ["LINKLY_URL"], name="w") as bus:
        async def version(payload):
            return VERSION
        async def slow(payload):
            await bus.trigger("gate::wait")
            return VERSION
        async def page(payload):
            return {"body": {VERSION: payload["path_params"]}}
        bus.register_function(Function("w::version", version))
        bus.register_function(Function("w::slow", slow))
        bus.register_function(Function("w::page", page))
        bus.register_trigger("w::page", http("GET", "/page/:PARAMETER"))
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def program() -> Callable[..., str]:
    """Return the text of a program in some version."""

    def text(version: str = "one", parameter: str = "id") -> str:
        return PROGRAM.replace('"one"', f'"{version}"').replace("PARAMETER", parameter)

    return text
