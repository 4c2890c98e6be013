"""Who provides a trigger type, as the tables see it: told of every change of its bindings, in order."""

from __future__ import annotations

from typing import Protocol

from linkly.bus import Json
from linkly.schema import decode
from linkly.trigger import Binding
from linkly.wire.connection import as_json
from linkly_engine.core.triggers import BindingRecord


class Provider(Protocol):
    """Told of every change, in order; refusals come back through `Engine.refused`."""

    def bind(self, binding: BindingRecord) -> None:
        """There is a binding, new or replaced."""
        ...

    def unbind(self, binding: BindingRecord) -> None:
        """A binding is gone."""
        ...

    async def settled(self, binding_id: str | None = None) -> None:
        """Wait until what was said so far has been dealt with.

        Raises:
            TriggerRegistrationFailed: `binding_id` was given and refused.
        """
        ...


def as_binding(record: BindingRecord) -> Binding:
    """Return a binding as its in-process provider sees it: plain values, nothing shared."""
    return Binding(
        id=record.id,
        trigger_type=record.trigger_type,
        function_id=record.function_id,
        config=plain(record.config),
        metadata=plain(record.metadata),
        namespace=record.namespace,
        owner=record.owner.id if record.owner is not None else "",
    )


def plain(value: object) -> object:
    """Return a bus value as plain data of one's own."""
    data = value if type(value) is Json else as_json(value)
    return decode(data) if bytes(memoryview(data)[:1]) else None
