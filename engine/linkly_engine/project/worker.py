"""`worker::*`: the workers of config.yaml, listed, started and stopped. Written as an ordinary worker.

Workers that connect by themselves are in `engine::workers::list` only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec

from linkly.clock import time_limit
from linkly.function import function
from linkly.worker import Worker
from linkly_engine.core.records import WorkerRecord
from linkly_engine.core.registry import Registry
from linkly_engine.project.member import Member
from linkly_engine.project.members import Members
from linkly_engine.project.rows import WorkerList, WorkerLogs, WorkerNames, WorkerOwner, WorkerRow, WorkerStatus, hint

TAIL, TAIL_LIMIT = 100, 1000
STATUS_TAIL = 10
OUTCOME_S = 10.0
"""How long the answer to a start or restart waits for the program to run."""

Tail = Annotated[int, msgspec.Meta(ge=1, le=TAIL_LIMIT)]


Row = TypeVar("Row", bound=WorkerRow)


class ProjectWorker(Worker):
    """Starts, stops and describes the workers of config.yaml."""

    name = "project"

    def __init__(
        self,
        members: Members,
        *,
        functions: Registry,
        record_of: Callable[[Worker], WorkerRecord | None],
        refusal: Callable[[], str | None],
    ) -> None:
        super().__init__()
        self._members = members
        self._functions = functions
        self._record_of = record_of
        self._refusal = refusal

    @function("worker::list")
    async def list_workers(self) -> WorkerList:
        """List the workers of config.yaml and how they are."""
        file = self._members.config.file
        return WorkerList(
            config_path=None if file is None else str(file),
            workers=[self._row(WorkerRow, member) for member in self._members.all],
            config_error=self._refusal(),
        )

    @function("worker::status")
    async def status(self, name: str) -> WorkerStatus:
        """Say how one worker of config.yaml is, what it serves and what it wrote last.

        Args:
            name: Its name there.

        Raises:
            NotFound: config.yaml has no such worker.
        """
        member = self._members.find(name)
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
                function.id for record in records for function in self._functions.of(record) if not function.internal
            ),
            logs_dir=self._logs_dir(member),
            stdout_tail=stdout,
            stderr_tail=stderr,
            hint=hint(member, bool(records)),
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
        member = self._members.find(name)
        stdout, stderr = await self._tail(member, tail)
        return WorkerLogs(member.name, self._logs_dir(member), stdout, stderr)

    @function("worker::owner")
    async def owner(self, worker_id: str) -> WorkerOwner:
        """Tell which program of config.yaml a connection belongs to.

        Args:
            worker_id: The engine's id of the connection, from `engine::workers::list`.
        """
        for member in self._members.all:
            if member.child is not None and any(record.id == worker_id for record in self._records(member)):
                return WorkerOwner(member.name)
        return WorkerOwner(None)

    @function("worker::names")
    async def names(self) -> WorkerNames:
        """Tell which workers that run are which of config.yaml; those that came by themselves are not named."""
        return WorkerNames({record.id: member.name for member in self._members.all for record in self._records(member)})

    @function("worker::start")
    async def start(self, name: str) -> WorkerRow:
        """Start a worker of config.yaml that does not run.

        Args:
            name: The worker.

        Raises:
            NotFound: config.yaml has no such worker.
            ConfigError: It cannot start.
        """
        return await self._row_of(await self._members.start(name))

    @function("worker::stop")
    async def stop(self, name: str) -> WorkerRow:
        """Stop a worker of config.yaml until it is started by name or its entry changes; calls in flight finish.

        Args:
            name: The worker.

        Raises:
            NotFound: config.yaml has no such worker.
        """
        return self._row(WorkerRow, await self._members.stop(name))

    @function("worker::restart")
    async def restart(self, name: str) -> WorkerRow:
        """Make a worker of config.yaml anew, or start it; calls in flight finish, others wait.

        Args:
            name: The worker.

        Raises:
            NotFound: config.yaml has no such worker.
            ConfigError: It cannot start.
        """
        return await self._row_of(await self._members.restart(name))

    # --- rows ----------------------------------------------------------------------------------------------

    async def _row_of(self, member: Member) -> WorkerRow:
        if member.child is not None:
            with contextlib.suppress(TimeoutError):
                async with time_limit(self.bus.clock, OUTCOME_S):
                    await member.child.status.outcome()
        return self._row(WorkerRow, member)

    def _row(self, kind: type[Row], member: Member, **more: Any) -> Row:
        return kind(
            name=member.name,
            kind=member.kind,
            running=member.state == "running",
            status=member.state,
            pid=None if member.child is None else member.child.status.pid,
            functions=sum(self._functions.count(record) for record in self._records(member)),
            restarts=member.restarts,
            path=msgspec.UNSET if member.entry.folder is None else str(member.entry.folder),
            reason=msgspec.UNSET if member.reason is None else member.reason,
            **more,
        )

    def _records(self, member: Member) -> list[WorkerRecord]:
        """Return the lifetimes that a worker has now: one in process, any number of connections of a program."""
        if member.worker is not None:
            record = self._record_of(member.worker)
            return [] if record is None else [record]
        generation = None if member.child is None else member.child.generation
        return [] if generation is None else [peer.record for peer in generation.peers]

    async def _tail(self, member: Member, count: int) -> tuple[list[str], list[str]]:
        if member.child is None:
            return [], []
        return await asyncio.to_thread(member.child.output.tail, count)

    def _logs_dir(self, member: Member) -> str | None:
        return None if member.child is None else str(member.child.output.folder)
