"""The remote workers that are connected."""

from __future__ import annotations

from linkly_engine.core.changes import BindingRefused, Change
from linkly_engine.remote.peer import Peer


class Peers(dict[str, Peer]):
    """Peers by worker id."""

    def follow(self, change: Change) -> None:
        """Tell a remote worker that a trigger it has bound was refused: an observer of the tables."""
        if isinstance(change, BindingRefused) and change.binding.owner is not None:
            peer = self.get(change.binding.owner.id)
            if peer is not None:
                peer.tell_refusal(change.binding, change.error)
