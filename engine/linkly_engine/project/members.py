"""The workers of config.yaml by name: found, started, stopped and made anew, one change after the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from linkly.clock import time_limit
from linkly.context import current_invocation
from linkly.errors import ConfigError, NotFound, Shutdown
from linkly_engine.core.exchange import Exchange
from linkly_engine.local.host import DRAIN_S, Host
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
        exchange: What their changes are spawned in.
        host: Starts and ends those in this process.
        programs: Starts and ends those in processes of their own.
        config: What they start by.

    Attributes:
        config: What was applied last.
        all: One for each entry, in the order of the file.
        closing: `close` was called.
    """

    def __init__(self, exchange: Exchange, host: Host, programs: Programs, config: Config) -> None:
        self.config = config
        self.all = [Member(entry) for entry in config.workers]
        self._exchange = exchange
        self._host = host
        self._programs = programs
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
            raise NotFound(f"there is no worker `{name}` in {self.config.path.name}; there: {known}")
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

        task = self._exchange.spawn(run(), name="a change of the project")
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    async def switch(self, leaving: list[Member], entering: list[Entering]) -> list[str]:
        """Stop and start in-process workers in one go; return sentences about what could not be done."""
        return await Switch(self._host).run(leaving, entering)

    def arrange(self) -> None:
        """Let in-process workers end in the reverse order of the file."""
        self._host.arrange(member.worker for member in self.all if member.worker is not None)

    def close(self) -> None:
        """Begin no change any more."""
        self.closing = True

    async def closed(self) -> None:
        """Wait until the changes that have begun are made; those that take longer than `DRAIN_S` are cancelled."""
        if self._changes:
            with suppress(TimeoutError):
                async with time_limit(self._exchange.clock, DRAIN_S):
                    await asyncio.wait(self._changes)
        if self._changes:
            for change in self._changes:
                change.cancel()
            await asyncio.wait(self._changes)

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
