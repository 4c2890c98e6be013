"""`engine::workers::register`: what a client says about itself, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from linkly.invocation import DEFAULT_NAMESPACE
from linkly.wire.messages import MAX_MESSAGE_BYTES
from linkly_engine.core.metadata import WorkerMetadata, clean
from linkly_engine.core.records import WorkerRecord
from linkly_engine.core.tables import Tables
from linkly_engine.remote.peer import Peer

OLD_PYTHON_LIMIT_BYTES = 1024 * 1024
"""Python clients that do not declare `large-messages.v1` close with 1009 above this (docs/protocol.md 1.7)."""


class Arrival(Protocol):
    """A program that is being started and whose connections are let in together (`Peers.arrivals`)."""

    name: str

    @property
    def pids(self) -> list[int]:
        """Processes of the program."""
        ...

    def takes(self, peer: Peer, metadata: WorkerMetadata) -> bool:
        """Return whether a connection is one of this program's."""
        ...

    def add(self, peer: Peer, admit: Callable[[], None]) -> None:
        """Hold a connection; `admit` lets it in.

        Raises:
            WorkerConflict: From `admit`: its name is taken, it has to be told.
        """
        ...


def apply_metadata(tables: Tables, arrivals: Iterable[Arrival], peer: Peer, metadata: WorkerMetadata) -> None:
    """Describe a worker by what its client said, claim its name and let its registrations in.

    The connections of a program that the engine is starting are held until it has registered all that it serves.

    Raises:
        WorkerConflict: Its name is taken by another program; nothing was changed but the description.
    """
    record = peer.record
    tables.describe(record, metadata)
    if record.retiring:
        return
    if record.runtime == "python":
        peer.connection.peer_limit_bytes = (
            MAX_MESSAGE_BYTES if "large-messages.v1" in (metadata.features or ()) else OLD_PYTHON_LIMIT_BYTES
        )
    arrival = next((arrival for arrival in arrivals if arrival.takes(peer, metadata)), None)
    if arrival is None or record.namespace is not None:
        _admit(tables, peer, metadata)
    else:
        peer.hold()
        arrival.add(peer, partial(_admit, tables, peer, metadata))


def _admit(tables: Tables, peer: Peer, metadata: WorkerMetadata) -> None:
    record = peer.record
    name = clean(metadata.name)
    if name:
        namespace = record.namespace or metadata.namespace or DEFAULT_NAMESPACE
        shared = _may_share(tables, record, metadata, name, namespace)
        tables.claim_name(record, namespace, name, shared=shared)
        peer.connection.name = name
    peer.fix_namespace(metadata.namespace or DEFAULT_NAMESPACE)


def _may_share(tables: Tables, record: WorkerRecord, metadata: WorkerMetadata, name: str, namespace: str) -> bool:
    """Return whether a second worker may have a name that is taken (docs/protocol.md 3.5).

    Clients that know neither features nor namespaces would stay connected and deaf if they were refused, and every
    client names itself host:pid where the program gave no name, so that two in one process collide.
    """
    if metadata.features is None and metadata.namespace is None:
        return True
    if metadata.pid is not None and name.endswith(f":{metadata.pid}"):
        return True
    owner = tables.workers.holder(namespace, name)
    same_process = owner is not None and (owner.pid, owner.os, owner.ip_address) == (
        record.pid,
        record.os,
        record.ip_address,
    )
    return same_process and record.pid is not None
