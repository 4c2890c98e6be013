"""The remote workers that are connected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from linkly.errors import WorkerConflict
from linkly.wire.connection import FrameStream
from linkly.wire.messages import Reattach
from linkly_engine.core.changes import BindingRefused
from linkly_engine.core.exchange import Exchange
from linkly_engine.core.metadata import WorkerMetadata
from linkly_engine.remote.admission import Arrival, apply_metadata
from linkly_engine.remote.peer import Peer


class Peers(dict[str, Peer]):
    """Peers by worker id.

    Args:
        namespace_grace_s: How long a connection may stay silent about its namespace before its registrations land in
            `default`; it may be changed.

    Attributes:
        arrivals: Programs that were started and whose connections are expected.
    """

    def __init__(self, exchange: Exchange, namespace_grace_s: float) -> None:
        super().__init__()
        self.namespace_grace_s = namespace_grace_s
        self.arrivals: list[Arrival] = []
        self._exchange = exchange
        self._tables = exchange.tables

    def connected(self, stream: FrameStream, *, native: bool, ip_address: str | None = None) -> Peer:
        """Return the peer of a new connection; the caller gives the stream its receiver, then calls `start`."""
        peer = Peer(
            stream,
            native=native,
            ip_address=ip_address,
            exchange=self._exchange,
            namespace_grace_s=self.namespace_grace_s,
            wait=self._let_wait,
            reattached=self._reattached,
            gone=self._gone,
        )
        self[peer.record.id] = peer
        return peer

    def tell_refusal(self, refused: BindingRefused) -> None:
        """Tell a remote worker that a trigger it has bound was refused: an observer of the tables."""
        binding = refused.binding
        peer = self.get(binding.owner.id) if binding.owner is not None else None
        if peer is not None:
            peer.registrations.tell_refusal(binding, refused.error)

    def admit(self, worker_id: str, metadata: WorkerMetadata) -> bool:
        """Take what a connection says about itself; return whether it may stay.

        One whose name is another's is told so, and let go.
        """
        peer = self.get(worker_id)
        if peer is None:
            return False
        try:
            apply_metadata(self._tables, self.arrivals, peer, metadata)
        except WorkerConflict as error:
            peer.reject_name(error)
            return False
        self._tables.announce(peer.record)
        return True

    def calls_in_flight(self, worker_id: str) -> int:
        """Count the calls that a worker serves; 0 for one that is not connected."""
        peer = self.get(worker_id)
        return 0 if peer is None else len(peer.connection.calls)

    def statistics(self) -> list[dict[str, Any]]:
        """Return how full the buffers of each connection are."""
        return [
            {
                "worker_id": peer.record.id,
                "name": peer.record.name,
                "unsent_bytes": peer.connection.stream.buffered_bytes(),
                "calls_waiting_for_it": len(peer.connection.calls),
                "calls_it_waits_for": len(peer.connection.serving),
                "waiting_for_its_namespace": peer.waiting,
                **msgspec.structs.asdict(peer.connection.statistics),
            }
            for peer in self.values()
        ]

    def _reattached(self, peer: Peer, message: Reattach) -> None:
        old = self.get(message.previous_worker_id)
        if old is not None and old is not peer and old.is_continued_by(message):
            old.cut("its worker came back on a new connection")

    def _let_wait(self, namespace: str, function_id: str, call: Callable[[], None]) -> bool:
        return any(peer.let_wait(namespace, function_id, call) for peer in self.values())

    def _gone(self, peer: Peer) -> None:
        self.pop(peer.record.id, None)
