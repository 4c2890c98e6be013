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

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TypeAlias

from linkly.bus import DEFAULT_NAMESPACE, Json
from linkly_engine.core.changes import BindingLive, BindingRefused, BindingTakenBack, TypeGone, TypeProvided
from linkly_engine.core.records import BindingRecord, BindingState, TypeRecord, WorkerRecord

Target: TypeAlias = tuple[str, str]
"""The namespace and the id of a function."""

Offer: TypeAlias = tuple[WorkerRecord, Target]
"""A worker and a function that it registers."""

Moved: TypeAlias = BindingLive | BindingTakenBack
"""What a provider has to be told."""


class TriggerTable:
    """Types and bindings."""

    def __init__(self) -> None:
        self._types: dict[tuple[str, str], list[TypeRecord]] = {}
        """Who provides a type; the last one has its bindings."""
        self._bindings: dict[str, BindingRecord] = {}
        self._queued: dict[str, list[BindingRecord]] = {}
        self._owned: dict[WorkerRecord, dict[Target, dict[BindingRecord, None]]] = {}
        """All of these by owner and by what they run: a registration asks for its own, and so does a worker's end."""
        self._provided: dict[WorkerRecord, dict[tuple[str, str], TypeRecord]] = {}

    @property
    def types(self) -> Iterator[TypeRecord]:
        """Every provided type."""
        return iter([providers[-1] for providers in self._types.values()])

    @property
    def providers(self) -> Iterator[TypeRecord]:
        """Every provided type, those in whose place another worker provides it included."""
        return chain.from_iterable(list(self._types.values()))

    @property
    def bindings(self) -> Iterator[BindingRecord]:
        """Every binding, live and parked."""
        return chain(list(self._bindings.values()), *list(self._queued.values()))

    def find_type(self, namespace: str, type_id: str) -> TypeRecord | None:
        """Return a provided type."""
        providers = self._types.get((namespace, type_id))
        return providers[-1] if providers else None

    def find_binding(self, binding_id: str) -> BindingRecord | None:
        """Return a binding by its id."""
        return self._bindings.get(binding_id)

    def types_of(self, owner: WorkerRecord) -> list[TypeRecord]:
        """Return what a worker provides, unless another one does so in its place."""
        return [kind for key, kind in self._provided.get(owner, {}).items() if self._types[key][-1] is kind]

    def bindings_of(self, owner: WorkerRecord) -> list[BindingRecord]:
        """Return what a worker has bound, live and parked."""
        return [binding for group in self._owned.get(owner, {}).values() for binding in group]

    def add_type(self, record: TypeRecord) -> list[Moved | TypeProvided]:
        """A type is provided from now on, in place of an earlier provider: it gets every binding that wants it."""
        key = (record.namespace, record.id)
        providers = self._types.setdefault(key, [])
        providers[:] = [known for known in providers if known.owner is not record.owner]
        providers.append(record)
        self._provided.setdefault(record.owner, {})[key] = record
        changes: list[Moved | TypeProvided] = []
        ended_waits = 0
        for binding in self._bindings.values():
            if binding.trigger_type != record.id or self._choose(binding) is not record:
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
        """A worker no longer provides a type; its bindings fall back to another provider or are parked."""
        key = (namespace, type_id)
        provided = self._provided.get(owner, {})
        record = provided.pop(key, None)
        if record is None:
            return []
        if not provided:
            del self._provided[owner]
        self._types[key].remove(record)
        if not self._types[key]:
            del self._types[key]
        changes: list[Moved | TypeGone] = []
        for binding in self._bindings.values():
            if binding.live_at is record:
                changes += self._place(binding)
        changes.append(TypeGone(record))
        return changes

    def bind(self, binding: BindingRecord) -> list[Moved]:
        """Take a binding; one of the same owner replaces it, one of another live worker lets it wait."""
        known = self._bindings.get(binding.id)
        if known is not None and not _may_take(known, binding.owner):
            binding.queued = True
            self._leave_line(binding.id, binding.owner)
            self._queued.setdefault(binding.id, []).append(binding)
            self._enter(binding)
            return []
        self._leave_line(binding.id, binding.owner)
        changes: list[Moved] = []
        if known is not None and known.live_at is not None:
            target = self._choose(binding)
            if target is None or target is not known.live_at:
                changes.append(BindingTakenBack(known, known.live_at))
        if known is not None:
            self._leave(known)
        self._bindings[binding.id] = binding
        self._enter(binding)
        return changes + self._place(binding)

    def unbind(self, binding_id: str, by: WorkerRecord | None = None) -> list[Moved] | None:
        """Drop a binding; `None` if there is none with this id, or none that `by` may take back.

        Args:
            binding_id: Its id.
            by: A worker, which may take back its own and those without an owner; `None`: the engine itself.
        """
        binding = self._bindings.get(binding_id)
        if binding is not None and (by is None or binding.owner in (None, by)):
            return self._drop(binding)
        return [] if by is not None and self._leave_line(binding_id, by) else None

    def refuse(self, binding_id: str, owner: WorkerRecord, error: Json) -> list[BindingRefused]:
        """Park a binding that its provider's worker `owner` has refused; that of another is no concern of its own."""
        binding = self._bindings.get(binding_id)
        if binding is None or binding.live_at is None or binding.live_at.owner is not owner:
            return []
        binding.live_at, binding.refused = None, True
        return [BindingRefused(binding, error)]

    def hold(self, unserved: Iterable[Offer]) -> list[Moved]:
        """Others serve these functions, which these workers offer too: their triggers on them are parked."""
        changes: list[Moved] = []
        for binding in self._bindings_on(unserved):
            if not binding.held:
                binding.held = True
                if binding.live_at is not None:
                    changes.append(BindingTakenBack(binding, binding.live_at))
                    binding.live_at = None
        return changes

    def release(self, served: Iterable[Offer]) -> list[Moved]:
        """These workers serve these functions now: their triggers on them that were held go live."""
        changes: list[Moved] = []
        for binding in self._bindings_on(served):
            if binding.held:
                binding.held = False
                if not binding.queued:
                    changes += self._place(binding)
        return changes

    def drop_owner(self, owner: WorkerRecord) -> list[Moved | TypeGone]:
        """A worker is gone: its bindings are unbound, its types removed, other workers' bindings fall back."""
        changes: list[Moved | TypeGone] = [*self.drop_bindings(owner)]
        for namespace, type_id in list(self._provided.get(owner, ())):
            changes += self.remove_type(namespace, type_id, owner)
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
        """Let `owner`, which has none so far, have every binding of `before`; nothing else changes."""
        for binding in self.bindings_of(before):
            binding.owner = owner
        self._owned[owner] = self._owned.pop(before, {})

    def _drop(self, binding: BindingRecord) -> list[Moved]:
        """Take a binding from the table; the next of its id goes live."""
        del self._bindings[binding.id]
        self._leave(binding)
        changes: list[Moved] = []
        if binding.live_at is not None:
            changes.append(BindingTakenBack(binding, binding.live_at))
        line = self._queued.get(binding.id)
        if line:
            heir = line[0]
            self._leave_line(binding.id, heir.owner)
            heir.queued = False
            self._bindings[heir.id] = heir
            self._enter(heir)
            changes += self._place(heir)
        return changes

    def _leave_line(self, binding_id: str, owner: WorkerRecord | None) -> bool:
        line = self._queued.get(binding_id, [])
        left = [each for each in line if each.owner is not owner]
        if len(left) == len(line):
            return False
        for binding in line:
            if binding.owner is owner:
                self._leave(binding)
        if left:
            self._queued[binding_id] = left
        else:
            del self._queued[binding_id]
        return True

    def _bindings_on(self, offers: Iterable[Offer]) -> list[BindingRecord]:
        return [binding for owner, target in offers for binding in self._owned.get(owner, {}).get(target, ())]

    def _enter(self, binding: BindingRecord) -> None:
        if binding.owner is not None:
            owned = self._owned.setdefault(binding.owner, {})
            owned.setdefault((binding.namespace, binding.function_id), {})[binding] = None

    def _leave(self, binding: BindingRecord) -> None:
        if binding.owner is not None:
            owned, target = self._owned[binding.owner], (binding.namespace, binding.function_id)
            del owned[target][binding]
            if not owned[target]:
                del owned[target]
                if not owned:
                    del self._owned[binding.owner]

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
