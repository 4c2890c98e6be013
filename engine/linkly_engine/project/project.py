"""A project: everything that runs by config.yaml, and how it follows the file.

Entries are compared by name, module, folder and config. Workers whose entry is the same keep running; the others are
stopped, started or made anew, one change of the project after the other. A file that cannot be used changes nothing.
The code of `module:` workers is not loaded again: a changed entry makes a new worker of the same class.

Signals are `linkly_engine.project.serve`'s, the text for people is the command line's.
"""

from __future__ import annotations

import logging

from linkly.worker import Worker
from linkly_engine.engine import Engine
from linkly_engine.project.config import Config
from linkly_engine.project.differences import Applied, Differences
from linkly_engine.project.followed import FollowedFile
from linkly_engine.project.listeners import Listeners
from linkly_engine.project.members import Members
from linkly_engine.project.programs import Programs
from linkly_engine.project.worker import ProjectWorker

log = logging.getLogger("linkly.engine")


class Project:
    """What runs by a config file.

    Args:
        engine: Entered already.
        config: By what it starts.
        workers: Its in-process workers, as `load_workers` made them.

    Attributes:
        file: What it follows.
        members: What runs, or may run, by name.
        listeners: The worker ports.
    """

    def __init__(self, engine: Engine, config: Config, workers: list[Worker]) -> None:
        self.engine = engine
        self._workers = workers
        self.file = FollowedFile(config)
        self.listeners = Listeners(engine)
        self._programs = Programs(engine.exchange, engine.peers, lambda: self.listeners.url)
        self.members = Members(engine.exchange, engine.host, self._programs, config)

    # --- lifetime ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything: in-process workers, worker ports, then programs in processes of their own.

        Raises:
            ConfigError: Something could not start; `stop` ends what did.
        """
        members, host = self.members, self.engine.host
        worker = ProjectWorker(
            members,
            functions=self.engine.tables.functions,
            record_of=host.record_of,
            refusal=lambda: self.file.refusal,
        )
        await host.start(worker, internal=True)
        await self.engine.start(self._workers)
        in_process = [member for member in members.all if member.entry.folder is None]
        for member, started in zip(in_process, self._workers, strict=True):
            member.worker = started
        await self.listeners.start(members.config.listeners)
        for member in members.all:
            if member.entry.folder is not None:
                await self._programs.start(member, members.config)

    async def close(self) -> None:
        """Close the worker ports and begin no change; one that is being made comes to its end."""
        self.members.close()
        await self.listeners.stop()
        await self.members.closed()

    async def stop(self) -> None:
        """End the programs in processes of their own; in-process workers are the engine's to end."""
        await self._programs.stop(self.members.all)

    # --- the file ------------------------------------------------------------------------------------------

    async def reload(self, *, forced: bool = False) -> Applied | None:
        """Read the file again and apply it.

        Args:
            forced: Also when its text did not change: what could not be started is tried again.

        Returns:
            What changed; `None` if there is nothing new, or nothing that can be used (`file.refusal` says why).
        """
        if self.members.closing:
            return None
        try:
            return await self.members.serially(lambda: self._reload(forced))
        except Exception:
            log.exception("%s could not be applied", self.file.path)
            return None

    async def apply(self, config: Config, workers: list[Worker]) -> Applied:
        """Apply a config that was checked, with the in-process workers made from it."""
        return await self.members.serially(lambda: self._apply(config, workers))

    async def _reload(self, forced: bool) -> Applied | None:
        news = await self.file.news(forced=forced)
        if news is None:
            return None
        applied = await self._apply(*news)
        for problem in applied.problems:
            log.error("%s", problem)
        log.info("%s applied%s: %s", self.file.path.name, " as far as possible" if applied.problems else "", applied)
        return applied

    async def _apply(self, config: Config, workers: list[Worker]) -> Applied:
        url = self.listeners.url
        differences = Differences(self.members.all, config.workers, workers)
        listeners = await self.listeners.change(config.listeners)
        await self._programs.end(differences.leaving)
        problems = await self.members.switch(differences.leaving, differences.entering)
        self.members.all, self.members.config = differences.members, config
        self.engine.peers.namespace_grace_s = config.namespace_grace_s
        self.members.arrange()
        for member, entry in differences.programs:
            await self._programs.change(member, entry, config)
        if self.listeners.url != url:
            await self._programs.move(each for each in differences.members if each not in differences.affected)
        return differences.applied(listeners, problems)
