"""How a provider in this process is told about bindings."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter

from linkly.errors import LinklyError, TriggerRegistrationFailed
from linkly.outcome import error_body
from linkly.trigger import TriggerType
from linkly_engine.core.exchange import Exchange
from linkly_engine.core.provider import as_binding
from linkly_engine.core.records import BindingRecord, WorkerRecord

log = logging.getLogger("linkly.engine")

WORK_S = 0.001
"""How long a provider in this process may bind in one turn of the loop."""


class LocalProvider:
    """Calls a `TriggerType` with one change after the other, in one task that ends when nothing waits."""

    def __init__(self, trigger_type: TriggerType, owner: WorkerRecord, exchange: Exchange) -> None:
        self._type = trigger_type
        self._owner = owner
        self._spawn = exchange.spawn
        self._tables = exchange.tables
        self._waiting: deque[tuple[Callable[[], Awaitable[None]], BindingRecord]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._refusals: dict[str, LinklyError] = {}

    def bind(self, binding: BindingRecord) -> None:  # noqa: D102
        self._refusals.pop(binding.id, None)
        self._enqueue(partial(self._bind, binding), binding)

    def unbind(self, binding: BindingRecord, *, unregistered: bool) -> None:  # noqa: D102
        self._enqueue(partial(self._type.unbind, binding.id, unregistered=unregistered), binding)

    async def _bind(self, binding: BindingRecord) -> None:
        await self._type.bind(as_binding(binding))

    async def acknowledged(self, binding_id: str | None = None) -> None:  # noqa: D102
        while self._task is not None:
            await asyncio.wait([self._task])
        refusal = self._refusals.pop(binding_id, None) if binding_id is not None else None
        if refusal is not None:
            raise TriggerRegistrationFailed(refusal.message)

    def _enqueue(self, tell: Callable[[], Awaitable[None]], binding: BindingRecord) -> None:
        self._waiting.append((tell, binding))
        if self._task is None:
            self._task = self._spawn(self._work(), name=f"bindings of {self._type.id}")

    async def _work(self) -> None:
        until = perf_counter() + WORK_S
        try:
            while self._waiting:
                if perf_counter() > until:
                    await asyncio.sleep(0)  # a provider that never waits would keep the loop until all is bound
                    until = perf_counter() + WORK_S
                tell, binding = self._waiting.popleft()
                try:
                    await tell()
                except LinklyError as error:
                    self._refuse(binding, error)
                except Exception as error:
                    log.exception("provider of trigger type `%s` failed", self._type.id)
                    self._refuse(binding, TriggerRegistrationFailed(str(error) or type(error).__name__))
        finally:
            self._task = None

    def _refuse(self, binding: BindingRecord, error: LinklyError) -> None:
        self._refusals[binding.id] = error
        body = TriggerRegistrationFailed(error.message, details=error.details)
        self._tables.refuse(binding.id, self._owner, error_body(body))
