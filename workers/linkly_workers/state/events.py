"""Tells functions about writes: in the order of the writes of one key, without making the writer wait."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, Literal

import msgspec

from linkly import Bus, Json
from linkly.errors import LinklyError, Overloaded
from linkly.trigger import Binding, TriggerType, condition_met, fire

log = logging.getLogger("linkly.state")

WAITING_LIMIT = 100_000


class StateTrigger(msgspec.Struct):
    """Config of a `state` trigger; what is left out matches everything.

    Attributes:
        scope: Of this scope only.
        key: Of this key only.
        condition_function_id: Is called with the event first; a literal `false` skips the function.
    """

    scope: str | None = None
    key: str | None = None
    condition_function_id: str | None = None


class StateEvent(msgspec.Struct):
    """What a `state` trigger hands over."""

    event_type: Literal["state:created", "state:updated", "state:deleted"]
    scope: str
    key: str
    old_value: Any = None
    new_value: Any = None
    type: Literal["state"] = "state"


class StateEvents:
    """Delivers events, one queue a key; at most `WAITING_LIMIT` wait, then writes are refused."""

    def __init__(self) -> None:
        self.bus: Bus | None = None
        self.enabled = True
        self._bindings: dict[str, Binding] = {}
        self._queues: dict[tuple[str, str], deque[StateEvent]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.waiting = 0

    def trigger_type(self) -> TriggerType:
        """Return the `state` trigger type."""
        return TriggerType(
            "state",
            "A value of the state worker is created, updated or deleted.",
            bind=self._bind,
            unbind=self._unbind,
            config_type=StateTrigger,
            payload_type=StateEvent,
        )

    def check_room(self) -> None:
        """Refuse a write whose event could not be kept.

        Raises:
            Overloaded: Too many events wait for their functions.
        """
        if self.waiting >= WAITING_LIMIT:
            raise Overloaded(f"{self.waiting} state events wait for their functions; nothing was written, try later")

    def written(self, scope: str, key: str, old: bytes | None, new: bytes | None, *, deleted: bool) -> None:
        """Note a write; its functions run later, in order."""
        if not self.enabled or not any(self._matches(binding, scope, key) for binding in self._bindings.values()):
            return
        kind: Literal["state:created", "state:updated", "state:deleted"]
        kind = "state:deleted" if deleted else "state:created" if old is None else "state:updated"
        event = StateEvent(kind, scope, key, None if old is None else Json(old), None if new is None else Json(new))
        self.waiting += 1
        queue = self._queues.get((scope, key))
        if queue is not None:
            queue.append(event)
            return
        self._queues[scope, key] = deque((event,))
        task = asyncio.get_running_loop().create_task(self._deliver_all(scope, key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Deliver nothing any more."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _bind(self, binding: Binding) -> None:
        self._bindings[binding.id] = binding

    async def _unbind(self, binding: Binding) -> None:
        self._bindings.pop(binding.id, None)

    @staticmethod
    def _matches(binding: Binding, scope: str, key: str) -> bool:
        config: StateTrigger = binding.config
        return config.scope in (None, scope) and config.key in (None, key)

    async def _deliver_all(self, scope: str, key: str) -> None:
        queue = self._queues[scope, key]
        while queue:
            event = queue[0]
            for binding in list(self._bindings.values()):
                if self._matches(binding, scope, key):
                    await self._deliver(binding, event)
            queue.popleft()
            self.waiting -= 1
        del self._queues[scope, key]

    async def _deliver(self, binding: Binding, event: StateEvent) -> None:
        if self.bus is None:
            return
        try:
            condition = binding.config.condition_function_id
            if await condition_met(self.bus, condition, event, binding.namespace):
                await fire(self.bus, binding, event)
        except LinklyError as error:
            log.warning(
                "`%s`, run by %s of %s/%s, failed: %s",
                binding.function_id,
                event.event_type,
                event.scope,
                event.key,
                error,
            )
