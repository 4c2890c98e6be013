"""The table of trigger types and bindings: which provider has to know which binding.

Pure bookkeeping: every method returns the `Effect`s somebody else has to carry out, in order. A binding is *live*
while a provider has it and *parked* while none does; a parked one waits, without an error, until its type is
registered (protocol.md 4). Bindings point at the `WorkerRecord` that made them, durable ones at nobody.

Several may offer the same thing, and what one of them leaves the next one has:

* of several providers of a type the last one has its bindings; when it goes, the one before;
* a binding id belongs to the live worker that took it first; others who take it stand in line;
* a binding whose owner was refused its target is *held*: the worker that serves the target has triggers of its own,
  and an event has to fire once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import chain
from typing import Any, TypeAlias

import msgspec

from linkly.bus import DEFAULT_NAMESPACE
from linkly_engine.core.workers import WorkerRecord


class TypeRecord(msgspec.Struct, kw_only=True, eq=False):
    """One provided trigger type.

    Attributes:
        id: Its id.
        namespace: Where it is looked up.
        owner: Its provider.
        description: For people.
        config_schema: JSON Schema of a binding's config.
        payload_schema: JSON Schema of what a firing hands over.
    """

    id: str
    namespace: str
    owner: WorkerRecord
    description: str = ""
    config_schema: Any = None
    payload_schema: Any = None


Offer: TypeAlias = tuple[WorkerRecord, str, str]
"""A worker, a namespace and the id of a function that this worker registers there."""


class BindingState(Enum):
    """Whether a binding fires, and if not, what it waits for."""

    LIVE = "live"
    WAITS_FOR_TYPE = "waits_for_type"
    WAITS_FOR_FUNCTION = "waits_for_function"
    WAITS_FOR_ID = "waits_for_id"
    REFUSED = "refused"


class BindingRecord(msgspec.Struct, kw_only=True, eq=False):
    """One trigger tied to one function.

    Attributes:
        id: Chosen by the binder.
        trigger_type: Id of the type.
        function_id: What runs.
        owner: Who made it; `None`: durable, survives everybody.
        config: Plain data or `Json`, opaque here.
        metadata: Likewise; `None` if absent.
        namespace: Of the function.
        trigger_namespace: Where the type has to be; `None`: the owner's namespace, then `default`.
        provider: The type it is live at; `None`: parked.
        refused: Its provider refused it: it waits for another provider.
        held: Another worker serves its target, which its owner offers too: it waits until its owner serves it.
        queued: Another worker has a binding of this id: it waits until that one is gone.
    """

    id: str
    trigger_type: str
    function_id: str
    owner: WorkerRecord | None = None
    config: Any = None
    metadata: Any = None
    namespace: str = DEFAULT_NAMESPACE
    trigger_namespace: str | None = None
    provider: TypeRecord | None = None
    refused: bool = False
    held: bool = False
    queued: bool = False

    @property
    def state(self) -> BindingState:
        """Whether it fires, and if not, what it waits for."""
        if self.queued:
            return BindingState.WAITS_FOR_ID
        if self.held:
            return BindingState.WAITS_FOR_FUNCTION
        if self.provider is not None:
            return BindingState.LIVE
        return BindingState.REFUSED if self.refused else BindingState.WAITS_FOR_TYPE


class Change(Enum):
    """What a provider has to be told."""

    BIND = "bind"
    UNBIND = "unbind"


class Effect(msgspec.Struct, frozen=True):
    """Tell `provider` about `binding`."""

    change: Change
    provider: TypeRecord
    binding: BindingRecord


class TriggerTable:
    """Types and bindings."""

    def __init__(self) -> None:
        self._types: dict[tuple[str, str], list[TypeRecord]] = {}
        """Who provides a type; the last one has its bindings."""
        self._bindings: dict[str, BindingRecord] = {}
        self._queued: dict[str, list[BindingRecord]] = {}
        self._on: dict[Offer, dict[BindingRecord, None]] = {}
        """All of these by the function that their owner would have run: every registration asks for its own."""

    @property
    def types(self) -> Iterator[TypeRecord]:
        """Every provided type."""
        return iter([providers[-1] for providers in self._types.values()])

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

    def add_type(self, record: TypeRecord) -> list[Effect]:
        """A type is provided from now on, in place of an earlier provider: it gets every binding that wants it."""
        providers = self._types.setdefault((record.namespace, record.id), [])
        providers[:] = [known for known in providers if known.owner is not record.owner]
        providers.append(record)
        effects: list[Effect] = []
        for binding in self._bindings.values():
            if binding.trigger_type != record.id or self._choose(binding) is not record:
                continue
            old = binding.provider
            if old is not None and old.owner is not record.owner and old.owner.alive:
                effects.append(Effect(Change.UNBIND, old, binding))
            binding.provider, binding.refused = record, False
            effects.append(Effect(Change.BIND, record, binding))
        return effects

    def remove_type(self, namespace: str, type_id: str, owner: WorkerRecord) -> list[Effect]:
        """A worker no longer provides a type; its bindings fall back to another provider or are parked."""
        providers = self._types.get((namespace, type_id), [])
        record = next((known for known in providers if known.owner is owner), None)
        if record is None:
            return []
        providers.remove(record)
        if not providers:
            del self._types[namespace, type_id]
        effects: list[Effect] = []
        for binding in self._bindings.values():
            if binding.provider is record:
                effects += self._settle(binding)
        return effects

    def bind(self, binding: BindingRecord) -> list[Effect]:
        """Take a binding; one of the same owner replaces it, one of another live worker lets it wait."""
        known = self._bindings.get(binding.id)
        if known is not None and not _may_take(known, binding.owner):
            binding.queued = True
            self._leave_line(binding.id, binding.owner)
            self._queued.setdefault(binding.id, []).append(binding)
            self._enter(binding)
            return []
        self._leave_line(binding.id, binding.owner)
        effects: list[Effect] = []
        if known is not None and known.provider is not None:
            target = self._choose(binding)
            if target is None or target is not known.provider:
                effects.append(Effect(Change.UNBIND, known.provider, known))
        if known is not None:
            self._leave(known)
        self._bindings[binding.id] = binding
        self._enter(binding)
        return effects + self._settle(binding)

    def unbind(self, binding_id: str, by: WorkerRecord | None = None) -> list[Effect] | None:
        """Drop a binding; `None` if there is none with this id, or none that `by` may take back.

        Args:
            binding_id: Its id.
            by: A worker, which may take back its own and those without an owner; `None`: the engine itself.
        """
        binding = self._bindings.get(binding_id)
        if binding is not None and (by is None or binding.owner in (None, by)):
            return self._drop(binding)
        return [] if by is not None and self._leave_line(binding_id, by) else None

    def refuse(self, binding_id: str, owner: WorkerRecord) -> BindingRecord | None:
        """The provider's worker `owner` refused a binding: park it. `None` if it is not that worker's to refuse."""
        binding = self._bindings.get(binding_id)
        if binding is None or binding.provider is None or binding.provider.owner is not owner:
            return None
        binding.provider, binding.refused = None, True
        return binding

    def hold(self, unserved: Iterable[Offer]) -> list[Effect]:
        """Others serve these functions, which these workers offer too: their triggers on them are parked."""
        effects: list[Effect] = []
        for binding in self._bindings_on(unserved):
            if not binding.held:
                binding.held = True
                if binding.provider is not None:
                    effects.append(Effect(Change.UNBIND, binding.provider, binding))
                    binding.provider = None
        return effects

    def release(self, served: Iterable[Offer]) -> list[Effect]:
        """These workers serve these functions now: their triggers on them that were held go live."""
        effects: list[Effect] = []
        for binding in self._bindings_on(served):
            if binding.held:
                binding.held = False
                if not binding.queued:
                    effects += self._settle(binding)
        return effects

    def drop_owner(self, owner: WorkerRecord) -> list[Effect]:
        """A worker is gone: its bindings are unbound, its types removed, other workers' bindings fall back."""
        effects = self.drop_bindings(owner)
        for namespace, type_id in list(self._types):
            effects += self.remove_type(namespace, type_id, owner)
        return effects

    def drop_bindings(self, owner: WorkerRecord) -> list[Effect]:
        """Drop every binding that a worker made."""
        for binding_id in list(self._queued):
            self._leave_line(binding_id, owner)
        effects: list[Effect] = []
        for binding in list(self._bindings.values()):
            if binding.owner is owner:
                if binding.provider is not None and binding.provider.owner is owner:
                    binding.provider = None  # a worker that goes need not be told of itself
                effects += self._drop(binding)
        return effects

    def give(self, binding: BindingRecord, owner: WorkerRecord) -> None:
        """Another lifetime has a binding from now on; nothing else changes."""
        self._leave(binding)
        binding.owner = owner
        self._enter(binding)

    def _drop(self, binding: BindingRecord) -> list[Effect]:
        """Take a binding from the table; the next of its id goes live."""
        del self._bindings[binding.id]
        self._leave(binding)
        effects: list[Effect] = []
        if binding.provider is not None:
            effects.append(Effect(Change.UNBIND, binding.provider, binding))
        line = self._queued.get(binding.id)
        if line:
            heir = line[0]
            self._leave_line(binding.id, heir.owner)
            heir.queued = False
            self._bindings[heir.id] = heir
            self._enter(heir)
            effects += self._settle(heir)
        return effects

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
        return [binding for offer in offers for binding in self._on.get(offer, ())]

    def _enter(self, binding: BindingRecord) -> None:
        if binding.owner is not None:
            self._on.setdefault(_target(binding, binding.owner), {})[binding] = None

    def _leave(self, binding: BindingRecord) -> None:
        if binding.owner is not None:
            target = _target(binding, binding.owner)
            there = self._on.get(target)
            if there is not None:
                there.pop(binding, None)
                if not there:
                    del self._on[target]

    def _settle(self, binding: BindingRecord) -> list[Effect]:
        binding.provider = self._choose(binding)
        if binding.provider is None:
            return []
        return [Effect(Change.BIND, binding.provider, binding)]

    def _choose(self, binding: BindingRecord) -> TypeRecord | None:
        if binding.held:
            return None
        if binding.trigger_namespace is not None:
            return self.find_type(binding.trigger_namespace, binding.trigger_type)
        home = binding.owner.home if binding.owner is not None else DEFAULT_NAMESPACE
        found = self.find_type(home, binding.trigger_type)
        return found or self.find_type(DEFAULT_NAMESPACE, binding.trigger_type)


def _target(binding: BindingRecord, owner: WorkerRecord) -> Offer:
    return owner, binding.namespace, binding.function_id


def _may_take(known: BindingRecord, owner: WorkerRecord | None) -> bool:
    """Tell whether a binding of `owner` may replace one of the same id: not if a live worker made that one."""
    maker = known.owner
    return maker is None or maker is owner or not maker.alive or maker.retiring
