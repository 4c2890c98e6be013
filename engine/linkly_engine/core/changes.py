"""What happens to the tables, as their observers are told it: one record for each change, in order.

A record names what it is about as it is after the change. What waits (a function in line, a parked binding) is no
change for an observer before it comes into force.
"""

from __future__ import annotations

import msgspec

from linkly.bus import Json
from linkly_engine.core.records import BindingRecord, FunctionRecord, TypeRecord, WorkerRecord


class Change(msgspec.Struct, frozen=True):
    """One change; each kind is a direct subclass."""


class FunctionServed(Change, frozen=True):
    """A worker serves a function from now on (`new`: nobody did until now), or registers it again."""

    function: FunctionRecord
    new: bool


class FunctionHandedOn(Change, frozen=True):
    """A function that stood in line is served from now on: the worker that served its id has given it up."""

    function: FunctionRecord


class FunctionGone(Change, frozen=True):
    """Nobody serves a function any more."""

    function: FunctionRecord


class TypeProvided(Change, frozen=True):
    """A worker provides a trigger type from now on, in place of others that provide it too.

    `ended_waits` counts the triggers of remote workers that waited for it; their `BindingLive` came before.
    """

    type: TypeRecord
    ended_waits: int


class TypeGone(Change, frozen=True):
    """A worker no longer provides a trigger type."""

    type: TypeRecord


class BindingLive(Change, frozen=True):
    """A binding fires from now on, or replaces one of its id: its provider has to know it."""

    binding: BindingRecord
    type: TypeRecord


class BindingTakenBack(Change, frozen=True):
    """A binding no longer fires: the provider that had it has to forget it.

    `unregistered`: the code that registered it no longer wants it; otherwise its worker leaves, or it moves.
    """

    binding: BindingRecord
    type: TypeRecord
    unregistered: bool = False


class BindingRefused(Change, frozen=True):
    """The provider of a binding has refused it, with an error as it goes over the wire; the binding is parked."""

    binding: BindingRecord
    error: Json


class WorkerHere(Change, frozen=True):
    """A worker has connected and named itself or registered something, or starts in the engine's process."""

    worker: WorkerRecord


class WorkerAnnounced(Change, frozen=True):
    """A remote worker has said who it is, and that holds."""

    worker: WorkerRecord


class WorkerGone(Change, frozen=True):
    """A worker's lifetime is over, also one that never joined; everything that it owned is gone before."""

    worker: WorkerRecord
