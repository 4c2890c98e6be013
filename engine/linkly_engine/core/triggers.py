"""The table of trigger types and bindings: which provider has to know which binding.

Pure bookkeeping: every method returns the `Effect`s somebody else has to carry out, in order. A binding is *live*
while a provider has it and *parked* while none does; a parked one waits, without an error, until its type is
registered (protocol.md 4). Bindings point at the `WorkerRecord` that made them, durable ones at nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

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
        self._types: dict[tuple[str, str], TypeRecord] = {}
        self._bindings: dict[str, BindingRecord] = {}

    @property
    def types(self) -> Iterator[TypeRecord]:
        """Every provided type."""
        return iter(list(self._types.values()))

    @property
    def bindings(self) -> Iterator[BindingRecord]:
        """Every binding, live and parked."""
        return iter(list(self._bindings.values()))

    def find_type(self, namespace: str, type_id: str) -> TypeRecord | None:
        """Return a provided type."""
        return self._types.get((namespace, type_id))

    def find_binding(self, binding_id: str) -> BindingRecord | None:
        """Return a binding by its id."""
        return self._bindings.get(binding_id)

    def add_type(self, record: TypeRecord) -> list[Effect]:
        """A type is provided from now on, replacing an earlier provider: it gets every binding that wants it."""
        self._types[record.namespace, record.id] = record
        effects: list[Effect] = []
        for binding in self._bindings.values():
            if binding.trigger_type != record.id or self._choose(binding) is not record:
                continue
            old = binding.provider
            if old is not None and old.owner.alive and old.namespace != record.namespace:
                effects.append(Effect(Change.UNBIND, old, binding))  # it had settled on the `default` provider
            binding.provider, binding.refused = record, False
            effects.append(Effect(Change.BIND, record, binding))
        return effects

    def remove_type(self, namespace: str, type_id: str, owner: WorkerRecord) -> list[Effect]:
        """A type is no longer provided; its bindings fall back to another provider or are parked."""
        record = self._types.get((namespace, type_id))
        if record is None or record.owner is not owner:
            return []
        del self._types[namespace, type_id]
        effects: list[Effect] = []
        for binding in self._bindings.values():
            if binding.provider is record:
                effects += self._settle(binding)
        return effects

    def bind(self, binding: BindingRecord) -> list[Effect]:
        """Take a binding; an id that is known replaces the earlier binding."""
        known = self._bindings.get(binding.id)
        effects: list[Effect] = []
        if known is not None and known.provider is not None:
            target = self._choose(binding)
            if target is None or target is not known.provider:
                effects.append(Effect(Change.UNBIND, known.provider, known))
        self._bindings[binding.id] = binding
        return effects + self._settle(binding)

    def unbind(self, binding_id: str) -> list[Effect] | None:
        """Drop a binding; `None` if there is none with this id."""
        binding = self._bindings.pop(binding_id, None)
        if binding is None:
            return None
        if binding.provider is None:
            return []
        return [Effect(Change.UNBIND, binding.provider, binding)]

    def refuse(self, binding_id: str, owner: WorkerRecord) -> BindingRecord | None:
        """The provider's worker `owner` refused a binding: park it. `None` if it is not that worker's to refuse."""
        binding = self._bindings.get(binding_id)
        if binding is None or binding.provider is None or binding.provider.owner is not owner:
            return None
        binding.provider, binding.refused = None, True
        return binding

    def drop_owner(self, owner: WorkerRecord) -> list[Effect]:
        """A worker is gone: its bindings are unbound, its types removed, other workers' bindings fall back."""
        effects = self.drop_bindings(owner)
        for record in list(self._types.values()):
            if record.owner is owner:
                effects += self.remove_type(record.namespace, record.id, owner)
        return effects

    def drop_bindings(self, owner: WorkerRecord) -> list[Effect]:
        """Drop every binding that a worker made."""
        effects: list[Effect] = []
        for binding in list(self._bindings.values()):
            if binding.owner is owner:
                del self._bindings[binding.id]
                if binding.provider is not None and binding.provider.owner is not owner:
                    effects.append(Effect(Change.UNBIND, binding.provider, binding))
        return effects

    def _settle(self, binding: BindingRecord) -> list[Effect]:
        binding.provider = self._choose(binding)
        if binding.provider is None:
            return []
        return [Effect(Change.BIND, binding.provider, binding)]

    def _choose(self, binding: BindingRecord) -> TypeRecord | None:
        if binding.trigger_namespace is not None:
            return self._types.get((binding.trigger_namespace, binding.trigger_type))
        home = binding.owner.home if binding.owner is not None else DEFAULT_NAMESPACE
        found = self._types.get((home, binding.trigger_type))
        return found or self._types.get((DEFAULT_NAMESPACE, binding.trigger_type))
