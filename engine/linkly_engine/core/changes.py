"""What happens to the tables, as their observers are told it: one record for each change, in order.

A record names what it is about as it is after the change. What waits (a function in line, a parked binding) is no
change for an observer before it comes into force.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from linkly.bus import Json
from linkly_engine.core.records import BindingRecord, FunctionRecord, TypeRecord, WorkerRecord


class FunctionServed(msgspec.Struct, frozen=True):
    """A worker serves a function from now on, or says it again in other words.

    Attributes:
        function: What is served.
        new: Nobody served this id until now.
    """

    function: FunctionRecord
    new: bool


class FunctionHandedOn(msgspec.Struct, frozen=True):
    """A function that stood in line is served from now on: the worker that served its id has given it up."""

    function: FunctionRecord


class FunctionGone(msgspec.Struct, frozen=True):
    """Nobody serves a function any more."""

    function: FunctionRecord


class TypeProvided(msgspec.Struct, frozen=True):
    """A worker provides a trigger type from now on, in place of others that provide it too.

    Attributes:
        type: What is provided.
        ended_waits: How many triggers of remote workers waited for it; their `BindingLive` came before.
    """

    type: TypeRecord
    ended_waits: int


class TypeGone(msgspec.Struct, frozen=True):
    """A worker no longer provides a trigger type."""

    type: TypeRecord


class BindingLive(msgspec.Struct, frozen=True):
    """A binding fires from now on, or replaces one of its id: its provider has to know it."""

    binding: BindingRecord
    type: TypeRecord


class BindingTakenBack(msgspec.Struct, frozen=True):
    """A binding no longer fires: the provider that had it has to forget it."""

    binding: BindingRecord
    type: TypeRecord


class BindingRefused(msgspec.Struct, frozen=True):
    """The provider of a binding has refused it.

    Attributes:
        binding: It is parked.
        error: The provider's, as it goes over the wire.
    """

    binding: BindingRecord
    error: Json


class WorkerHere(msgspec.Struct, frozen=True):
    """A worker has connected and named itself or registered something, or starts in the engine's process."""

    worker: WorkerRecord


class WorkerAnnounced(msgspec.Struct, frozen=True):
    """A remote worker has said who it is, and that holds."""

    worker: WorkerRecord


class WorkerGone(msgspec.Struct, frozen=True):
    """A worker's lifetime is over, also one that never joined; everything that it owned is gone before."""

    worker: WorkerRecord


Change: TypeAlias = (
    FunctionServed
    | FunctionHandedOn
    | FunctionGone
    | TypeProvided
    | TypeGone
    | BindingLive
    | BindingTakenBack
    | BindingRefused
    | WorkerHere
    | WorkerAnnounced
    | WorkerGone
)
