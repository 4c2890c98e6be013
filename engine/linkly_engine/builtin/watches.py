"""Provides the trigger type `engine::worker-gone`: whoever keeps something for a worker is told when it is gone.

A binding for a worker that is gone already fires at once. So nothing is missed between a worker's call and the binding
that the call causes, nor while the connection of the one who watches is lost.

This module knows the table of workers and the delivery of events.
"""

from __future__ import annotations

import logging

import msgspec

from linkly.delivery import Delivery
from linkly.engine import WorkerGone
from linkly.trigger import Binding, TriggerType
from linkly_engine.core.records import WorkerRecord
from linkly_engine.core.workers import WorkerTable

log = logging.getLogger("linkly.engine")


class WatchedWorker(msgspec.Struct, forbid_unknown_fields=True):
    """Config of an `engine::worker-gone` trigger.

    Attributes:
        worker_id: The worker that is watched.
    """

    worker_id: str


class Watches:
    """Bindings by the worker that they watch.

    Args:
        workers: The workers that are connected or run in process.
    """

    def __init__(self, workers: WorkerTable) -> None:
        self._workers = workers
        self.delivery: Delivery[WorkerGone] = Delivery(
            "engine::worker-gone events",
            log,
            cause=lambda event: "engine::worker-gone",
            subject=lambda config: config.worker_id,
            wants=lambda config, event: config.worker_id == event.worker_id,
            ordered=False,
        )

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

    def gone(self, record: WorkerRecord) -> None:
        """Fire the bindings of a worker that has left the table."""
        event = WorkerGone(worker_id=record.id, announced=record.announced)
        self.delivery.put(self.delivery.matching(record.id), event)

    async def _bind(self, binding: Binding) -> None:
        config: WatchedWorker = binding.config
        await self.delivery.bind(binding)
        if self._workers.get(config.worker_id) is None:
            self.delivery.put([self.delivery.recipient(binding.id)], WorkerGone(worker_id=config.worker_id))
