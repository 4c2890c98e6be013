"""The three tables together: every change of one that another has to follow.

A function that changes its owner takes triggers with it; a worker that goes leaves functions, triggers, types and a
name to others. Pure bookkeeping, as the tables themselves: what providers have to be told is returned, in order.
"""

from __future__ import annotations

from collections.abc import Callable

from linkly_engine.core.registry import FunctionRecord, Registry
from linkly_engine.core.triggers import BindingRecord, Effect, Offer, TriggerTable
from linkly_engine.core.workers import WorkerRecord, WorkerTable


class Tables:
    """Functions, triggers and workers of one engine.

    Args:
        functions_changed: Called at once for every change of the set of functions.
        served: Told of every function that stood in line and is served from now on.
    """

    def __init__(self, functions_changed: Callable[[], None], served: Callable[[FunctionRecord], None]) -> None:
        self.functions = Registry(functions_changed)
        self.triggers = TriggerTable()
        self.workers = WorkerTable()
        self._served = served

    def add_function(self, record: FunctionRecord) -> list[Effect]:
        """Serve a function from now on.

        Raises:
            FunctionConflict: As `Registry.add`.
        """
        self.functions.add(record)
        return self.triggers.release([_offer(record)])

    def wait(self, record: FunctionRecord) -> list[Effect]:
        """Let a function that was refused stand in line, and the triggers on it of the same worker with it."""
        if not self.functions.wait(record):
            return []
        return self.triggers.hold([_offer(record)])

    def remove_function(self, namespace: str, function_id: str, owner: WorkerRecord) -> list[Effect]:
        """A worker no longer serves a function, or waits for it; the next in line serves it."""
        return self._handed_on(self.functions.remove(namespace, function_id, owner), owner)

    def drop_functions(self, owner: WorkerRecord) -> list[Effect]:
        """A worker serves and waits for nothing any more; those next in line serve."""
        return self._handed_on(self.functions.drop_owner(owner), owner)

    def bind(self, binding: BindingRecord) -> list[Effect]:
        """Tie a trigger to a function, now or when it may fire."""
        owner = binding.owner
        if owner is not None and self.functions.waits(binding.namespace, binding.function_id, owner):
            binding.held = True
        return self.triggers.bind(binding)

    def retire(self, worker: WorkerRecord) -> list[Effect]:
        """The next generation of a worker may take over: it serves until then, has no triggers and inherits nothing."""
        worker.retiring = True
        self.functions.leave_lines(worker)
        return self.triggers.drop_bindings(worker)

    def withdraw(self, worker: WorkerRecord) -> list[Effect]:
        """A worker is about to end: it serves nothing any more, and others take over."""
        return self.retire(worker) + self.drop_functions(worker)

    def drop_worker(self, worker: WorkerRecord) -> list[Effect]:
        """A worker's lifetime is over: everything it owned goes, and only that (protocol.md 3.6)."""
        worker.alive = False
        self.functions.leave_lines(worker)
        # Its triggers go first: what takes over may want the same place, a route for example.
        effects = self.triggers.drop_owner(worker) + self.drop_functions(worker)
        self.workers.remove(worker)
        return effects

    def _handed_on(self, promoted: list[FunctionRecord], before: WorkerRecord) -> list[Effect]:
        if not promoted:
            return []
        # One that is still here may still have triggers on what it has left: they rest, those of the next one fire.
        effects = self.triggers.hold([(before, record.namespace, record.id) for record in promoted])
        effects += self.triggers.release([_offer(record) for record in promoted])
        for record in promoted:
            self._served(record)
        return effects


def _offer(record: FunctionRecord) -> Offer:
    return record.owner, record.namespace, record.id
