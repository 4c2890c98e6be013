"""What a provider of a trigger type is told: of every change of its bindings, in order, in plain values."""

from __future__ import annotations

from linkly.bus import Json
from linkly.schema import as_json, decode
from linkly.trigger import Binding
from linkly_engine.core.changes import BindingLive, BindingTakenBack
from linkly_engine.core.records import BindingRecord


def tell_provider(change: BindingLive | BindingTakenBack) -> None:
    """Tell the provider of a binding that it is live or taken back: an observer of the tables."""
    provider = change.type.provider
    if not change.type.owner.alive:
        return
    if isinstance(change, BindingLive):
        provider.bind(change.binding)
    else:
        provider.unbind(change.binding, unregistered=change.unregistered)


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
