"""Provides the trigger type `engine::worker-gone`: whoever keeps something for a worker is told when it is gone.

A binding for a worker that is gone already fires at once. So nothing is missed between a worker's call and the binding
that the call causes, nor while the connection of the one who watches is lost. One that is taken back before its turn
comes does not fire: nobody waits for it.
"""

from __future__ import annotations

import logging

import msgspec

from linkly.delivery import Delivery
from linkly.engine import WorkerGone
from linkly.trigger import Binding, TriggerType
from linkly_engine.core import changes
from linkly_engine.core.tables import Tables

log = logging.getLogger("linkly.engine")


class WatchedWorker(msgspec.Struct, forbid_unknown_fields=True):
    """Config of an `engine::worker-gone` trigger.

    Attributes:
        worker_id: The worker that is watched.
    """

    worker_id: str


class Watches:
    """Bindings by the worker that they watch; observes the tables."""

    def __init__(self, tables: Tables) -> None:
        self._workers = tables.workers
        self._bindings = tables.triggers
        self.delivery: Delivery[WorkerGone] = Delivery(
            "engine::worker-gone events",
            log,
            cause=lambda event: "engine::worker-gone",
            subject=lambda config: config.worker_id,
            wants=lambda config, event: config.worker_id == event.worker_id,
            ordered=False,
        )
        tables.observe(self._gone, changes.WorkerGone)

    def trigger_type(self) -> TriggerType:
        """Return the trigger type."""
        return TriggerType(
            "engine::worker-gone",
            "A certain worker's connection ends, or has ended before; it fires once.",
            bind=self._bind,
            unbind=self.delivery.unbind,
            config_type=WatchedWorker,
            payload_type=WorkerGone,
        )

    def _gone(self, change: changes.WorkerGone) -> None:
        worker = change.worker
        event = WorkerGone(worker_id=worker.id, announced=worker.announced)
        self.delivery.put(self.delivery.matching(worker.id), event)

    async def _bind(self, binding: Binding) -> None:
        config: WatchedWorker = binding.config
        await self.delivery.bind(binding)
        if self._workers.get(config.worker_id) is None and self._bindings.find_binding(binding.id) is not None:
            self.delivery.put([self.delivery.recipient(binding.id)], WorkerGone(worker_id=config.worker_id))
