"""The workers of config.yaml by name: found, started, stopped and made anew, one change after the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from linkly.context import current_invocation
from linkly.errors import ConfigError, NotFound, Shutdown
from linkly_engine import CONFIG_FILE
from linkly_engine.engine import Engine
from linkly_engine.project.config import Config
from linkly_engine.project.entry import WorkerEntry
from linkly_engine.project.loader import load_worker
from linkly_engine.project.member import Member
from linkly_engine.project.programs import Programs
from linkly_engine.project.switch import Entering, Switch
from linkly_engine.shipped import ALIASES

log = logging.getLogger("linkly.engine")

T = TypeVar("T")


class Members:
    """The workers that run by a config, or may run by it.

    Args:
        engine: Where those in this process run.
        config: What they start by.
        programs: Starts and ends those in processes of their own.
        drain_s: How long calls in flight have when their worker stops or is made anew.

    Attributes:
        config: What was applied last.
        path: The file that is followed; it need not exist.
        all: One for each entry, in the order of the file.
        closing: `close` was called.
    """

    def __init__(self, engine: Engine, config: Config, programs: Programs, drain_s: float) -> None:
        self.config = config
        self.path = config.file or config.folder.absolute() / CONFIG_FILE
        self.all = [Member(entry) for entry in config.workers]
        self._engine = engine
        self._programs = programs
        self._drain_s = drain_s
        self._lock = asyncio.Lock()
        self._changes: set[asyncio.Task[Any]] = set()
        self.closing = False

    def find(self, name: str) -> Member:
        """Return the worker with this name.

        Raises:
            NotFound: config.yaml has none.
        """
        wanted = ALIASES.get(name, name)
        found = next((each for each in self.all if each.name in (name, wanted)), None)
        if found is None:
            known = ", ".join(f"`{each.name}`" for each in self.all) or "none"
            raise NotFound(f"there is no worker `{name}` in {self.path.name}; there: {known}")
        return found

    async def start(self, name: str) -> Member:
        """Start a worker that does not run; nothing happens to one that does.

        Raises:
            NotFound: config.yaml has none of that name.
            ConfigError: It cannot start.
        """
        return await self.serially(lambda: self._begin(self.find(name), again=False))

    async def restart(self, name: str) -> Member:
        """Make a worker anew, or start it if it does not run; raises as `start`."""
        return await self.serially(lambda: self._begin(self.find(name), again=True))

    async def stop(self, name: str) -> Member:
        """Stop a worker until it is started by name, or its entry changes; calls in flight finish."""
        return await self.serially(lambda: self._halt(self.find(name)))

    async def serially(self, change: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Make a change after those that were asked for before, to its end even if its caller is cancelled.

        Raises:
            Shutdown: `close` was called.
        """
        if self.closing:
            raise Shutdown("the engine is stopping: no worker is started or stopped any more")

        async def run() -> T:
            current_invocation.set(None)  # what is started outlives the call that asked for it, and its deadline
            async with self._lock:
                return await change()

        task = self._engine.spawn(run(), name="a change of the project")
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    async def switch(self, leaving: list[Member], entering: list[Entering]) -> list[str]:
        """Stop and start in-process workers in one go; return sentences about what could not be done."""
        return await Switch(self._engine, drain_s=self._drain_s).run(leaving, entering)

    def arrange(self) -> None:
        """Let in-process workers end in the reverse order of the file."""
        self._engine.host.arrange(member.worker for member in self.all if member.worker is not None)

    def close(self) -> None:
        """Begin no change any more."""
        self.closing = True

    async def closed(self) -> None:
        """Wait until the changes that have begun are made; those that take longer than `drain_s` are cancelled."""
        if self._changes:
            _, unfinished = await asyncio.wait(self._changes, timeout=self._drain_s)
            for change in unfinished:
                change.cancel()
            if unfinished:
                await asyncio.wait(unfinished)

    async def _begin(self, member: Member, *, again: bool) -> Member:
        ran = member.runs
        if ran and not again:
            return member
        if member.entry.folder is not None:
            member.stopped = False
            await self._programs.restart(member, self.config)
        else:
            entry = self.config.workers[self.all.index(member)]  # the file's, also if it runs by earlier settings
            worker = load_worker(entry)
            member.stopped = False
            problems = await self.switch([], [Entering(member, entry, worker)])
            self.arrange()
            if problems:
                raise ConfigError(problems[0])
        member.restarts += ran and member.child is None
        log.info("worker `%s` %s%s", member.name, "made anew" if ran else "started", _same_code(member.entry))
        return member

    async def _halt(self, member: Member) -> Member:
        member.stopped = True
        if member.child is not None:
            await member.child.stop()
        await self.switch([member], [])
        log.info("worker `%s` stopped", member.name)
        return member


def _same_code(entry: WorkerEntry) -> str:
    """Return the end of a sentence for a user who has changed the code of a class."""
    return "" if entry.module is None else f", from the code of `{entry.module}` that the engine has loaded already"
