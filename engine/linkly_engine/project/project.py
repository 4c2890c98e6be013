"""A project: config.yaml and everything that runs by it, and how it follows the file.

Entries are compared by name, module, folder and config. What did not change keeps running untouched; the rest is
stopped, started or made anew, one change of the project after the other. A file that cannot be used changes nothing.
The code of `module:` workers is not loaded again: a changed block makes a new worker of the same class.

It knows config and engine; signals and the text for people are `linkly_engine.project.serve`'s and the command line's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from linkly.context import current_invocation
from linkly.errors import ConfigError, NotFound, Shutdown
from linkly.worker import Worker
from linkly_engine import CONFIG_FILE
from linkly_engine.engine import DRAIN_S
from linkly_engine.project.config import Config, load
from linkly_engine.project.entry import WorkerEntry
from linkly_engine.project.listeners import ListenerChanges, Listeners
from linkly_engine.project.loader import load_worker, load_workers
from linkly_engine.project.member import Member, continues, same
from linkly_engine.project.programs import Programs
from linkly_engine.project.switch import Entering, Switch
from linkly_engine.project.worker import ProjectWorker
from linkly_engine.remote.server import WorkerServer
from linkly_engine.shipped import ALIASES
from linkly_engine.yaml.problems import Problems

if TYPE_CHECKING:
    from linkly_engine.engine import Engine

log = logging.getLogger("linkly.engine")

T = TypeVar("T")


def read(path: Path | None) -> tuple[Config, list[Worker]]:
    """Read and judge a config file, the same for `linkly check`, the start and every change.

    Args:
        path: Default: `config.yaml` here, else the embedded defaults.

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
        config: What was applied last.
        members: One for each entry, in the order of the file.
        refusal: Why the file as it is now is not applied; `None`: it is.
    """

    def __init__(self, engine: Engine, config: Config, workers: list[Worker], *, drain_s: float = DRAIN_S) -> None:
        self.engine = engine
        self.config = config
        self.path = config.file or config.folder.absolute() / CONFIG_FILE
        self.members = [Member(entry) for entry in config.workers]
        self.refusal: str | None = None
        self._workers = workers
        self._drain_s = drain_s
        self._listeners = Listeners(engine)
        self._lock = asyncio.Lock()
        self._changes: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._programs = Programs(engine, lambda: self._listeners.url)
        self._read = config.read  # not the file as it is now: it may have changed since
        self._unreadable: str | None = None

    @property
    def servers(self) -> list[WorkerServer]:
        """Open worker ports."""
        return self._listeners.servers

    # --- lifetime ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything: in-process workers, worker ports, then programs in processes of their own.

        Raises:
            ConfigError: Something could not start; `stop` ends what did.
        """
        await self.engine.start_worker(ProjectWorker(self), internal=True)
        await self.engine.start(self._workers)
        for member, worker in zip(self._in_process(self.members), self._workers, strict=True):
            member.worker = worker
        await self._listeners.start(self.config.listeners)
        for member in self.members:
            if member.entry.folder is not None:
                await self._programs.start(member, self.config)

    async def close(self) -> None:
        """Accept no worker any more and begin no change; one that is being made comes to its end."""
        self._closing = True
        await self._listeners.stop()
        if self._changes:
            _, unfinished = await asyncio.wait(self._changes, timeout=self._drain_s)
            for change in unfinished:
                change.cancel()
            if unfinished:
                await asyncio.wait(unfinished)

    async def stop(self) -> None:
        """End the programs in processes of their own; in-process workers are the engine's to end."""
        await self._programs.stop(self.members)

    # --- the file ------------------------------------------------------------------------------------------

    async def reload(self, *, forced: bool = False) -> Applied | None:
        """Read the file again and apply it.

        Args:
            forced: Also when its text did not change: what could not be started is tried again.

        Returns:
            What changed; `None` if the file is gone, did not change, or cannot be used (`refusal` says why).
        """
        if self._closing:
            return None
        try:
            return await self._serially(lambda: self._reload(forced))
        except Exception:
            log.exception("%s could not be applied", self.path)
            return None

    async def apply(self, config: Config, workers: list[Worker]) -> Applied:
        """Apply a config that was checked, with the in-process workers made from it."""
        return await self._serially(lambda: self._apply(config, workers))

    async def _reload(self, forced: bool) -> Applied | None:
        try:
            text = _text(self.path)
        except OSError as error:
            # Out of file descriptors, no permission, a share that is away: the file as it was stays in force.
            if self._unreadable != error.strerror:
                log.error("%s cannot be read: %s; what runs keeps running", self.path, error.strerror)
            self._unreadable = error.strerror
            return None
        self._unreadable = None
        if text is None:
            if self._read is not None:
                log.warning("%s is gone; what runs keeps running", self.path)
            self._read = None
            return None
        if text == self._read and not forced:
            return None
        self._read = text
        try:
            # Reading imports the modules of workers, and that may take its time.
            config, workers = await asyncio.to_thread(read, self.path)
        except ConfigError as error:
            self.refusal = error.message
            end = "\n" if "\n" in error.message else "; "
            log.error("%s%snothing was changed, the earlier configuration stays in force", error.message, end)
            return None
        self.refusal = None
        for note in config.notes:
            log.info("%s: %s", self.path.name, note)
        applied = await self._apply(config, workers)
        for problem in applied.problems:
            log.error("%s", problem)
        log.info("%s applied%s: %s", self.path.name, " as far as possible" if applied.problems else "", applied)
        return applied

    async def _apply(self, config: Config, workers: list[Worker]) -> Applied:
        old, url = self.members, self._listeners.url
        found = continues([member.entry for member in old], config.workers)
        members = [
            Member(entry) if index is None else old[index] for entry, index in zip(config.workers, found, strict=True)
        ]
        leaving = [member for member in old if member not in members]
        stopped = [member.name for member in leaving if member.runs]
        running = {member for member in members if member.runs}
        entering, programs = self._differences(members, config.workers, workers)
        listeners = await self._listeners.change(config.listeners)
        await self._programs.end(leaving)
        switch = Switch(self.engine, drain_s=self._drain_s)
        await switch.run(leaving, entering)
        self.members, self.config = members, config
        self.engine.namespace_grace_s = config.namespace_grace_s
        self.engine.arrange(member.worker for member in members if member.worker is not None)
        for member, entry in programs:
            await self._programs.change(member, entry, config)
        if self._listeners.url != url:
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
            problems=[*listeners.problems, *switch.problems],
        )

    def _differences(
        self, members: list[Member], entries: list[WorkerEntry], workers: list[Worker]
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

    # --- one worker ----------------------------------------------------------------------------------------

    def member(self, name: str) -> Member:
        """Return the worker with this name.

        Raises:
            NotFound: config.yaml has none.
        """
        wanted = ALIASES.get(name, name)
        found = next((each for each in self.members if each.name in (name, wanted)), None)
        if found is None:
            known = ", ".join(f"`{each.name}`" for each in self.members) or "none"
            raise NotFound(f"there is no worker `{name}` in {self.path.name}; there: {known}")
        return found

    async def start_worker(self, name: str) -> Member:
        """Start a worker that does not run; nothing happens to one that does.

        Raises:
            NotFound: As `member`.
            ConfigError: It cannot start.
        """
        return await self._serially(lambda: self._begin(self.member(name), again=False))

    async def restart_worker(self, name: str) -> Member:
        """Make a worker anew, or start it if it does not run.

        Raises:
            NotFound: As `member`.
            ConfigError: It cannot start.
        """
        return await self._serially(lambda: self._begin(self.member(name), again=True))

    async def stop_worker(self, name: str) -> Member:
        """Stop a worker until it is started by name, or its entry changes; calls in flight finish.

        Raises:
            NotFound: As `member`.
        """
        return await self._serially(lambda: self._halt(self.member(name)))

    async def _begin(self, member: Member, *, again: bool) -> Member:
        ran = member.runs
        if ran and not again:
            return member
        if member.entry.folder is not None:
            member.stopped = False
            await self._programs.restart(member, self.config)
        else:
            entry = self._wanted(member)
            worker = load_worker(entry)
            member.stopped = False
            switch = Switch(self.engine, drain_s=self._drain_s)
            await switch.run([], [Entering(member, entry, worker)])
            self.engine.arrange(each.worker for each in self.members if each.worker is not None)
            if switch.problems:
                raise ConfigError(switch.problems[0])
        member.restarts += ran and member.child is None
        log.info("worker `%s` %s%s", member.name, "made anew" if ran else "started", _same_code(member.entry))
        return member

    async def _halt(self, member: Member) -> Member:
        member.stopped = True
        if member.child is not None:
            await member.child.stop()
        await Switch(self.engine, drain_s=self._drain_s).run([member], [])
        log.info("worker `%s` stopped", member.name)
        return member

    def _wanted(self, member: Member) -> WorkerEntry:
        """Return the file's entry for a member, also if it runs by earlier settings."""
        return self.config.workers[self.members.index(member)]

    async def _serially(self, change: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Make one change after the other, each to its end even if nobody waits for it any more."""
        if self._closing:
            raise Shutdown("the engine is stopping: no worker is started or stopped any more")

        async def run() -> T:
            current_invocation.set(None)  # what is started outlives the call that asked for it, and its deadline
            async with self._lock:
                return await change()

        task = self.engine.spawn(run(), name="a change of the project")
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    @staticmethod
    def _in_process(members: list[Member]) -> list[Member]:
        return [member for member in members if member.entry.folder is None]


def _same_code(entry: WorkerEntry) -> str:
    """Say what somebody who has changed the code would miss."""
    return "" if entry.module is None else f", from the code of `{entry.module}` that the engine has loaded already"


def _text(path: Path) -> bytes | None:
    """Return the bytes of a file; `None`: it is not there.

    Raises:
        OSError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
