"""What stands in for an in-process worker between its end and its next start, or until it is gone for good.

Calls that are in flight go on to their end, and so does what they call in the same worker. Other calls wait for the
next generation (`waiting`), or are told that there is no such function. Triggers of the worker stay where they are
until the next generation brings its own, so that a gateway answers no request with 404 in between.

This module knows the engine's tables; it starts and stops nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any

from linkly.bus import Endpoint, Invocation
from linkly.endpoint import AsyncEndpoint
from linkly.function import Function
from linkly.worker import Worker
from linkly_engine.core.exchange import Exchange
from linkly_engine.core.records import WorkerRecord


class Handover:
    """Holds the functions and triggers of one worker that ends.

    Args:
        exchange: Whose tables they are in.
        record: The lifetime that ends.
        waiting: Whether there will be a next generation worth waiting for.
    """

    def __init__(self, exchange: Exchange, record: WorkerRecord, *, waiting: bool) -> None:
        self._tables = exchange.tables
        self._router = exchange.router
        self._old_id = record.id
        self._waiting = waiting
        self._released = asyncio.Event()
        self._legacy: tuple[type[object], object] = (object, None)
        endpoints = (function.endpoint for function in self._tables.functions.of(record))
        self._functions = [endpoint for endpoint in endpoints if isinstance(endpoint, Function)]
        self._owner = self._tables.stand_in(record, self._standing_in_for, keeps_bindings=waiting)

    @property
    def in_flight(self) -> int:
        """Count the calls that the ending worker is still serving."""
        return sum(function.active for function in self._functions)

    def keep(self, worker: Worker) -> None:
        """Keep what the ending worker leaves to the next one."""
        self._legacy = type(worker), worker.hand_over()

    def bequeath(self, worker: Worker) -> None:
        """Offer it to the next one, if that is of the same class; to another one should that not come up."""
        kind, legacy = self._legacy
        if legacy is not None and type(worker) is kind:
            worker.inherit(legacy)

    def hand_over(self) -> None:
        """The next generation registers now: its triggers replace the old ones in this turn of the loop."""
        self._tables.drop_triggers(self._owner)

    def release(self) -> None:
        """It is over: what nobody took over is gone, and calls that wait go where they now belong."""
        _, legacy = self._legacy
        self._legacy = object, None
        close = getattr(legacy, "close", None)
        if close is not None:
            close()
        self._tables.drop_triggers(self._owner)
        self._tables.drop_functions(self._owner)
        self._released.set()

    def _standing_in_for(self, endpoint: Endpoint) -> Endpoint:
        async def call(invocation: Invocation) -> Any:
            caller = invocation.caller
            if caller is not None and caller.worker_id == self._old_id:
                # Part of a call in flight: waiting for the next generation would be a circle.
                return await endpoint(invocation)
            if not self._waiting:
                raise self._router.not_found(invocation.namespace, invocation.function_id)
            await self._released.wait()
            return await self._router.call(invocation)

        return AsyncEndpoint(call)
