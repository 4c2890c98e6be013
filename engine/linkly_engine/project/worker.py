"""`worker::*`: the workers of config.yaml, listed, started and stopped. Written as an ordinary worker.

Workers that connect by themselves are not listed here: `engine::workers::list` has them.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec

from linkly.function import function
from linkly.worker import Worker
from linkly_engine.core.records import WorkerRecord
from linkly_engine.project.member import Kind, Member, State

if TYPE_CHECKING:
    from linkly_engine.project.project import Project

TAIL, TAIL_LIMIT = 100, 1000
STATUS_TAIL = 10
SETTLE_S = 10.0
"""How long the answer to a start or restart waits for the program to run."""

Tail = Annotated[int, msgspec.Meta(ge=1, le=TAIL_LIMIT)]


class WorkerRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One worker of config.yaml.

    Attributes:
        name: Its name there.
        kind: shipped, module (a class of one's own), or path (a program in a process of its own).
        running: Whether it serves calls.
        status: How it is; waiting: it ended by itself and is started again soon.
        pid: Of its own process, if it has one.
        functions: How many functions it serves.
        restarts: How often it was started again.
        path: Folder of the program.
        reason: Why it does not run, or not by the settings of config.yaml.
    """

    name: str
    kind: Kind
    running: bool
    status: State
    pid: int | None
    functions: int
    restarts: int
    path: str | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType = msgspec.UNSET


Row = TypeVar("Row", bound=WorkerRow)


class WorkerList(msgspec.Struct):
    """The workers of config.yaml, in its order.

    Attributes:
        config_path: The file; null while the embedded defaults run.
        workers: One row for each entry.
        config_error: Why the file as it is now is not applied; null if it is.
    """

    config_path: str | None
    workers: list[WorkerRow]
    config_error: str | None = None


class WorkerStatus(WorkerRow, kw_only=True):
    """One worker in full.

    Attributes:
        started_at_ms: Since the epoch; null while it does not run.
        function_ids: What it serves.
        logs_dir: Where the log files of its program are.
        stdout_tail: Last lines of its output.
        stderr_tail: Last lines of its errors.
        hint: What to do next.
    """

    started_at_ms: int | None
    function_ids: list[str]
    logs_dir: str | None
    stdout_tail: list[str]
    stderr_tail: list[str]
    hint: str | None


class WorkerLogs(msgspec.Struct):
    """The last lines that a worker's program wrote.

    Attributes:
        name: The worker.
        logs_dir: Where the log files are; null for a worker in the engine's process, whose lines are the engine's.
        stdout: Its output, the last line last.
        stderr: Its errors, likewise.
    """

    name: str
    logs_dir: str | None
    stdout: list[str]
    stderr: list[str]


class WorkerNames(msgspec.Struct):
    """What the workers of config.yaml are called there.

    Attributes:
        names: The engine's id of a worker, as in `engine::workers::list` -> its name in config.yaml.
    """

    names: dict[str, str]


class WorkerOwner(msgspec.Struct):
    """Whose a connection is.

    Attributes:
        name: Of the program in config.yaml; null if it belongs to none.
    """

    name: str | None


class ProjectWorker(Worker):
    """Starts, stops and describes the workers of config.yaml."""

    name = "project"

    def __init__(self, project: Project) -> None:
        super().__init__()
        self._project = project

    @function("worker::list")
    async def list_workers(self) -> WorkerList:
        """List the workers of config.yaml and how they are."""
        project = self._project
        file = project.config.file
        return WorkerList(
            config_path=None if file is None else str(file),
            workers=[self._row(WorkerRow, member) for member in project.members],
            config_error=project.refusal,
        )

    @function("worker::status")
    async def status(self, name: str) -> WorkerStatus:
        """Say how one worker of config.yaml is, what it serves and what it wrote last.

        Args:
            name: Its name there.

        Raises:
            NotFound: config.yaml has no such worker.
        """
        member = self._project.member(name)
        stdout, stderr = await self._tail(member, STATUS_TAIL)
        records = self._records(member)
        started = min((record.connected_at_ms for record in records), default=None)
        if member.child is not None:
            started = member.child.status.started_at_ms
        return self._row(
            WorkerStatus,
            member,
            started_at_ms=started if member.runs else None,
            function_ids=sorted(
                record.id
                for record in self._project.engine.tables.functions
                if record.owner in records and not record.internal
            ),
            logs_dir=self._logs_dir(member),
            stdout_tail=stdout,
            stderr_tail=stderr,
            hint=_hint(member, bool(records)),
        )

    @function("worker::logs")
    async def logs(self, name: str, tail: Tail = TAIL) -> WorkerLogs:
        """Return the last lines that a worker's program wrote.

        Args:
            name: The worker.
            tail: How many of each stream.

        Raises:
            NotFound: config.yaml has no such worker.
        """
        member = self._project.member(name)
        stdout, stderr = await self._tail(member, tail)
        return WorkerLogs(member.name, self._logs_dir(member), stdout, stderr)

    @function("worker::owner")
    async def owner(self, worker_id: str) -> WorkerOwner:
        """Tell which program of config.yaml a connection belongs to.

        Args:
            worker_id: The engine's id of the connection, from `engine::workers::list`.
        """
        for member in self._project.members:
            if member.child is not None and any(record.id == worker_id for record in self._records(member)):
                return WorkerOwner(member.name)
        return WorkerOwner(None)

    @function("worker::names")
    async def names(self) -> WorkerNames:
        """Tell which workers that run are which of config.yaml; those that came by themselves are not named."""
        members = self._project.members
        return WorkerNames({record.id: member.name for member in members for record in self._records(member)})

    @function("worker::start")
    async def start(self, name: str) -> WorkerRow:
        """Start a worker of config.yaml that does not run.

        Args:
            name: The worker.

        Raises:
            NotFound: config.yaml has no such worker.
            ConfigError: It cannot start.
        """
        return await self._row_of(await self._project.start_worker(name))

    @function("worker::stop")
    async def stop(self, name: str) -> WorkerRow:
        """Stop a worker of config.yaml until it is started by name or its entry changes; calls in flight finish.

        Args:
            name: The worker.

        Raises:
            NotFound: config.yaml has no such worker.
        """
        return self._row(WorkerRow, await self._project.stop_worker(name))

    @function("worker::restart")
    async def restart(self, name: str) -> WorkerRow:
        """Make a worker of config.yaml anew, or start it; calls in flight finish, others wait.

        Args:
            name: The worker.

        Raises:
            NotFound: config.yaml has no such worker.
            ConfigError: It cannot start.
        """
        return await self._row_of(await self._project.restart_worker(name))

    # --- rows ----------------------------------------------------------------------------------------------

    async def _row_of(self, member: Member) -> WorkerRow:
        if member.child is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    await member.child.outcome()
        return self._row(WorkerRow, member)

    def _row(self, kind: type[Row], member: Member, **more: Any) -> Row:
        child = member.child
        reason = member.reason
        if child is not None and reason is None:
            reason = child.status.reason
        registry = self._project.engine.tables.functions
        return kind(
            name=member.name,
            kind=member.kind,
            running=member.state == "running",
            status=member.state,
            pid=None if child is None else child.status.pid,
            functions=sum(registry.count(record) for record in self._records(member)),
            restarts=member.restarts + (0 if child is None else child.status.restarts),
            path=msgspec.UNSET if member.entry.folder is None else str(member.entry.folder),
            reason=msgspec.UNSET if reason is None else reason,
            **more,
        )

    def _records(self, member: Member) -> list[WorkerRecord]:
        """Return the lifetimes that a worker has now: one in process, any number of connections of a program."""
        if member.worker is not None:
            record = self._project.engine.record_of(member.worker)
            return [] if record is None else [record]
        generation = None if member.child is None else member.child.generation
        return [] if generation is None else [peer.record for peer in generation.peers]

    async def _tail(self, member: Member, count: int) -> tuple[list[str], list[str]]:
        if member.child is None:
            return [], []
        return await asyncio.to_thread(member.child.tail, count)

    def _logs_dir(self, member: Member) -> str | None:
        return None if member.child is None else str(member.child.logs)


def _hint(member: Member, connected: bool) -> str | None:
    name, state = member.name, member.state
    if state == "stopped":
        return f"start it with `linkly worker start {name}`"
    if state in ("failed", "waiting") and member.child is not None:
        return f"see what it wrote with `linkly worker logs {name}`; a change of its files starts it again"
    if state == "failed":
        return f"correct its entry in config.yaml, or try again with `linkly worker restart {name}`"
    if state == "running" and member.child is not None and not connected:
        return "it runs, but has not connected: it has to connect to the address in its environment variable III_URL"
    return None
