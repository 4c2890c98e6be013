"""The table of trigger types and bindings: which provider has to know which binding.

Pure bookkeeping: every method returns the changes that follow, in order. A binding is *live* while a provider has it
and *parked* while none does; a parked one waits, without an error, until its type is registered (docs/protocol.md 4).
Durable bindings have no owner.

Several may offer the same thing, and what one of them leaves the next one has:

* of several providers of a type the last one has its bindings; when it goes, the one before;
* a binding id belongs to the live worker that took it first; others who take it stand in line;
* a binding whose owner was refused its target is *held*: the worker that serves the target has triggers of its own,
  and an event has to fire once.
"""

from __future__ import annotations

from typing import TypeAlias

from linkly.bus import DEFAULT_NAMESPACE, Json
from linkly_engine.core.changes import BindingLive, BindingRefused, BindingTakenBack, TypeGone, TypeProvided
from linkly_engine.core.groups import Groups
from linkly_engine.core.records import BindingRecord, BindingState, FunctionRecord, TypeRecord, WorkerRecord

Key: TypeAlias = tuple[str, str]
"""The namespace and the id of a trigger type."""

Owner: TypeAlias = WorkerRecord | None

Moved: TypeAlias = BindingLive | BindingTakenBack
"""What a provider has to be told."""


class TriggerTable:
    """Types and bindings."""

    def __init__(self) -> None:
        self._types: Groups[Key, WorkerRecord, TypeRecord] = Groups()
        """Who provides a type; the last one has its bindings."""
        self._provided: Groups[WorkerRecord, Key, TypeRecord] = Groups()
        self._bindings: dict[str, BindingRecord] = {}
        self._of_type: Groups[str, str, BindingRecord] = Groups()
        """The same by the id of their type: a provider that comes or goes asks for its own, not for all."""
        self._queued: Groups[str, Owner, BindingRecord] = Groups()
        self._owned: Groups[Owner, str, BindingRecord] = Groups()
        self._on: Groups[tuple[Owner, str, str], str, BindingRecord] = Groups()
        """Bindings by owner and by what they run: a registration asks for its own, a worker's end for all of these."""

    @property
    def types(self) -> list[TypeRecord]:
        """Every provided type."""
        return [next(reversed(providers.values())) for providers in self._types.values()]

    @property
    def providers(self) -> list[TypeRecord]:
        """Every provided type, those in whose place another worker provides it included."""
        return [record for providers in self._types.values() for record in providers.values()]

    @property
    def bindings(self) -> list[BindingRecord]:
        """Every binding, live and parked."""
        return [*self._bindings.values(), *(each for line in self._queued.values() for each in line.values())]

    def find_type(self, namespace: str, type_id: str) -> TypeRecord | None:
        """Return a provided type."""
        return self._types.last((namespace, type_id))

    def find_binding(self, binding_id: str) -> BindingRecord | None:
        """Return a binding by its id."""
        return self._bindings.get(binding_id)

    def types_of(self, owner: WorkerRecord) -> list[TypeRecord]:
        """Return what a worker provides, unless another one does so in its place."""
        return [record for record in self._provided.of(owner) if self.find_type(record.namespace, record.id) is record]

    def bindings_of(self, owner: WorkerRecord) -> list[BindingRecord]:
        """Return what a worker has bound, live and parked."""
        return self._owned.of(owner)

    def add_type(self, record: TypeRecord) -> list[Moved | TypeProvided]:
        """Provide a type from now on, in place of an earlier provider: it gets every binding that wants it."""
        key = (record.namespace, record.id)
        self._types.take(key, record.owner)
        self._types.put(key, record.owner, record)
        self._provided.put(record.owner, key, record)
        changes: list[Moved | TypeProvided] = []
        ended_waits = 0
        for binding in self._of_type.of(record.id):
            if self._choose(binding) is not record:
                continue
            old = binding.live_at
            if old is not None and old.owner is not record.owner and old.owner.alive:
                changes.append(BindingTakenBack(binding, old))
            if binding.state is BindingState.WAITS_FOR_TYPE and binding.owner and not binding.owner.in_process:
                ended_waits += 1
            binding.live_at, binding.refused = record, False
            changes.append(BindingLive(binding, record))
        changes.append(TypeProvided(record, ended_waits))
        return changes

    def remove_type(self, namespace: str, type_id: str, owner: WorkerRecord) -> list[Moved | TypeGone]:
        """Stop providing a type; its bindings fall back to another provider or are parked."""
        key = (namespace, type_id)
        record = self._types.take(key, owner)
        if record is None:
            return []
        self._provided.take(owner, key)
        changes: list[Moved | TypeGone] = []
        for binding in self._of_type.of(type_id):
            if binding.live_at is record:
                changes += self._place(binding)
        changes.append(TypeGone(record))
        return changes

    def bind(self, binding: BindingRecord) -> list[Moved]:
        """Take a binding; one of the same owner replaces it, one of another live worker lets it wait."""
        known = self._bindings.get(binding.id)
        self._leave_line(binding.id, binding.owner)
        if known is not None and not _may_take(known, binding.owner):
            binding.queued = True
            self._queued.put(binding.id, binding.owner, binding)
            self._enter(binding)
            return []
        changes: list[Moved] = []
        if known is not None and known.live_at is not None:
            target = self._choose(binding)
            if target is None or target is not known.live_at:
                changes.append(BindingTakenBack(known, known.live_at))
        if known is not None:
            self._leave(known)
            self._of_type.take(known.trigger_type, known.id)
        self._bindings[binding.id] = binding
        self._of_type.put(binding.trigger_type, binding.id, binding)
        self._enter(binding)
        return changes + self._place(binding)

    def unbind(self, binding_id: str, by: WorkerRecord | None = None, *, leaving: bool = False) -> list[Moved] | None:
        """Drop a binding; `None` if there is none with this id, or none that `by` may take back.

        Args:
            by: A worker, which may take back its own and those without an owner; `None`: the engine itself.
            leaving: Its worker ends; otherwise the code that registered it no longer wants it.
        """
        binding = self._bindings.get(binding_id)
        if binding is not None and (by is None or binding.owner in (None, by)):
            return self._drop(binding, unregistered=not leaving)
        return [] if by is not None and self._leave_line(binding_id, by) is not None else None

    def refuse(self, binding_id: str, owner: WorkerRecord, error: Json) -> list[BindingRefused]:
        """Park a binding that its provider, worker `owner`, has refused; that of another provider stays."""
        binding = self._bindings.get(binding_id)
        if binding is None or binding.live_at is None or binding.live_at.owner is not owner:
            return []
        binding.live_at, binding.refused = None, True
        return [BindingRefused(binding, error)]

    def hold(self, owner: WorkerRecord, function: FunctionRecord) -> list[Moved]:
        """Another worker serves a function that `owner` offers too: the triggers of `owner` on it are parked."""
        changes: list[Moved] = []
        for binding in self._on.of((owner, function.namespace, function.id)):
            binding.held = True
            if binding.live_at is not None:
                changes.append(BindingTakenBack(binding, binding.live_at))
                binding.live_at = None
        return changes

    def release(self, function: FunctionRecord) -> list[Moved]:
        """A worker serves a function now: its triggers on it that were held go live."""
        changes: list[Moved] = []
        for binding in self._on.of((function.owner, function.namespace, function.id)):
            if binding.held:
                binding.held = False
                if not binding.queued:
                    changes += self._place(binding)
        return changes

    def drop_owner(self, owner: WorkerRecord) -> list[Moved | TypeGone]:
        """Drop a worker's bindings and types; bindings of others fall back to another provider or are parked."""
        changes: list[Moved | TypeGone] = [*self.drop_bindings(owner)]
        for record in self._provided.of(owner):
            changes += self.remove_type(record.namespace, record.id, owner)
        return changes

    def drop_bindings(self, owner: WorkerRecord) -> list[Moved]:
        """Drop every binding that a worker made."""
        changes: list[Moved] = []
        for binding in self.bindings_of(owner):
            if binding.queued:
                self._leave_line(binding.id, owner)
        for binding in self.bindings_of(owner):
            if binding.live_at is not None and binding.live_at.owner is owner:
                binding.live_at = None  # a worker that goes need not be told of itself
            changes += self._drop(binding)
        return changes

    def give(self, before: WorkerRecord, owner: WorkerRecord) -> None:
        """Let `owner` have every binding of `before`; nothing else changes."""
        for binding in self.bindings_of(before):
            waits = self._leave_line(binding.id, before) is not None
            if not waits:
                self._leave(binding)
            binding.owner = owner
            if waits:
                self._queued.put(binding.id, owner, binding)
            self._enter(binding)

    def _drop(self, binding: BindingRecord, *, unregistered: bool = False) -> list[Moved]:
        """Take a binding from the table; the next of its id goes live."""
        del self._bindings[binding.id]
        self._of_type.take(binding.trigger_type, binding.id)
        self._leave(binding)
        changes: list[Moved] = []
        if binding.live_at is not None:
            changes.append(BindingTakenBack(binding, binding.live_at, unregistered))
        heir = self._queued.first(binding.id)
        if heir is not None:
            self._queued.take(heir.id, heir.owner)
            heir.queued = False
            self._bindings[heir.id] = heir
            self._of_type.put(heir.trigger_type, heir.id, heir)
            changes += self._place(heir)
        return changes

    def _leave_line(self, binding_id: str, owner: Owner) -> BindingRecord | None:
        binding = self._queued.take(binding_id, owner) if self._queued else None
        if binding is not None:
            self._leave(binding)
        return binding

    def _enter(self, binding: BindingRecord) -> None:
        self._owned.put(binding.owner, binding.id, binding)
        self._on.put((binding.owner, binding.namespace, binding.function_id), binding.id, binding)

    def _leave(self, binding: BindingRecord) -> None:
        self._owned.take(binding.owner, binding.id)
        self._on.take((binding.owner, binding.namespace, binding.function_id), binding.id)

    def _place(self, binding: BindingRecord) -> list[Moved]:
        binding.live_at = self._choose(binding)
        if binding.live_at is None:
            return []
        return [BindingLive(binding, binding.live_at)]

    def _choose(self, binding: BindingRecord) -> TypeRecord | None:
        if binding.held:
            return None
        if binding.trigger_namespace is not None:
            return self.find_type(binding.trigger_namespace, binding.trigger_type)
        home = binding.owner.home if binding.owner is not None else DEFAULT_NAMESPACE
        found = self.find_type(home, binding.trigger_type)
        return found or self.find_type(DEFAULT_NAMESPACE, binding.trigger_type)


def _may_take(known: BindingRecord, owner: WorkerRecord | None) -> bool:
    """Return whether a binding of `owner` may replace one of the same id: not if a live worker made that one."""
    maker = known.owner
    return maker is None or maker is owner or not maker.alive or maker.retiring
