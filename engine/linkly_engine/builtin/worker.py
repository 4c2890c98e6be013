"""`engine::*`: what the engine tells about itself, written as an ordinary worker (docs/protocol.md 8)."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from linkly.channel import Channel
from linkly.context import current
from linkly.errors import Forbidden, LinklyError
from linkly.function import function
from linkly.trigger import TriggerType
from linkly.worker import Worker
from linkly_engine.builtin.events import Events
from linkly_engine.builtin.listings import Listings
from linkly_engine.builtin.watches import Watches
from linkly_engine.core.exchange import Exchange
from linkly_engine.core.metadata import WorkerMetadata
from linkly_engine.core.records import BindingRecord, WorkerRecord
from linkly_engine.core.router import check_namespace

INTERNAL = {"internal": True}


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
        admit: Takes what a connection, by worker id, says about itself; returns whether it may stay.
    """

    name = "engine"

    def __init__(
        self,
        exchange: Exchange,
        admit: Callable[[str, WorkerMetadata], bool],
        listings: Listings,
        statistics: Callable[[], dict[str, Any]],
    ) -> None:
        super().__init__()
        self._tables = exchange.tables
        self._channels = exchange.channels
        self._admit = admit
        self._listings = listings
        self._statistics = statistics
        self._events = Events(exchange.tables, exchange.clock)
        self._watches = Watches(exchange.tables)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Deliver the events; at the end of the engine there is nobody left to wait for."""
        async with (
            self._events.workers.running(self.bus, grace_s=0),
            self._events.functions.running(self.bus, grace_s=0),
            self._watches.delivery.running(self.bus, grace_s=0),
        ):
            yield

    @property
    def events_waiting(self) -> int:
        """Count the events whose functions have not returned."""
        return self._events.workers.waiting + self._events.functions.waiting + self._watches.delivery.waiting

    def composed_of(self) -> Iterable[object]:
        """Serve the listings too."""
        return (self._listings,)

    def trigger_types(self) -> list[TriggerType]:
        """Provide two trigger types whose config is ignored (docs/protocol.md 8.3), and one that watches a worker."""
        return [*self._events.trigger_types(), self._watches.trigger_type()]

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
        return {"success": caller is not None and self._admit(caller.worker_id, request)}

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
