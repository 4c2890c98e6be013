"""A generation of a worker from its manifest to the moment at which it can serve."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from linkly.errors import ConfigError
from linkly_engine.core.exchange import Exchange
from linkly_engine.process.ending import explain
from linkly_engine.process.environment import environment
from linkly_engine.process.generation import Generation
from linkly_engine.process.guard import Guard
from linkly_engine.process.hopeless import is_hopeless
from linkly_engine.process.installer import Installer, InstallFailed
from linkly_engine.process.manifest import Manifest, read_manifest
from linkly_engine.process.output import Feed, Output
from linkly_engine.process.program import Program
from linkly_engine.process.status import State
from linkly_engine.remote.peers import Peers

log = logging.getLogger("linkly.process")

PLAIN_S = 10.0
CONNECT_S = 60.0
"""How long the next generation of a connected worker may take to connect."""


class NotReady(Exception):
    """A generation did not come to serve.

    Attributes:
        reason: Why, the end of a sentence that begins with the worker.
        lasting: Only a change can help.
        uptime_s: How long it ran.
    """

    def __init__(self, reason: str, *, lasting: bool = False, uptime_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lasting = lasting
        self.uptime_s = uptime_s


class Superseded(Exception):
    """Something has changed while a generation was being started: begin anew."""


class Starter:
    """Installs and starts the generations of one worker.

    Args:
        exchange: Where they register.
        peers: Where they connect.
        name: In config.yaml.
        folder: Where the manifest and the sources are.
        url: Of the worker port, asked at each start.
        logs: Folder of the log files, `PROJECT/.linkly/logs/NAME`; what was installed is noted in
            `PROJECT/.linkly/installed/NAME`.
        config: The worker's `config:` block; the program finds it as JSON in LINKLY_WORKER_CONFIG.
        config_path: The config file.
        guard: Ends the programs if the engine is killed.

    Attributes:
        config: May be set; the next generation sees it.
        installer: Installs what the programs need.
        output: Takes everything that the programs and scripts write.
        change: Set when another generation is wanted than the one that is being started.
        started: How many programs were started.
    """

    def __init__(
        self,
        exchange: Exchange,
        peers: Peers,
        *,
        name: str,
        folder: Path,
        url: Callable[[], str],
        logs: Path,
        config: Any = None,
        config_path: Path | None = None,
        guard: Guard,
    ) -> None:
        self.name = name
        self.folder = folder
        self.config = config
        self.output = Output(name, logs)
        self.change = asyncio.Event()
        self.started = 0
        self._exchange = exchange
        self._peers = peers
        self._url = url
        self._config_path = config_path
        self._guard = guard
        note = logs.parent.parent / "installed" / name
        self.installer = Installer(name, folder, note=note, output=self.output, guard=guard, clock=exchange.clock)

    async def prepare(self, enter: Callable[[State], None]) -> tuple[Manifest, dict[str, str]]:
        """Read the manifest, and install what it needs where that has changed.

        Args:
            enter: Told that something is being installed.

        Returns:
            The manifest, and the variables of the program's environment.

        Raises:
            NotReady: The manifest cannot be used, or a script failed.
        """
        try:
            manifest = read_manifest(self.folder)
        except ConfigError as error:
            raise NotReady(f"cannot start: {error.message}", lasting=True) from error
        variables = environment(
            manifest, name=self.name, url=self._url(), config=self.config, config_path=self._config_path
        )
        if self.installer.needed():
            enter(State.INSTALLING)
            try:
                await self.installer.run(manifest, variables)
            except InstallFailed as error:
                if not error.outdated:
                    self.change.clear()  # what was reported meanwhile is what the scripts wrote
                raise NotReady(f"cannot be installed: {error.message}", lasting=True) from error
        return manifest, variables

    def spawn(self, manifest: Manifest, variables: dict[str, str]) -> Generation:
        """Start the program, by what `prepare` has returned.

        Raises:
            NotReady: It cannot be started.
        """
        try:
            program = Program.start(
                manifest.start,
                folder=self.folder,
                environment=variables,
                feed=Feed(self.output),
                guard=self._guard,
            )
        except OSError as error:
            raise NotReady(f"cannot be started: {error}") from error
        self.started += 1
        log.info("worker `%s`: started as process %d: %s", self.name, program.pid, manifest.start)
        return Generation(self._exchange, self._peers, self.name, program)

    async def until_ready(self, generation: Generation, before: Generation | None) -> None:
        """Wait until a generation has connected and said all it serves, or counts as one that never connects.

        Raises:
            NotReady: It has ended, or does not connect although the one before it did.
            Superseded: A change came in between.
        """
        limit_s = PLAIN_S if before is None else CONNECT_S
        needed = before.functions if before is not None else set[str]()
        arrival = generation.arrival
        if await self._happens(arrival.came.wait(), generation, limit_s) and await self._happens(
            arrival.complete(needed), generation, CONNECT_S
        ):
            return
        if before is not None:
            raise NotReady(f"has not connected within {limit_s:g} s to the address in its variable III_URL")

    async def _happens(self, waiting: Awaitable[object], generation: Generation, limit_s: float) -> bool:
        """Wait for something while a generation is being started; return false when the time is over."""
        program = generation.program
        sleep = self._exchange.clock.sleep(limit_s)
        done = await first_of(waiting, program.exited.wait(), self.change.wait(), sleep)
        if program.exited.is_set():
            await generation.end()
            hopeless = is_hopeless(program.returncode, program.recent())
            raise NotReady(explain(program), lasting=hopeless, uptime_s=generation.uptime_s)
        if self.change.is_set():
            raise Superseded
        return 0 in done


async def first_of(*waiting: Awaitable[object]) -> set[int]:
    """Wait until one has returned; return which have; the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in waiting]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return {number for number, task in enumerate(tasks) if task.done() and not task.cancelled()}
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
