"""The remote workers that are connected, and the programs whose connections are expected."""

from __future__ import annotations

from typing import Any

import msgspec

from linkly.errors import WorkerConflict
from linkly_engine.core.changes import BindingRefused, Change
from linkly_engine.core.metadata import WorkerMetadata
from linkly_engine.core.tables import Tables
from linkly_engine.remote.admission import Arrival, apply_metadata
from linkly_engine.remote.peer import Peer


class Peers(dict[str, Peer]):
    """Peers by worker id.

    Args:
        tables: Where they register.

    Attributes:
        arrivals: Programs that are being started, to whom a new connection may belong.
    """

    def __init__(self, tables: Tables) -> None:
        super().__init__()
        self._tables = tables
        self.arrivals: list[Arrival] = []

    def follow(self, change: Change) -> None:
        """Tell a remote worker that a trigger it has bound was refused: an observer of the tables."""
        if isinstance(change, BindingRefused) and change.binding.owner is not None:
            peer = self.get(change.binding.owner.id)
            if peer is not None:
                peer.tell_refusal(change.binding, change.error)

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
        return 0 if peer is None else peer.connection.calls_made

    def statistics(self) -> list[dict[str, Any]]:
        """Return how full the buffers of each connection are."""
        return [
            {
                "worker_id": peer.record.id,
                "name": peer.record.name,
                "unsent_bytes": peer.connection.stream.buffered_bytes(),
                "calls_waiting_for_it": peer.connection.calls_made,
                "calls_it_waits_for": peer.connection.calls_served,
                "waiting_for_its_namespace": peer.waiting,
                **msgspec.structs.asdict(peer.connection.statistics),
            }
            for peer in self.values()
        ]
