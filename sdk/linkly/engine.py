"""The trigger type `engine::worker-gone`: how it is declared, and what it hands to a function."""

from __future__ import annotations

from typing import Any

import msgspec

from linkly.trigger import TriggerDeclaration


class WorkerGone(msgspec.Struct, kw_only=True):
    """What `worker_gone` hands to its function.

    Attributes:
        worker_id: The worker that is gone.
        announced: Whether it ever named itself. A worker that did not has only called, as `linkly trigger` does, and
            disconnects as soon as it is answered. `True` for an id that is unknown.
    """

    worker_id: str
    announced: bool = True


def worker_gone(worker_id: str, *, metadata: dict[str, Any] | None = None) -> TriggerDeclaration:
    """Run the function when a worker's connection ends, or its life in the engine's process; at once if it is gone.

    Whoever keeps something for a caller registers this *before* it answers: a caller that ends in between is gone
    then, and told of. Over a lost connection of one's own nothing is missed either, because the next one registers it
    again.

    Args:
        worker_id: As `linkly.current().caller.worker_id` says.
        metadata: Handed to the function.
    """
    return TriggerDeclaration(type="engine::worker-gone", config={"worker_id": worker_id}, metadata=metadata)
