"""Stops some in-process workers and starts others in one go, while the rest of the engine keeps running.

Calls in flight finish first; calls to a worker that is made anew wait for its successor. A worker that cannot start
runs again by its earlier settings.
"""

from __future__ import annotations

import logging

import msgspec

from linkly.errors import LinklyError
from linkly.worker import Worker
from linkly_engine.local.handover import Handover
from linkly_engine.local.host import Host
from linkly_engine.project.entry import WorkerEntry
from linkly_engine.project.loader import load_worker
from linkly_engine.project.member import Member, same

log = logging.getLogger("linkly.engine")


class Entering(msgspec.Struct, eq=False):
    """A worker that is to run.

    Attributes:
        member: Whose worker it will be; an earlier one is stopped.
        entry: What it runs by.
        worker: Checked, not started.
    """

    member: Member
    entry: WorkerEntry
    worker: Worker


class Switch:
    """One change of the set of in-process workers."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._earlier: dict[Member, WorkerEntry] = {}
        self._handovers: dict[Member, Handover] = {}
        self._problems: list[str] = []

    async def run(self, leaving: list[Member], entering: list[Entering]) -> list[str]:
        """Stop `leaving` and what `entering` replaces, then start `entering` in order.

        Returns:
            Sentences about what could not be done.
        """
        self._earlier = {each.member: each.member.entry for each in entering if each.member.worker is not None}
        ending = [member for member in leaving if member.worker is not None] + [*self._earlier]
        try:
            for member in sorted(ending, key=self._turn_to_end):
                await self._stop(member, waiting=member in self._earlier)
            started = [each for each in entering if await self._start(each)]
            await self._host.acknowledged()
            for each in started:
                await self._ready(each)
            await self._tell_the_others(entering)
            for member in self._earlier:
                member.made_anew += member.fault is None
        finally:
            for handover in self._handovers.values():
                handover.release()
        return self._problems

    def _turn_to_end(self, member: Member) -> tuple[bool, int]:
        return (False, 0) if member.worker is None else self._host.turn_to_end(member.worker)

    async def _tell_the_others(self, entering: list[Entering]) -> None:
        anew = [each.member.worker for each in entering if each.member.worker is not None]
        names = frozenset(worker.name for worker in anew)
        for worker in self._host.running if anew else []:
            if not any(worker is each for each in anew):
                try:
                    await worker.others_changed(names)
                except Exception as error:
                    log.error("worker `%s` does not get on with %s: %s", worker.name, ", ".join(sorted(names)), error)

    async def _stop(self, member: Member, *, waiting: bool) -> None:
        worker = member.end()
        if worker is None:
            return
        handover = await self._host.stop(worker, waiting=waiting)
        before = self._handovers.get(member)
        self._handovers[member] = handover
        if before is not None:
            before.release()

    async def _start(self, each: Entering) -> bool:
        """Return whether it runs, and not its predecessor."""
        try:
            await self._host.start(each.worker, takes_over=self._handovers.get(each.member))
        except LinklyError as error:
            await self._fall_back(each, error)
            return False
        each.member.serve(each.entry, each.worker)
        return True

    async def _ready(self, each: Entering) -> None:
        try:
            await self._host.ready(each.worker)
        except LinklyError as error:
            await self._stop(each.member, waiting=True)
            await self._fall_back(each, error)

    async def _fall_back(self, each: Entering, error: LinklyError) -> None:
        member = each.member
        earlier = self._earlier.get(member)
        reason = _sentence(each.entry, error)
        member.fail(each.entry, reason)
        if earlier is None or same(earlier, each.entry):
            self._problems.append(reason)
            return
        try:
            worker = load_worker(earlier)
            await self._host.start(worker, takes_over=self._handovers.get(member))
            member.serve(earlier, worker, reason)
            await self._host.acknowledged()
            await self._host.ready(worker)
        except LinklyError as again:
            await self._stop(member, waiting=False)
            reason = f"{reason}; nor by its earlier settings: {_sentence(earlier, again)}"
            member.fail(each.entry, reason)
            self._problems.append(reason)
            return
        self._problems.append(f"{reason}; it runs by its earlier settings")


def _sentence(entry: WorkerEntry, error: LinklyError) -> str:
    return f"{entry.path}: worker `{entry.name}` cannot start: {error.message}"
