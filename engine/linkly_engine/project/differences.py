"""What a new config asks for against what runs, and what came of it. It starts and stops nothing."""

from __future__ import annotations

import msgspec

from linkly.worker import Worker
from linkly_engine.project.entry import WorkerEntry
from linkly_engine.project.listeners import ListenerChanges
from linkly_engine.project.member import Member, continues, same
from linkly_engine.project.switch import Entering


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


class Differences:
    """How the workers of a new config differ from those that run.

    Args:
        old: The present members.
        entries: Of the new config.
        workers: Its in-process workers, in order.

    Attributes:
        members: One for each new entry, in order; those that go on are the present ones.
        leaving: Present members without an entry.
        entering: In-process workers to start or make anew.
        programs: Programs to start or to run by another entry.
    """

    def __init__(self, old: list[Member], entries: list[WorkerEntry], workers: list[Worker]) -> None:
        found = continues([member.entry for member in old], entries)
        self.members = [
            Member(entry) if index is None else old[index] for entry, index in zip(entries, found, strict=True)
        ]
        self.leaving = [member for member in old if member not in self.members]
        self.entering: list[Entering] = []
        self.programs: list[tuple[Member, WorkerEntry]] = []
        self._ran = {member for member in [*old, *self.members] if member.runs}
        made = iter(workers)
        for member, entry in zip(self.members, entries, strict=True):
            worker = next(made) if entry.folder is None else None
            if same(member.entry, entry) and (member.stopped or member.runs):
                member.entry = entry  # its place in the file, and the number behind its name
                continue
            member.stopped = False
            if worker is None:
                self.programs.append((member, entry))
            else:
                self.entering.append(Entering(member, entry, worker))

    @property
    def affected(self) -> list[Member]:
        """The members that are started or made anew, in the order of the file."""
        touched = [each.member for each in self.entering] + [member for member, _ in self.programs]
        return [member for member in self.members if member in touched]

    def applied(self, listeners: ListenerChanges, problems: list[str]) -> Applied:
        """Return what came of them, after all was done."""
        changed = [member for member in self.affected if member.fault is None]
        return Applied(
            started=[member.name for member in changed if member not in self._ran],
            stopped=[member.name for member in self.leaving if member in self._ran],
            changed=[member.name for member in changed if member in self._ran],
            addresses=[
                f"{label} at {address}"
                for member in changed
                if member.worker is not None
                for label, address in member.worker.addresses().items()
            ],
            listeners=listeners,
            problems=[*listeners.problems, *problems],
        )
