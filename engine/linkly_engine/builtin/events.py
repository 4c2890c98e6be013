"""Provides `engine::workers-available` and `engine::functions-available`: what happens to the tables, as events."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from typing import Any

from linkly.clock import Clock
from linkly.delivery import Delivery
from linkly.trigger import TriggerType
from linkly_engine.builtin import rows
from linkly_engine.core.changes import (
    BindingLive,
    FunctionGone,
    FunctionServed,
    WorkerAnnounced,
    WorkerGone,
    WorkerHere,
)
from linkly_engine.core.tables import Tables

log = logging.getLogger("linkly.engine")

WORKERS, FUNCTIONS = "engine::workers-available", "engine::functions-available"

WORKER_EVENTS = {
    WorkerHere: "worker_connected",
    WorkerAnnounced: "worker_metadata_updated",
    WorkerGone: "worker_disconnected",
}
"""What `engine::workers-available` calls the changes of a remote worker."""

PAUSE_S, PAUSES = 0.05, 20
"""Between two events that list every function; at least so many times what it takes to make one."""


class Events:
    """Both trigger types; observes the tables."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock
        self._served_before: dict[tuple[str, str], bool] = {}
        """Whether a function was served when `functions-available` was fired last, of those that have changed since."""
        self._scheduled = False
        self._pausing = False
        self._is_followed = False
        """Somebody is bound to `functions-available`, or will be in the next turn."""
        self._is_binding = False
        """A binding to it was asked for since the sets were to be compared."""
        self.workers = _delivery(WORKERS)
        self.functions = _delivery(FUNCTIONS)
        tables.observe(self._functions_changed, FunctionServed, FunctionGone)
        tables.observe(self._binding_asked_for, BindingLive)
        tables.observe(self._worker_changed, WorkerHere, WorkerAnnounced, WorkerGone)

    def trigger_types(self) -> list[TriggerType]:
        """Return the trigger types."""
        return [
            TriggerType(type_id, description, bind=delivery.bind, unbind=delivery.unbind)
            for type_id, description, delivery in (
                (WORKERS, "A worker connects, names itself or leaves.", self.workers),
                (FUNCTIONS, "The set of functions changes.", self.functions),
            )
        ]

    def _worker_changed(self, change: WorkerHere | WorkerAnnounced | WorkerGone) -> None:
        worker = change.worker
        if worker.joined and not worker.in_process:
            payload = {"event": WORKER_EVENTS[type(change)], "worker_id": worker.id}
            self.workers.put(self.workers.matching(), payload)

    def _binding_asked_for(self, change: BindingLive) -> None:
        """Tell the first one who is bound of what comes from now on, and of nothing before."""
        if change.type.id != FUNCTIONS:
            return
        self._is_binding = True
        if not self._is_followed:
            self._is_followed = True
            self._served_before.clear()

    def _functions_changed(self, change: FunctionServed | FunctionGone) -> None:
        """Fire `functions-available` if the set of ids differs: after the next turn, or after the pause."""
        function = change.function
        was_served = not (isinstance(change, FunctionServed) and change.new)
        self._served_before.setdefault((function.namespace, function.id), was_served)
        if not self._scheduled and not self._pausing:
            self._compare_later()

    def _compare_later(self) -> None:
        """A binding that was asked for in this turn is made in the next one; it has to be told of this change."""
        self._scheduled, self._is_binding = True, False
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._compare)

    def _compare(self) -> None:
        self._scheduled = self._pausing = False
        if self._is_binding:  # it may have been asked for a moment ago, with changes behind it
            self._compare_later()
            return
        self._is_followed = bool(self.functions)
        before, self._served_before = self._served_before, {}
        functions = self._tables.functions
        if not self.functions or all((functions.find(*key) is not None) is was for key, was in before.items()):
            return
        began = perf_counter()
        summaries = [rows.function_summary(record) for record in functions]
        payload = {"event": "functions_changed", "functions": rows.ranked(summaries, "function_id", None)}
        self.functions.put(self.functions.matching(), payload)
        # The event lists every function there is: told after every registration, it would cost all that were before.
        self._pausing = True
        self._clock.call_later(max(PAUSE_S, PAUSES * (perf_counter() - began)), self._compare)


def _delivery(type_id: str) -> Delivery[dict[str, Any]]:
    # Without order: a function that does not return is told of later events all the same.
    return Delivery(f"{type_id} events", log, cause=lambda event: type_id, ordered=False)
