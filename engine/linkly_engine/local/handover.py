"""Stands in for an in-process worker that ends, until its next generation serves or it is gone for good.

Calls in flight run to their end, and so does what they call in the same worker. New calls wait for the next generation
(`waiting`), or fail with `FunctionNotFound`. With `waiting` the worker's triggers stay bound until the next generation
binds its own, so that a gateway answers no request with 404 in between.

This module starts and stops no worker.
"""

from __future__ import annotations

import asyncio
from typing import Any

from linkly.bus import Endpoint, Invocation
from linkly.endpoint import AsyncEndpoint
from linkly.worker import Worker
from linkly_engine.core.exchange import Exchange
from linkly_engine.core.records import WorkerRecord


class Handover:
    """Owns the functions and triggers of a worker that ends.

    Args:
        waiting: Whether a next generation is about to start.
    """

    def __init__(self, exchange: Exchange, record: WorkerRecord, *, waiting: bool) -> None:
        self._tables = exchange.tables
        self._router = exchange.router
        self._old_id = record.id
        self._waiting = waiting
        self._released = asyncio.Event()
        self._legacy: tuple[type[object], object] = (object, None)
        self._owner = self._tables.stand_in(record, self._standing_in_for, keeps_bindings=waiting)

    def keep(self, worker: Worker) -> None:
        """Keep what the ending worker hands over (`Worker.hand_over`)."""
        self._legacy = type(worker), worker.hand_over()

    def bequeath(self, worker: Worker) -> None:
        """Let a new worker of the same class inherit what was kept; if it does not come up, another may."""
        kind, legacy = self._legacy
        if legacy is not None and type(worker) is kind:
            worker.inherit(legacy)

    def hand_over(self) -> None:
        """Drop the old triggers in the turn of the loop in which the next generation binds its own."""
        self._tables.drop_triggers(self._owner)

    def release(self) -> None:
        """End it: drop what nobody took over, and route the calls that wait anew."""
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
