"""The remote workers, as far as `engine::*` has to know them."""

from __future__ import annotations

from typing import Any, Protocol

from linkly_engine.core.metadata import WorkerMetadata


class Connections(Protocol):
    """All connections of remote workers."""

    def admit(self, worker_id: str, metadata: WorkerMetadata) -> bool:
        """Take what a connection says about itself; return whether it may stay."""
        ...

    def calls_in_flight(self, worker_id: str) -> int:
        """Count the calls that a worker serves; 0 for one that is not connected."""
        ...

    def statistics(self) -> list[dict[str, Any]]:
        """Return how full the buffers of each connection are."""
        ...
