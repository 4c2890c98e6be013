"""One entry of config.yaml and what runs for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from linkly.worker import Worker
from linkly_engine.project.entry import WorkerEntry, unnumbered

if TYPE_CHECKING:
    from linkly_engine.process.child import ChildWorker

State: TypeAlias = Literal["running", "installing", "starting", "waiting", "failed", "stopped"]
Kind: TypeAlias = Literal["shipped", "module", "path"]


class Member:
    """One entry and what runs for it: a worker in this process, or a program that is looked after.

    Attributes:
        entry: What it runs by; the one before the file's if that one could not be started.
        worker: The in-process worker that runs.
        child: The program in a process of its own, also while it does not run.
        stopped: It was stopped by name; a change of its entry starts it again.
        fault: Why no worker runs in this process, or not by the file's settings.
        made_anew: How often, its present program not counted.
    """

    def __init__(self, entry: WorkerEntry) -> None:
        self.entry = entry
        self.worker: Worker | None = None
        self.child: ChildWorker | None = None
        self.stopped = False
        self.fault: str | None = None
        self.made_anew = 0

    def serve(self, entry: WorkerEntry, worker: Worker, fault: str | None = None) -> None:
        """Run from now on as a worker in this process, by an entry that is not the file's if there is a `fault`."""
        self.entry, self.worker, self.fault = entry, worker, fault

    def fail(self, entry: WorkerEntry, fault: str) -> None:
        """Run no worker: it cannot run by its entry."""
        self.entry, self.worker, self.fault = entry, None, fault

    def end(self) -> Worker | None:
        """Run no worker any more; return the one that ran."""
        worker, self.worker, self.fault = self.worker, None, None
        return worker

    @property
    def name(self) -> str:
        """Its name in config.yaml."""
        return self.entry.name

    @property
    def kind(self) -> Kind:
        """Where its code comes from."""
        if self.entry.folder is not None:
            return "path"
        return "shipped" if self.entry.module is None else "module"

    @property
    def runs(self) -> bool:
        """Whether it runs or will do so by itself."""
        if self.child is not None:
            return not self.stopped and self.child.status.state not in ("failed", "stopped")
        return self.worker is not None

    @property
    def state(self) -> State:
        """How it is."""
        if self.stopped:
            return "stopped"
        if self.child is not None:
            return self.child.status.state.value
        if self.worker is not None:
            return "running"
        return "starting" if self.fault is None else "failed"

    @property
    def reason(self) -> str | None:
        """Why it does not run, or not as the file says."""
        return self.child.status.reason if self.fault is None and self.child is not None else self.fault

    @property
    def restarts(self) -> int:
        """How often it was made anew or started again."""
        return self.made_anew + (0 if self.child is None else self.child.status.restarts)


def continues(old: list[WorkerEntry], new: list[WorkerEntry]) -> list[int | None]:
    """Return which old entry each new one continues.

    An equal entry comes first, also if it has another number behind its name now; then one of the same name.

    Returns:
        Indexes into `old`, each at most once; `None`: this one is new.
    """
    found: list[int | None] = [None] * len(new)
    free = set(range(len(old)))
    for alike in (same, _same_name):
        for number, entry in enumerate(new):
            if found[number] is None:
                index = next((each for each in sorted(free) if alike(old[each], entry)), None)
                if index is not None:
                    found[number] = index
                    free.discard(index)
    return found


def same(one: WorkerEntry, other: WorkerEntry) -> bool:
    """Return whether two entries ask for the same worker with the same settings."""
    return _asks_for(one) == _asks_for(other)


def _asks_for(entry: WorkerEntry) -> tuple[object, ...]:
    return unnumbered(entry.name), entry.module, entry.folder, entry.config


def _same_name(one: WorkerEntry, other: WorkerEntry) -> bool:
    return one.name == other.name and (one.folder is None) == (other.folder is None)
