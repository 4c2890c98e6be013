"""The trigger type `engine::worker-gone`: who keeps something for a worker is told when that worker is gone.

It tells of a state, not of a change: a binding for a worker that is gone already fires at once. So nothing is missed
between somebody's call and the binding that it causes, nor while the one who watches has lost its own connection.

This module knows the table of workers; it calls nobody itself.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from linkly.trigger import Binding, TriggerType, WorkerGone
from linkly_engine.core.records import WorkerRecord
from linkly_engine.core.workers import WorkerTable


class WatchedWorker(msgspec.Struct, forbid_unknown_fields=True):
    """Config of an `engine::worker-gone` trigger.

    Attributes:
        worker_id: Whose end is waited for.
    """

    worker_id: str


class Watches:
    """Bindings by the worker that they watch.

    Args:
        workers: Who is here.
        fire: Runs a binding's function.
    """

    def __init__(self, workers: WorkerTable, fire: Callable[[Binding, object], None]) -> None:
        self._workers = workers
        self._fire = fire
        self._bindings: dict[str, dict[str, Binding]] = {}

    def trigger_type(self) -> TriggerType:
        """Return the trigger type."""
        return TriggerType(
            "engine::worker-gone",
            "A certain worker's connection ends, or has ended before; it fires once.",
            bind=self._bind,
            unbind=self._unbind,
            config_type=WatchedWorker,
            payload_type=WorkerGone,
        )

    def gone(self, record: WorkerRecord) -> None:
        """A worker has left the table."""
        for binding in self._bindings.pop(record.id, {}).values():
            self._fire(binding, WorkerGone(worker_id=record.id, announced=record.announced))

    async def _bind(self, binding: Binding) -> None:
        config: WatchedWorker = binding.config
        if self._workers.get(config.worker_id) is None:
            self._fire(binding, WorkerGone(worker_id=config.worker_id))
        else:
            self._bindings.setdefault(config.worker_id, {})[binding.id] = binding

    async def _unbind(self, binding: Binding) -> None:
        config: WatchedWorker = binding.config
        watching = self._bindings.get(config.worker_id)
        if watching is not None and watching.pop(binding.id, None) is not None and not watching:
            del self._bindings[config.worker_id]
