"""`engine::workers::register`: what a client says about itself, and what follows from it."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from linkly.bus import DEFAULT_NAMESPACE
from linkly_engine.core.workers import WorkerRecord

if TYPE_CHECKING:
    from linkly_engine.engine import Engine
    from linkly_engine.remote.peer import Peer

MAX_CHARACTERS = 280


class WorkerMetadata(msgspec.Struct, kw_only=True):
    """Metadata of one client, every field optional.

    Attributes:
        runtime: For example node, python, rust, browser.
        version: Of its SDK.
        name: Of the worker; host:pid where the program gave none.
        description: For people.
        os: Operating system.
        pid: Process id; a worker without one is hidden from listings.
        isolation: How it is kept apart.
        namespace: Where its registrations go; default: `default`.
        features: What its SDK understands, for example `large-messages.v1`.
        telemetry: Language, project and framework.
    """

    runtime: str | None = None
    version: str | None = None
    name: str | None = None
    description: str | None = None
    os: str | None = None
    pid: int | None = None
    isolation: str | None = None
    namespace: str | None = None
    features: list[str] | None = None
    telemetry: dict[str, Any] | None = None


class Arrival(Protocol):
    """A program that is being started and whose connections are let in together (`Engine.arrivals`).

    Attributes:
        name: Of the worker.
    """

    name: str

    @property
    def pids(self) -> list[int]:
        """Processes of the program."""
        ...

    def takes(self, peer: Peer, metadata: WorkerMetadata) -> bool:
        """Tell whether a connection is one of this program's."""
        ...

    def add(self, peer: Peer, admit: Callable[[], None]) -> None:
        """Hold a connection; `admit` lets it in.

        Raises:
            WorkerConflict: From `admit`: its name is taken, it has to be told.
        """
        ...


def apply_metadata(engine: Engine, peer: Peer, metadata: WorkerMetadata) -> None:
    """Note what a client said, give it its name and let its registrations in.

    A program that the engine is starting has its connections held until it has said all it serves.

    Raises:
        WorkerConflict: Its name is taken by another program; nothing was changed but the description.
    """
    record = peer.record
    record.announced = True
    if record.retiring:
        return
    record.runtime = clean(metadata.runtime)
    record.version = clean(metadata.version)
    record.description = clean(metadata.description)
    record.os = clean(metadata.os)
    record.pid = metadata.pid
    record.isolation = clean(metadata.isolation)
    record.telemetry = metadata.telemetry
    record.features = metadata.features or []
    if record.runtime == "python":
        peer.limit_frames(large_messages="large-messages.v1" in record.features)
    arrival = next((arrival for arrival in engine.arrivals if arrival.takes(peer, metadata)), None)
    if arrival is None or record.namespace is not None:
        _admit(engine, peer, metadata)
    else:
        peer.hold()
        arrival.add(peer, partial(_admit, engine, peer, metadata))


def _admit(engine: Engine, peer: Peer, metadata: WorkerMetadata) -> None:
    record = peer.record
    name = clean(metadata.name)
    if name:
        namespace = record.namespace or metadata.namespace or DEFAULT_NAMESPACE
        shared = _may_share(engine, record, metadata, name, namespace)
        engine.workers.claim_name(record, namespace, name, shared=shared)
        peer.connection.name = name
    peer.settle(metadata.namespace or DEFAULT_NAMESPACE)


def clean(text: str | None) -> str | None:
    """Strip control and bidirectional characters and cut to 280 characters: it ends up on terminals."""
    if text is None:
        return None
    return "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))[:MAX_CHARACTERS]


def _may_share(engine: Engine, record: WorkerRecord, metadata: WorkerMetadata, name: str, namespace: str) -> bool:
    """Tell whether a second worker may have a name that is taken (protocol.md 3.5, [REC]).

    Clients that know neither features nor namespaces would stay connected and deaf if they were refused, and every
    client names itself host:pid where the program gave no name, so that two in one process collide.
    """
    if metadata.features is None and metadata.namespace is None:
        return True
    if metadata.pid is not None and name.endswith(f":{metadata.pid}"):
        return True
    owner = engine.workers.holder(namespace, name)
    same_process = owner is not None and (owner.pid, owner.os, owner.ip_address) == (
        record.pid,
        record.os,
        record.ip_address,
    )
    return same_process and record.pid is not None
