"""A project: everything that runs by config.yaml, and how it follows the file.

Entries are compared by name, module, folder and config. Workers whose entry is the same keep running; the others are
stopped, started or made anew, one change of the project after the other. A file that cannot be used changes nothing.
The code of `module:` workers is not loaded again: a changed entry makes a new worker of the same class.

Signals are `linkly_engine.project.serve`'s, the text for people is the command line's.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec

from linkly.errors import ConfigError
from linkly.worker import Worker
from linkly_engine.engine import Engine
from linkly_engine.local.host import DRAIN_S
from linkly_engine.project.config import Config, load
from linkly_engine.project.entry import WorkerEntry
from linkly_engine.project.listeners import ListenerChanges, Listeners
from linkly_engine.project.loader import load_workers
from linkly_engine.project.member import Member, continues, same
from linkly_engine.project.members import Members
from linkly_engine.project.programs import Programs
from linkly_engine.project.switch import Entering
from linkly_engine.project.worker import ProjectWorker
from linkly_engine.yaml.problems import Problems

log = logging.getLogger("linkly.engine")


def read(path: Path | None) -> tuple[Config, list[Worker]]:
    """Read and check a config file; the same for `linkly check`, the start and every change.

    Args:
        path: The file; default: `config.yaml` in the working directory, else the embedded defaults.

    Returns:
        The config, and its in-process workers; nothing is started, no port is opened.

    Raises:
        ConfigError: It cannot be used; a line of the message for each error, with file, line, path and reason.
    """
    problems = Problems()
    config = load(path, problems=problems)
    workers = load_workers(config, problems)
    problems.check()
    return config, workers


class Applied(msgspec.Struct):
    """What a new config changed.

    Attributes:
        started: Names of workers.
        stopped: Names of workers.
        changed: Names of workers that were made anew.
        addresses: Where these can be reached: `http at http://...`.
        listeners: Worker ports.
        problems: Sentences about what could not be done.
    """

    started: list[str] = []
    stopped: list[str] = []
    changed: list[str] = []
    addresses: list[str] = []
    listeners: ListenerChanges = msgspec.field(default_factory=ListenerChanges)
    problems: list[str] = []

    def __str__(self) -> str:
        parts = [
            ("started", self.started),
            ("stopped", self.stopped),
            ("changed", self.changed),
            ("workers connect to", self.listeners.opened),
            ("no longer to", self.listeners.closed),
        ]
        said = [f"{what} {', '.join(names)}" for what, names in parts if names] + self.addresses
        return "; ".join(said) or "nothing that runs changed"


class Project:
    """What runs by a config file.

    Args:
        engine: Entered already.
        config: By what it starts.
        workers: Its in-process workers, as `load_workers` made them.
        drain_s: How long calls in flight have when their worker stops or is made anew.

    Attributes:
        members: What runs, or may run, by name.
        listeners: The worker ports.
        refusal: Why the file as it is now is not applied; `None`: it is.
    """

    def __init__(self, engine: Engine, config: Config, workers: list[Worker], *, drain_s: float = DRAIN_S) -> None:
        self.engine = engine
        self.refusal: str | None = None
        self._workers = workers
        self.listeners = Listeners(engine)
        self._programs = Programs(engine.exchange, engine.peers, lambda: self.listeners.url)
        self.members = Members(engine, config, self._programs, drain_s)
        self._read = config.read  # the text that was applied: the file may have changed since
        self._unreadable: str | None = None

    # --- lifetime ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything: in-process workers, worker ports, then programs in processes of their own.

        Raises:
            ConfigError: Something could not start; `stop` ends what did.
        """
        members = self.members
        worker = ProjectWorker(
            members,
            functions=self.engine.tables.functions,
            record_of=self.engine.host.record_of,
            refusal=lambda: self.refusal,
        )
        await self.engine.host.start(worker, internal=True)
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
            What changed; `None` if the file is gone, did not change, or cannot be used (`refusal` says why).
        """
        if self.members.closing:
            return None
        try:
            return await self.members.serially(lambda: self._reload(forced))
        except Exception:
            log.exception("%s could not be applied", self.members.path)
            return None

    async def apply(self, config: Config, workers: list[Worker]) -> Applied:
        """Apply a config that was checked, with the in-process workers made from it."""
        return await self.members.serially(lambda: self._apply(config, workers))

    async def _reload(self, forced: bool) -> Applied | None:
        path = self.members.path
        try:
            text = _text(path)
        except OSError as error:
            # Out of file descriptors, no permission, a share that is away: the file as it was stays in force.
            if self._unreadable != error.strerror:
                log.error("%s cannot be read: %s; what runs keeps running", path, error.strerror)
            self._unreadable = error.strerror
            return None
        self._unreadable = None
        if text is None:
            if self._read is not None:
                log.warning("%s is gone; what runs keeps running", path)
            self._read = None
            return None
        if text == self._read and not forced:
            return None
        self._read = text
        try:
            # Reading imports the modules of workers, and that may take its time.
            config, workers = await asyncio.to_thread(read, path)
        except ConfigError as error:
            self.refusal = error.message
            end = "\n" if "\n" in error.message else "; "
            log.error("%s%snothing was changed, the earlier configuration stays in force", error.message, end)
            return None
        self.refusal = None
        for note in config.notes:
            log.info("%s: %s", path.name, note)
        applied = await self._apply(config, workers)
        for problem in applied.problems:
            log.error("%s", problem)
        log.info("%s applied%s: %s", path.name, " as far as possible" if applied.problems else "", applied)
        return applied

    async def _apply(self, config: Config, workers: list[Worker]) -> Applied:
        old, url = self.members.all, self.listeners.url
        found = continues([member.entry for member in old], config.workers)
        members = [
            Member(entry) if index is None else old[index] for entry, index in zip(config.workers, found, strict=True)
        ]
        leaving = [member for member in old if member not in members]
        stopped = [member.name for member in leaving if member.runs]
        running = {member for member in members if member.runs}
        entering, programs = _differences(members, config.workers, workers)
        listeners = await self.listeners.change(config.listeners)
        await self._programs.end(leaving)
        problems = await self.members.switch(leaving, entering)
        self.members.all, self.members.config = members, config
        self.engine.peers.namespace_grace_s = config.namespace_grace_s
        self.members.arrange()
        for member, entry in programs:
            await self._programs.change(member, entry, config)
        if self.listeners.url != url:
            await self._programs.move([each for each in members if each not in (member for member, _ in programs)])
        affected = [each.member for each in entering] + [member for member, _ in programs]
        changed = [member for member in members if member in affected and member.reason is None]
        for member in running.intersection(changed):
            member.restarts += member.child is None  # programs count for themselves
        return Applied(
            started=[member.name for member in changed if member not in running],
            stopped=stopped,
            changed=[member.name for member in changed if member in running],
            addresses=[
                f"{label} at {address}"
                for member in changed
                if member.worker is not None
                for label, address in member.worker.addresses().items()
            ],
            listeners=listeners,
            problems=[*listeners.problems, *problems],
        )


def _differences(
    members: list[Member], entries: list[WorkerEntry], workers: list[Worker]
) -> tuple[list[Entering], list[tuple[Member, WorkerEntry]]]:
    """Return what has to be started or made anew: in-process workers, and programs of their own."""
    made = iter(workers)
    entering: list[Entering] = []
    programs: list[tuple[Member, WorkerEntry]] = []
    for member, entry in zip(members, entries, strict=True):
        worker = next(made) if entry.folder is None else None
        if same(member.entry, entry) and (member.stopped or member.runs):
            member.entry = entry  # its place in the file, and the number behind its name
            continue
        member.stopped = False
        if worker is None:
            programs.append((member, entry))
        else:
            entering.append(Entering(member, entry, worker))
    return entering, programs


def _text(path: Path) -> bytes | None:
    """Return the bytes of a file; `None`: it does not exist."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
