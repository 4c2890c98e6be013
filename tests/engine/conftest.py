"""A project that runs in the test's process, by a real config.yaml in a folder of its own."""

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from linkly.clock import Clock
from linkly_engine.engine import Engine
from linkly_engine.project.config import load
from linkly_engine.project.differences import Applied
from linkly_engine.project.loader import load_workers
from linkly_engine.project.project import Project

PORTS = "workers:\n  - name: iii-worker-manager\n    config: {port: 0}\n"

PROBE = '''
import asyncio
from contextlib import asynccontextmanager
from linkly import Settings, Worker, function, http

class ProbeSettings(Settings):
    greeting: str = "hello"
    fail_start: bool = False
    fail_ready: bool = False

notes = []
entered, gate = asyncio.Event(), asyncio.Event()

class Probe(Worker):
    """Says when it starts and ends, and can be made to wait."""
    name = "probe"
    settings_type = ProbeSettings

    @asynccontextmanager
    async def lifespan(self):
        if self.settings.fail_start:
            raise OSError("no disk")
        notes.append(f"{self.settings.greeting} starts")
        yield
        notes.append(f"{self.settings.greeting} ends")

    async def ready(self):
        if self.settings.fail_ready:
            raise RuntimeError("no table")

    @function("probe::hello", triggers=[http("GET", "/hello")])
    async def hello(self) -> dict:
        """Greet."""
        return {"body": self.settings.greeting}

    @function("probe::wait")
    async def wait(self) -> str:
        """Wait, then greet through the bus."""
        entered.set()
        await gate.wait()
        return (await self.bus.trigger("probe::hello"))["body"]
'''


class Live:
    """A running project and its file."""

    def __init__(self, engine: Engine, project: Project, folder: Path) -> None:
        self.engine = engine
        self.project = project
        self.folder = folder
        self.bus = engine.bus("test")
        self.probe: Any = importlib.import_module("live_probe")
        self.probe.notes.clear()
        self.probe.entered, self.probe.gate = type(self.probe.gate)(), type(self.probe.gate)()

    def write(self, text: str) -> None:
        (self.folder / "config.yaml").write_text(PORTS + text)

    async def change(self, text: str) -> Applied | None:
        """Write the file and have it read."""
        self.write(text)
        return await self.project.reload()

    async def until_it_ends(self, function_id: str) -> None:
        """Wait until the worker of a function is about to be stopped."""
        while self.engine.tables.functions.find("default", function_id).owner.alive:  # type: ignore[union-attr]  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def rows(self) -> dict[str, Any]:
        """Return what `worker::list` says, by name."""
        return {row["name"]: row for row in (await self.bus.trigger("worker::list"))["workers"]}

    def worker(self, name: str) -> Any:
        return self.project.members.find(name).worker


Run = Callable[..., AbstractAsyncContextManager[Live]]


@pytest.fixture
def live(tmp_path: Path) -> Run:
    """Return what runs a project with the workers given, below a worker port on any free port."""
    (tmp_path / "live_probe.py").write_text(PROBE)

    @asynccontextmanager
    async def run(text: str, *, clock: Clock | None = None) -> AsyncIterator[Live]:
        (tmp_path / "config.yaml").write_text(PORTS + text)
        config = load(tmp_path / "config.yaml")
        async with Engine(clock=clock) as engine:
            project = Project(engine, config, load_workers(config))
            try:
                await project.start()
                yield Live(engine, project, tmp_path)
            finally:
                await project.close()
                await project.stop()

    return run
