"""The engine's tables: who serves which function, provides which trigger type and has bound which trigger.

Every change goes through `Tables`, which keeps the three tables in step: a function that changes its owner takes
triggers with it; a worker that goes leaves functions, triggers, types and a name to others. A change is complete when
observers are told of it, and each is told every change (`linkly_engine.core.changes`) in order.

The parts (`functions`, `triggers`, `workers`) are for reading. Nothing in `linkly_engine.core` knows a socket, a clock
or a task.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from linkly.bus import Json
from linkly_engine.core.changes import Change, FunctionHandedOn, WorkerAnnounced, WorkerGone, WorkerHere
from linkly_engine.core.metadata import WorkerMetadata, clean
from linkly_engine.core.records import BindingRecord, FunctionRecord, TypeRecord, WorkerRecord
from linkly_engine.core.registry import EndpointOf, GivenUp, Registry
from linkly_engine.core.triggers import TriggerTable
from linkly_engine.core.workers import WorkerTable

log = logging.getLogger("linkly.engine")


class Tables:
    """Functions, triggers and workers of one engine, and every change of them."""

    def __init__(self) -> None:
        self.functions = Registry()
        self.triggers = TriggerTable()
        self.workers = WorkerTable()
        self._observers: dict[type[Change], list[Callable[[Any], None]]] = {}
        self._untold: deque[Change] = deque()
        self._telling = False

    def observe(self, observer: Callable[[Any], None], *kinds: type[Change]) -> None:
        """Tell `observer` every change of these kinds from now on, of all kinds if none is named.

        Those who observe already are told first. What an observer changes itself is told when all have been told what
        led to it. One that raises is logged and keeps the change from nobody else.
        """
        for kind in kinds or Change.__subclasses__():
            self._observers.setdefault(kind, []).append(observer)

    # --- functions -----------------------------------------------------------------------------------------

    def add_function(self, record: FunctionRecord) -> None:
        """Serve a function from now on.

        Raises:
            FunctionConflict: As `Registry.add`.
        """
        served = self.functions.add(record)
        self._tell([served, *self.triggers.release(record)])

    def keep_waiting(self, record: FunctionRecord) -> None:
        """Serve a function that was refused when its owner is gone; until then the worker's triggers on it rest."""
        if self.functions.wait(record):
            self._tell(self.triggers.hold(record.owner, record))

    def remove_function(self, namespace: str, function_id: str, owner: WorkerRecord) -> None:
        """Take back a function that a worker serves or waits for; nothing happens to that of another."""
        self._tell(self._handed_on(self.functions.remove(namespace, function_id, owner), owner))

    def drop_functions(self, owner: WorkerRecord) -> None:
        """Take back everything that a worker serves or waits for; those next in line serve."""
        self._tell(self._handed_on(self.functions.drop_owner(owner), owner))

    # --- triggers ------------------------------------------------------------------------------------------

    def add_type(self, record: TypeRecord) -> None:
        """Provide a trigger type from now on."""
        self._tell(self.triggers.add_type(record))

    def remove_type(self, namespace: str, type_id: str, owner: WorkerRecord) -> None:
        """Take back a trigger type; nothing happens to that of another worker."""
        self._tell(self.triggers.remove_type(namespace, type_id, owner))

    def bind(self, binding: BindingRecord) -> None:
        """Tie a trigger to a function, now or when it may fire."""
        owner = binding.owner
        if owner is not None and self.functions.waits(binding.namespace, binding.function_id, owner):
            binding.held = True
        self._tell(self.triggers.bind(binding))

    def unbind(self, binding_id: str, by: WorkerRecord | None = None, *, leaving: bool = False) -> bool:
        """Take a binding back; return whether there was one that `by` may take back (`TriggerTable.unbind`)."""
        changes = self.triggers.unbind(binding_id, by, leaving=leaving)
        if changes is None:
            return False
        self._tell(changes)
        return True

    def refuse(self, binding_id: str, provider: WorkerRecord, error: Json) -> None:
        """Park a binding that its provider has refused; nothing happens if it is another provider's."""
        self._tell(self.triggers.refuse(binding_id, provider, error))

    def drop_triggers(self, owner: WorkerRecord) -> None:
        """Take back every trigger that a worker has bound, and every trigger type that it provides."""
        self._tell(self.triggers.drop_owner(owner))

    # --- workers -------------------------------------------------------------------------------------------

    def add_worker(self, worker: WorkerRecord) -> None:
        """Begin a lifetime; a connection joins when it names itself or registers something."""
        self.workers.add(worker)
        if worker.in_process:
            self.join(worker)

    def join(self, worker: WorkerRecord) -> None:
        """Tell the observers that a worker has joined, the first time."""
        if not worker.joined:
            worker.joined = True
            self._tell([WorkerHere(worker)])

    def describe(self, worker: WorkerRecord, metadata: WorkerMetadata) -> None:
        """Note what a worker says about itself, unless it retires; it gets neither name nor namespace by that."""
        worker.announced = True
        self.join(worker)
        if worker.retiring:
            return
        worker.runtime = clean(metadata.runtime)
        worker.version = clean(metadata.version)
        worker.description = clean(metadata.description)
        worker.os = clean(metadata.os)
        worker.pid = metadata.pid
        worker.isolation = clean(metadata.isolation)

    def started_by(self, worker: WorkerRecord, program: str) -> None:
        """Note which entry of config.yaml has started a worker."""
        worker.program = program

    def claim_name(self, worker: WorkerRecord, namespace: str, name: str, *, shared: bool = False) -> None:
        """Give a worker its name.

        Raises:
            WorkerConflict: As `WorkerTable.claim_name`.
        """
        self.workers.claim_name(worker, namespace, name, shared=shared)

    def fix_namespace(self, worker: WorkerRecord, namespace: str) -> None:
        """Note where a worker's registrations go."""
        worker.namespace = namespace

    def announce(self, worker: WorkerRecord) -> None:
        """Tell the observers that a worker has said who it is."""
        self._tell([WorkerAnnounced(worker)])

    def retire(self, worker: WorkerRecord) -> None:
        """Let the next generation take over: the worker serves until then, has no triggers and inherits nothing."""
        worker.retiring = True
        self.functions.leave_lines(worker)
        self._tell(self.triggers.drop_bindings(worker))

    def withdraw(self, worker: WorkerRecord) -> None:
        """Keep new calls and events from a worker that is about to end, and let others take over what it served."""
        self.retire(worker)
        self.drop_functions(worker)

    def forget(self, worker: WorkerRecord) -> None:
        """End a worker's lifetime: everything it owned goes, and only that (docs/protocol.md 3.6)."""
        if not worker.alive:
            return
        worker.alive = False
        self.functions.leave_lines(worker)
        # Its triggers go first: what takes over may want the same place, a route for example.
        changes: list[Change] = [*self.triggers.drop_owner(worker)]
        changes += self._handed_on(self.functions.drop_owner(worker), worker)
        self.workers.remove(worker)
        self._tell([*changes, WorkerGone(worker)])

    def stand_in(self, worker: WorkerRecord, endpoint_of: EndpointOf, *, keeps_bindings: bool) -> WorkerRecord:
        """Put a record of no living worker in the place of one that ends, until it is dropped.

        Whoever registers the worker's ids next gets them without a conflict.

        Args:
            worker: It owns no function and no binding from now on; its trigger types stay its own.
            endpoint_of: Makes the endpoint that a function has meanwhile from the one that it had.
            keeps_bindings: A next generation is about to come: the bindings stay, and nobody else takes a function
                over. Otherwise the bindings go, and what others wait for is theirs.

        Returns:
            The owner of these functions and bindings.
        """
        owner = WorkerRecord(name=worker.name, namespace=worker.namespace, in_process=True, internal=True, alive=False)
        changes: list[Change] = [*self.functions.stand_in(worker, owner, endpoint_of)]
        if keeps_bindings:
            self.triggers.give(worker, owner)
        else:
            for binding in self.triggers.bindings_of(worker):
                changes += self.triggers.unbind(binding.id, leaving=True) or ()
            changes += self._handed_on(self.functions.give_way(owner), owner)
        self._tell(changes)
        return owner

    # --- what follows --------------------------------------------------------------------------------------

    def _handed_on(self, given_up: Sequence[GivenUp], before: WorkerRecord) -> Sequence[Change]:
        """Let the triggers follow the functions that their worker has given up."""
        heirs = [change.function for change in given_up if type(change) is FunctionHandedOn]
        if not heirs:
            return given_up
        changes: list[Change] = [*given_up]
        # One that is still connected may have triggers on what it has left: they rest, those of the next one fire.
        for heir in heirs:
            changes += self.triggers.hold(before, heir)
        for heir in heirs:
            changes += self.triggers.release(heir)
        return changes

    def _tell(self, changes: Iterable[Change]) -> None:
        self._untold.extend(changes)
        if self._telling:
            return
        self._telling = True
        try:
            while self._untold:
                change = self._untold.popleft()
                for observer in self._observers.get(type(change), ()):
                    try:
                        observer(change)
                    except Exception:
                        log.exception("an observer of the tables failed: %s", type(change).__name__)
        finally:
            self._telling = False
