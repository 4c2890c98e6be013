"""`engine::*`: what the engine tells about itself, written as an ordinary worker (docs/protocol.md 8)."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import msgspec

from linkly.bus import DEFAULT_NAMESPACE
from linkly.channel import Channel
from linkly.context import current
from linkly.delivery import Delivery
from linkly.errors import Forbidden, InvalidArguments, LinklyError, NotFound
from linkly.function import function
from linkly.trigger import TriggerType
from linkly.worker import Worker
from linkly_engine.builtin import rows
from linkly_engine.builtin.connections import Connections
from linkly_engine.builtin.watches import Watches
from linkly_engine.core.changes import Change, FunctionGone, FunctionServed, WorkerAnnounced, WorkerGone, WorkerHere
from linkly_engine.core.exchange import Exchange
from linkly_engine.core.metadata import WorkerMetadata
from linkly_engine.core.records import BindingRecord, FunctionRecord, WorkerRecord
from linkly_engine.core.router import check_namespace
from linkly_engine.telemetry.metrics import WorkerGauges

log = logging.getLogger("linkly.engine")

MAX_IDS = 32

INTERNAL = {"internal": True}

WORKER_EVENTS: dict[type[Change], str] = {
    WorkerHere: "worker_connected",
    WorkerAnnounced: "worker_metadata_updated",
    WorkerGone: "worker_disconnected",
}
"""What `engine::workers-available` calls the changes of a remote worker."""

PAUSE_S, PAUSES = 0.05, 20
"""Between two events that list every function; at least so many times what it takes to make one."""


class DurableTrigger(msgspec.Struct, kw_only=True):
    """A trigger without an owner.

    Attributes:
        trigger_type: Id of the type; it need not be there yet.
        function_id: What runs, in namespace `default`.
        config: What the provider wants to know.
        metadata: Handed to the function with every firing.
        trigger_namespace: Where the type is; default: `default`.
    """

    trigger_type: str
    function_id: str
    config: Any = None
    metadata: dict[str, Any] | None = None
    trigger_namespace: str | None = None


class EngineWorker(Worker):
    """Introspection, channels, durable triggers and the worker handshake.

    Args:
        exchange: What buses and connections work on.
        connections: The remote workers.
        gauges: What workers measure of themselves.
        statistics: Says how full every buffer of the engine is.
    """

    name = "engine"

    def __init__(
        self,
        exchange: Exchange,
        connections: Connections,
        gauges: WorkerGauges,
        statistics: Callable[[], dict[str, Any]],
    ) -> None:
        super().__init__()
        self._tables = exchange.tables
        self._channels = exchange.channels
        self._clock = exchange.clock
        self._connections = connections
        self._gauges = gauges
        self._statistics = statistics
        self._served_before: dict[tuple[str, str], bool] = {}
        """Whether a function was served when `functions-available` was fired last, of those that have changed since."""
        self._scheduled = False
        self._pausing = False
        self._workers_events = _events("engine::workers-available")
        self._functions_events = _events("engine::functions-available")
        self._watches = Watches(exchange.tables.workers)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Deliver the events; at the end of the engine there is nobody left to wait for."""
        async with (
            self._workers_events.running(self.bus, grace_s=0),
            self._functions_events.running(self.bus, grace_s=0),
            self._watches.delivery.running(self.bus, grace_s=0),
        ):
            yield

    def trigger_types(self) -> list[TriggerType]:
        """Provide the two trigger types of 8.3, whose config is ignored, and one that watches a single worker."""
        return [
            _event("engine::workers-available", "A worker connects, names itself or leaves.", self._workers_events),
            _event("engine::functions-available", "The set of functions changes.", self._functions_events),
            self._watches.trigger_type(),
        ]

    # --- events --------------------------------------------------------------------------------------------

    def follow(self, change: Change) -> None:
        """Fire the triggers of what happens to the tables: an observer of them."""
        if isinstance(change, FunctionServed):
            self._functions_changed(change.function, was_served=not change.new)
        elif isinstance(change, FunctionGone):
            self._functions_changed(change.function, was_served=True)
        elif isinstance(change, (WorkerHere, WorkerAnnounced, WorkerGone)):
            if change.worker.joined and not change.worker.in_process:
                payload = {"event": WORKER_EVENTS[type(change)], "worker_id": change.worker.id}
                self._workers_events.put(self._workers_events.matching(), payload)
            if isinstance(change, WorkerGone):
                self._watches.gone(change.worker)

    def _functions_changed(self, function: FunctionRecord, *, was_served: bool) -> None:
        """Fire `engine::functions-available` if the set of ids differs: at the end of this turn, or after the pause."""
        self._served_before.setdefault((function.namespace, function.id), was_served)
        if not self._scheduled and not self._pausing:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._compare)

    def _compare(self) -> None:
        self._scheduled = self._pausing = False
        before, self._served_before = self._served_before, {}
        functions = self._tables.functions
        if not self._functions_events or all((functions.find(*key) is not None) is was for key, was in before.items()):
            return
        began = perf_counter()
        summaries = [rows.function_summary(record) for record in functions]
        payload = {"event": "functions_changed", "functions": rows.ranked(summaries, "function_id", None)}
        self._functions_events.put(self._functions_events.matching(), payload)
        # The event lists every function there is: told after every registration, it would cost all that were before.
        self._pausing = True
        self._clock.call_later(max(PAUSE_S, PAUSES * (perf_counter() - began)), self._compare)

    # --- functions -----------------------------------------------------------------------------------------

    @function("engine::channels::create")
    async def create_channel(self, buffer_size: int | None = None) -> Channel:
        """Make a channel and answer the references of its two ends.

        Args:
            buffer_size: Messages that may wait for the reader, 1 to 1024; default 64.

        Raises:
            InvalidArguments: The size is out of range.
            Overloaded: The caller has made too many channels that nobody has opened.
        """
        caller = current().caller
        return self._channels.create(buffer_size, "" if caller is None else caller.worker_id)

    @function("engine::workers::register", metadata=INTERNAL)
    async def register_worker(self, request: WorkerMetadata) -> dict[str, bool]:
        """Take a worker's metadata; every client calls this when it has connected.

        Raises:
            InvalidNamespace: The declared namespace is blank.
        """
        check_namespace(request.namespace)
        caller = current().caller
        return {"success": caller is not None and self._connections.admit(caller.worker_id, request)}

    @function("engine::functions::list")
    async def list_functions(
        self,
        search: str | None = None,
        prefix: str | None = None,
        worker: str | None = None,
        workers: list[str] | None = None,
        include_internal: bool = False,
    ) -> dict[str, Any]:
        """List functions, sorted by id.

        Args:
            search: Text in id or description; the best match comes first.
            prefix: Start of the id.
            worker: Name of the worker that serves them.
            workers: Names of several workers.
            include_internal: Also engine::* and functions marked internal.
        """
        wanted = {*(workers or []), *([worker] if worker else [])}
        found = [
            row
            for record in self._tables.functions
            if (include_internal or not record.internal) and record.id.startswith(prefix or "")
            for row in [rows.function_summary(record)]
            if not wanted or row["worker_name"] in wanted
        ]
        return {"functions": rows.ranked(found, "function_id", search)}

    @function("engine::functions::info")
    async def describe_functions(
        self,
        function_id: str | None = None,
        function_ids: list[str] | None = None,
        namespace: str | None = None,
    ) -> dict[str, Any]:
        """Describe one function, or up to 32.

        Args:
            function_id: One id.
            function_ids: Several ids; unknown ones are marked `not_found`.
            namespace: Where to look; default: `default`, else the only namespace that has it.

        Raises:
            InvalidArguments: Neither or both were given, or more than 32.
            NotFound: There is no such function.
        """
        if (function_id is None) == (function_ids is None):
            raise InvalidArguments("give either `function_id` or `function_ids`")
        if function_id is not None:
            found = self._find(function_id, namespace)
            return rows.function_detail(self._tables, rows.only_one(found, "function", function_id))
        ids = list(dict.fromkeys(function_ids or []))
        if len(ids) > MAX_IDS:
            raise InvalidArguments(f"`function_ids` has {len(ids)} ids; at most {MAX_IDS} at a time")
        answers: list[dict[str, Any]] = []
        for each in ids:
            try:
                record = rows.only_one(self._find(each, namespace), "function", each)
            except NotFound:
                answers.append({"function_id": each, "error": "not_found"})
            else:
                answers.append(rows.function_detail(self._tables, record))
        return {"functions": answers}

    def _find(self, function_id: str, namespace: str | None) -> list[FunctionRecord]:
        return [
            record
            for record in self._tables.functions
            if record.id == function_id and namespace in (None, record.namespace)
        ]

    @function("engine::triggers::list")
    async def list_trigger_types(
        self,
        search: str | None = None,
        prefix: str | None = None,
        worker: str | None = None,
        include_internal: bool = False,
    ) -> dict[str, Any]:
        """List trigger types.

        Args:
            search: Text in id or description.
            prefix: Start of the id.
            worker: Name of their provider.
            include_internal: Also those of the engine itself.
        """
        found = [
            row
            for record in self._tables.triggers.types
            if (include_internal or not rows.is_internal_type(record.id)) and record.id.startswith(prefix or "")
            for row in [rows.type_summary(record)]
            if worker in (None, row["worker_name"])
        ]
        return {"triggers": rows.ranked(found, "id", search)}

    @function("engine::triggers::info")
    async def describe_trigger_type(self, id: str, namespace: str | None = None) -> dict[str, Any]:
        """Describe a trigger type.

        Args:
            id: Its id.
            namespace: Where to look; default: `default`.

        Raises:
            NotFound: There is no such type.
        """
        record = self._tables.triggers.find_type(namespace or DEFAULT_NAMESPACE, id)
        if record is None:
            raise NotFound(f"there is no trigger type `{id}`; is the worker that provides it running?")
        return rows.type_detail(self._tables, record)

    @function("engine::registered-triggers::list")
    async def list_triggers(
        self,
        search: str | None = None,
        trigger_type: str | None = None,
        function_id: str | None = None,
        worker: str | None = None,
        include_internal: bool = False,
        include_waiting: bool = False,
    ) -> dict[str, Any]:
        """List live triggers.

        Args:
            search: Text in the function id.
            trigger_type: Of this type only.
            function_id: Of this function only.
            worker: Name of the worker that registered them.
            include_internal: Also those on the engine's own types.
            include_waiting: Also those that do not fire yet; every row says its `status`, and the `reason` if it waits.
        """
        found = [
            row
            for binding in self._tables.triggers.bindings
            if (include_waiting or binding.live_at is not None)
            and (include_internal or not rows.is_internal_type(binding.trigger_type))
            and trigger_type in (None, binding.trigger_type)
            and function_id in (None, binding.function_id)
            for row in [rows.binding_summary(binding, with_status=include_waiting)]
            if worker in (None, row["worker_name"])
        ]
        return {"registered_triggers": rows.ranked(found, "function_id", search)}

    @function("engine::registered-triggers::info")
    async def describe_trigger(self, id: str) -> dict[str, Any]:
        """Describe one trigger.

        Args:
            id: Its id.

        Raises:
            NotFound: There is no such trigger.
        """
        binding = self._tables.triggers.find_binding(id)
        if binding is None:
            raise NotFound(f"there is no trigger `{id}`")
        return rows.binding_detail(self._tables, binding)

    @function("engine::workers::list")
    async def list_workers(
        self, search: str | None = None, runtime: str | None = None, status: str | None = None
    ) -> dict[str, Any]:
        """List workers, sorted by name; connections that sent no pid are left out.

        Args:
            search: Text in the name or description.
            runtime: For example node, python, engine.
            status: connected or available.
        """
        found = [
            row
            for row in map(self._worker_summary, rows.listed_workers(self._tables))
            if runtime in (None, row["runtime"]) and status in (None, row["status"])
        ]
        return {"workers": rows.ranked(found, "name", search) if search else found}

    @function("engine::workers::info")
    async def describe_worker(self, name: str, namespace: str | None = None) -> dict[str, Any]:
        """Describe a worker: what it serves, provides and has bound.

        Args:
            name: Its name.
            namespace: Where to look.

        Raises:
            NotFound: There is none, or several in different namespaces.
        """
        found = [each for each in self._tables.workers if each.name == name and namespace in (None, each.home)]
        worker: WorkerRecord = rows.only_one(found, "worker", name)
        metrics = self._gauges.of(worker.id, worker.runtime, int(self._clock.time() * 1000))
        return rows.worker_detail(self._tables, worker, self._worker_summary(worker), metrics)

    def _worker_summary(self, worker: WorkerRecord) -> rows.Row:
        return rows.worker_summary(self._tables, worker, self._connections.calls_in_flight(worker.id))

    @function("engine::register_trigger")
    async def register_trigger(self, request: DurableTrigger) -> dict[str, str]:
        """Bind a trigger that survives its caller.

        Raises:
            TriggerRegistrationFailed: The provider refused it.
        """
        check_namespace(request.trigger_namespace)
        binding = BindingRecord(
            id=str(uuid.uuid4()),
            trigger_type=request.trigger_type,
            function_id=request.function_id,
            config=request.config,
            metadata=request.metadata,
            trigger_namespace=request.trigger_namespace,
        )
        self._tables.bind(binding)
        if binding.live_at is not None:
            try:
                await binding.live_at.provider.acknowledged(binding.id)
            except LinklyError:
                self._tables.unbind(binding.id)
                raise
        return {"id": binding.id}

    @function("engine::unregister_trigger")
    async def unregister_trigger(self, id: str, trigger_type: str | None = None) -> dict[str, bool]:
        """Take a trigger back; answers whether there was one.

        Args:
            id: Its id.
            trigger_type: Its type; not needed.

        Raises:
            Forbidden: A worker has registered it, and not the one that asks.
        """
        caller = current().caller
        # A worker that has gone since owns nothing; the engine itself (no caller) may take back whatever it wants.
        asking = (self._tables.workers.get(caller.worker_id) or WorkerRecord()) if caller is not None else None
        removed = self._tables.unbind(id, asking)
        binding = self._tables.triggers.find_binding(id) if not removed else None
        if binding is not None and binding.owner is not None:
            raise Forbidden(
                f"trigger `{id}` belongs to worker {binding.owner.name or binding.owner.id}: only that worker can take "
                "it back, and it ends with that worker"
            )
        return {"removed": removed}

    @function("engine::statistics")
    async def statistics(self) -> dict[str, Any]:
        """Say how full every buffer of the engine is."""
        return self._statistics()


def _events(type_id: str) -> Delivery[dict[str, Any]]:
    # Without order: a function that does not return is told of later events all the same.
    return Delivery(f"{type_id} events", log, cause=lambda event: type_id, ordered=False)


def _event(type_id: str, description: str, delivery: Delivery[dict[str, Any]]) -> TriggerType:
    return TriggerType(type_id, description, bind=delivery.bind, unbind=delivery.unbind)
