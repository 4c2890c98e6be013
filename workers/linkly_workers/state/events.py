"""Tells functions about writes: in the order of the writes of one key, without making the writer wait.

An event is kept for each binding that matches it at the time of the write, in a line for each binding and key. Lines
are served side by side, one event at a time and in turn, so a slow function delays only its own later events of the
same key. At most `DELIVERIES` functions run at a time, and at most `EVENTS_LIMIT` events or `BYTES_LIMIT` bytes wait;
then writes that would add one are refused with `Overloaded`, before anything is written.

An event is told once: a function that fails is logged and not run again. A binding that is taken back gets none of
the events that wait for it. When the engine stops, what waits is delivered first (`drain`); events live in memory, so
kill -9 loses those that have not been delivered yet, never the write itself. A function that writes the key it listens
to is run again by its own write: there is no loop guard.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
from collections import deque
from typing import Any, Literal, TypeAlias

import msgspec

from linkly import Bus, Invocation, Json
from linkly.context import current_invocation
from linkly.errors import LinklyError, Overloaded
from linkly.trigger import Binding, TriggerType, condition_met, fire

log = logging.getLogger("linkly.state")

EVENTS_LIMIT = 100_000
BYTES_LIMIT = 256 * 1024 * 1024
DELIVERIES = 1000
STOP_GRACE_S = 5.0

EventType: TypeAlias = Literal["state:created", "state:updated", "state:deleted"]


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

    event_type: EventType
    scope: str
    key: str
    old_value: Any = None
    new_value: Any = None
    type: Literal["state"] = "state"


class _Listener:
    """A binding, or where one was: registered again under the same id it is replaced in here."""

    __slots__ = ("binding", "number")

    def __init__(self, number: int, binding: Binding) -> None:
        self.number = number
        self.binding: Binding | None = binding


class _Waiting(msgspec.Struct, gc=False):
    """An event, and the write it came from."""

    event: StateEvent
    size: int
    traceparent: str | None
    baggage: str | None


_Line: TypeAlias = tuple[_Listener, str, str]


class StateEvents:
    """Everybody who listens, and the events that wait for them.

    Args:
        enabled: `False`: nobody is told anything.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.bus: Bus | None = None
        self.waiting = 0
        self.waiting_bytes = 0
        self._enabled = enabled
        self._listeners: dict[str, _Listener] = {}
        self._by_filter: dict[tuple[str | None, str | None], list[_Listener]] = {}
        self._numbers = itertools.count()
        self._lines: dict[_Line, deque[_Waiting]] = {}
        self._ready: deque[_Line] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

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

    def check_room(self, scope: str, key: str) -> None:
        """Refuse a write whose event could not be kept.

        Raises:
            Overloaded: Too many events wait for their functions.
        """
        if self.waiting < EVENTS_LIMIT and self.waiting_bytes < BYTES_LIMIT:
            return
        if self._matching(scope, key):
            raise Overloaded(
                f"{self.waiting} state events ({self.waiting_bytes} bytes) wait for their functions; nothing was "
                "written, try again later"
            )

    def written(
        self,
        scope: str,
        key: str,
        old: bytes | None,
        new: bytes | None,
        *,
        deleted: bool,
        cause: Invocation | None = None,
    ) -> None:
        """Note a write; its functions run later, in order.

        Args:
            scope: Group of keys.
            key: Name inside the scope.
            old: What was there.
            new: What is there now.
            deleted: Whether it was a deletion, which is told even where there was nothing.
            cause: The call that wrote: the functions belong to its trace, not to its deadline.
        """
        listeners = self._matching(scope, key)
        if not listeners:
            return
        kind: EventType = "state:deleted" if deleted else "state:created" if old is None else "state:updated"
        waiting = _Waiting(
            StateEvent(kind, scope, key, None if old is None else Json(old), None if new is None else Json(new)),
            len(old or b"") + len(new or b""),
            None if cause is None else cause.traceparent,
            None if cause is None else cause.baggage,
        )
        for listener in listeners:
            self.waiting += 1
            self.waiting_bytes += waiting.size
            line = self._lines.get((listener, scope, key))
            if line is not None:
                line.append(waiting)
                continue
            self._lines[listener, scope, key] = deque((waiting,))
            self._ready.append((listener, scope, key))
            if len(self._tasks) < DELIVERIES:
                self._idle.clear()
                # An empty context: the writer's deadline must not end what its write has set off.
                task = asyncio.get_running_loop().create_task(self._serve_lines(), context=contextvars.Context())
                self._tasks.add(task)
                task.add_done_callback(self._served)

    async def drain(self) -> None:
        """Wait until every event has been delivered."""
        await self._idle.wait()

    async def stop(self) -> None:
        """Deliver what waits, for at most `STOP_GRACE_S`; what is left then is dropped and logged."""
        if self._tasks and self.bus is not None:
            timer = self.bus.clock.call_later(STOP_GRACE_S, self._idle.set)
            await self._idle.wait()
            timer.cancel()
        if self.waiting:
            log.warning("%d state events were not delivered: their functions took too long", self.waiting)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # --- who listens -----------------------------------------------------------------------------------------

    async def _bind(self, binding: Binding) -> None:
        listener = self._listeners.get(binding.id)
        if listener is None or listener.binding is None:
            listener = self._listeners[binding.id] = _Listener(next(self._numbers), binding)
        else:
            self._forget(listener, listener.binding)
            listener.binding = binding
        self._by_filter.setdefault((binding.config.scope, binding.config.key), []).append(listener)

    async def _unbind(self, binding: Binding) -> None:
        listener = self._listeners.pop(binding.id, None)
        if listener is not None and listener.binding is not None:
            self._forget(listener, listener.binding)
            listener.binding = None

    def _forget(self, listener: _Listener, binding: Binding) -> None:
        wanted = (binding.config.scope, binding.config.key)
        self._by_filter[wanted].remove(listener)
        if not self._by_filter[wanted]:
            del self._by_filter[wanted]

    def _matching(self, scope: str, key: str) -> list[_Listener]:
        """Return who listens to a key, in the order of registration."""
        if not self._by_filter or not self._enabled:
            return []
        filters = ((scope, key), (scope, None), (None, key), (None, None))
        found = [listener for each in filters for listener in self._by_filter.get(each, ())]
        return found if len(found) < 2 else sorted(found, key=lambda listener: listener.number)

    # --- delivery --------------------------------------------------------------------------------------------

    async def _serve_lines(self) -> None:
        """Take one event of a line, then one of the next: a long line does not keep the others waiting."""
        while self._ready:
            line = self._ready.popleft()
            queue = self._lines[line]
            waiting = queue[0]
            try:
                await self._deliver(line[0], waiting)
            finally:
                queue.popleft()
                self.waiting -= 1
                self.waiting_bytes -= waiting.size
                if queue:
                    self._ready.append(line)
                else:
                    del self._lines[line]

    def _served(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._tasks:
            self._idle.set()

    async def _deliver(self, listener: _Listener, waiting: _Waiting) -> None:
        binding, event, bus = listener.binding, waiting.event, self.bus
        if binding is None or bus is None or not _wants(binding.config, event):
            return
        current_invocation.set(
            Invocation(function_id=binding.function_id, traceparent=waiting.traceparent, baggage=waiting.baggage)
        )
        condition: str | None = binding.config.condition_function_id
        failing = binding.function_id
        try:
            if condition is not None:
                failing = condition
                if not await condition_met(bus, condition, event, binding.namespace):
                    return
                failing = binding.function_id
                if listener.binding is None:  # taken back meanwhile
                    return
            await fire(bus, binding, event)
        except LinklyError as error:
            log.warning(
                "`%s`, %s %s of %s/%s, failed%s: %s",
                failing,
                "run by" if failing == binding.function_id else "the condition for",
                event.event_type,
                event.scope,
                event.key,
                "" if failing == binding.function_id else f" (`{binding.function_id}` was not run)",
                error,
            )


def _wants(config: StateTrigger, event: StateEvent) -> bool:
    return config.scope in (None, event.scope) and config.key in (None, event.key)
