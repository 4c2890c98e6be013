"""Delivery of events to the functions that are bound to a trigger type.

A provider keeps its bindings in a `Delivery`, asks it who has to be told (`matching`), and puts the event in (`put`):
that never waits. Each binding has one queue, or one queue per key. A queue is served in order, one event at a time;
queues are served side by side and in turn, so that a slow function delays only what waits in its own queue.

* An event is told once: a function that fails is logged and not run again.
* A binding that is registered again under its id takes over what waits, as far as it still wants it. One that is
  taken back gets nothing more, except for the event that its function has begun to handle.
* The binding's condition, if its config has a `condition_function_id`, is asked when it is the event's turn.
* What waits is bounded: a provider asks `check_room` before it does what would cause an event, or it lets go of events
  that find no room (`offer`).
* At the end of `running` what waits is delivered first, for a limited time. Events live in memory: kill -9 loses what
  was not delivered yet.

This module knows the bus and asyncio. It does not know what an event means.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Generic, TypeVar

import msgspec

from linkly.bus import Bus
from linkly.clock import time_limit
from linkly.context import current_invocation
from linkly.errors import LinklyError, Overloaded
from linkly.firing import condition_met, fire
from linkly.invocation import Invocation
from linkly.trigger import Binding

P = TypeVar("P")

STOP_GRACE_S = 5.0


class Limits(msgspec.Struct, frozen=True):
    """How many events may wait, and how many functions may run.

    Attributes:
        events: Events that wait for their functions or are being handled; one event counts once for each binding.
        bytes: The sum of the sizes that `put` was told.
        functions: Functions that run at a time.
    """

    events: int = 100_000
    bytes: int = 256 * 1024 * 1024
    functions: int = 1000


class _Event(msgspec.Struct, gc=False):
    payload: Any
    size: int
    traceparent: str | None
    baggage: str | None


class Recipient:
    """One binding and what waits for it.

    Attributes:
        binding: Registered again under its id, it is replaced; `None` when it was taken back.
        number: Stands for the order of registration.
        queues: By key.
    """

    __slots__ = ("binding", "number", "queues")

    def __init__(self, number: int, binding: Binding) -> None:
        self.number = number
        self.binding: Binding | None = binding
        self.queues: dict[Hashable, _Queue] = {}


class _Queue:
    """Events of one recipient and key; the first one stays in until it has been handled."""

    __slots__ = ("events", "key", "recipient")

    def __init__(self, recipient: Recipient, key: Hashable, event: _Event) -> None:
        self.recipient = recipient
        self.key = key
        self.events = deque((event,))


class Delivery(Generic[P]):
    """The bindings of one trigger type, and the events that wait for their functions.

    Args:
        what: What the events are called in messages, in the plural.
        log: Where failures are logged.
        cause: Describes what runs a function, for the log: "`x::f`, run by ..., failed".
        subject: What a binding's config asks for; bindings are found by it (`matching`).
        wants: Whether a config wants an event; asked when it is the event's turn, because the binding may have been
            registered again with another config.
        ordered: Whether the events of one binding and key come one after another; otherwise all run side by side, and
            start in their order.
        limits: How much may wait.

    Attributes:
        waiting: Events that wait for their functions or are being handled.
        waiting_bytes: Their size.
    """

    def __init__(
        self,
        what: str,
        log: logging.Logger,
        *,
        cause: Callable[[P], str],
        subject: Callable[[Any], Hashable] = lambda config: None,
        wants: Callable[[Any, P], bool] = lambda config, payload: True,
        ordered: bool = True,
        limits: Limits = Limits(),  # noqa: B008 - frozen
    ) -> None:
        self.waiting = 0
        self.waiting_bytes = 0
        self._what = what
        self._log = log
        self._cause = cause
        self._subject = subject
        self._wants = wants
        self._ordered = ordered
        self._limits = limits
        self._bus: Bus | None = None
        self._recipients: dict[str, Recipient] = {}
        self._by_subject: dict[Hashable, list[Recipient]] = {}
        self._numbers = itertools.count()
        self._ready: deque[_Queue] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def running(self, bus: Bus, *, grace_s: float = STOP_GRACE_S) -> AsyncIterator[None]:
        """Deliver inside of it; at the end deliver what waits, for a limited time.

        Args:
            bus: Where functions are called; the grace goes by its clock.
            grace_s: What is left after so many seconds is dropped, and logged. 0: drop it at once and say nothing.
        """
        self._bus = bus
        try:
            yield
        finally:
            if self._tasks and grace_s:
                with suppress(TimeoutError):
                    async with time_limit(bus.clock, grace_s):
                        await self._idle.wait()
            if self.waiting and grace_s:
                self._log.warning("%d %s were not delivered: their functions took too long", self.waiting, self._what)
            self._bus = None
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def drain(self) -> None:
        """Wait until every event has been delivered."""
        await self._idle.wait()

    # --- bindings --------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Count the bindings."""
        return len(self._recipients)

    async def bind(self, binding: Binding) -> None:
        """Keep a binding, for `TriggerType`; one with the same id is replaced."""
        recipient = self._recipients.get(binding.id)
        if recipient is None:
            recipient = self._recipients[binding.id] = Recipient(next(self._numbers), binding)
        else:
            self._unindex(recipient)
            recipient.binding = binding
        self._by_subject.setdefault(self._subject(binding.config), []).append(recipient)

    async def unbind(self, binding: Binding) -> None:
        """Let go of a binding and of what waits for it, for `TriggerType`."""
        recipient = self._recipients.pop(binding.id, None)
        if recipient is None:
            return
        self._unindex(recipient)
        recipient.binding = None
        for queue in recipient.queues.values():
            while len(queue.events) > 1:  # the first one may be in its function
                self._forget(queue.events.pop())

    def matching(self, *subjects: Hashable) -> Sequence[Recipient]:
        """Return whose config asks for one of these subjects, in the order of registration; default: all."""
        if not self._by_subject:
            return ()
        if not subjects:
            return list(self._recipients.values())
        found = [each for subject in subjects for each in self._by_subject.get(subject, ())]
        return found if len(found) < 2 else sorted(found, key=lambda recipient: recipient.number)

    def recipient(self, binding_id: str) -> Recipient:
        """Return the recipient of one binding.

        Raises:
            KeyError: There is no such binding.
        """
        return self._recipients[binding_id]

    def _unindex(self, recipient: Recipient) -> None:
        if recipient.binding is None:
            return
        subject = self._subject(recipient.binding.config)
        self._by_subject[subject].remove(recipient)
        if not self._by_subject[subject]:
            del self._by_subject[subject]

    # --- events ----------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether there is no room for another event."""
        return self.waiting >= self._limits.events or self.waiting_bytes >= self._limits.bytes

    def check_room(self) -> None:
        """Refuse what would cause another event.

        Raises:
            Overloaded: Too many events wait for their functions.
        """
        if self.full:
            size = f" ({self.waiting_bytes} bytes)" if self.waiting_bytes else ""
            raise Overloaded(
                f"{self.waiting} {self._what}{size} wait for their functions; nothing was written, try again later"
            )

    def put(
        self,
        recipients: Iterable[Recipient],
        payload: P,
        *,
        key: Hashable = None,
        size: int = 0,
        cause: Invocation | None = None,
    ) -> None:
        """Note an event, whether there is room or not; the functions run later.

        Args:
            recipients: Who is told, from `matching`.
            payload: What the functions get; it is encoded when it is told, so it must not change.
            key: Events of one key come in the order of `put`.
            size: Bytes that the event takes.
            cause: The call that caused it: the functions belong to its trace, not to its deadline.
        """
        if self._bus is None:
            return
        event = (
            _Event(payload, size, None, None)
            if cause is None
            else _Event(payload, size, cause.traceparent, cause.baggage)
        )
        for recipient in recipients:
            self.waiting += 1
            self.waiting_bytes += size
            if not self._ordered:
                key = object()
            queue = recipient.queues.get(key)
            if queue is not None:
                queue.events.append(event)
                continue
            queue = recipient.queues[key] = _Queue(recipient, key, event)
            self._ready.append(queue)
            if not self._ordered or len(self._tasks) < self._limits.functions:
                self._start()

    def offer(self, recipients: Iterable[Recipient], payload: P, *, cause: Invocation | None = None) -> int:
        """Note an event for those for whom there is room, and return for how many there was none."""
        dropped = 0
        for recipient in recipients:
            if self.full:
                dropped += 1
            else:
                self.put((recipient,), payload, cause=cause)
        return dropped

    # --- service ---------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._idle.clear()
        # An empty context: the deadline of who caused an event must not end the event's functions.
        task = asyncio.get_running_loop().create_task(
            self._serve(), name=f"delivery of {self._what}", context=contextvars.Context()
        )
        self._tasks.add(task)
        task.add_done_callback(self._served)

    async def _serve(self) -> None:
        """Handle one event of a queue, then one of the next: a long queue does not keep the others waiting."""
        while self._ready:
            queue = self._ready.popleft()
            try:
                await self._tell(queue.recipient, queue.events[0])
            finally:
                self._forget(queue.events.popleft())
                if queue.events:
                    self._ready.append(queue)
                else:
                    del queue.recipient.queues[queue.key]

    def _served(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._ready and self._bus is not None:  # a function has ended the task that it ran in
            self._start()
        elif not self._tasks:
            self._idle.set()

    def _forget(self, event: _Event) -> None:
        self.waiting -= 1
        self.waiting_bytes -= event.size

    async def _tell(self, recipient: Recipient, event: _Event) -> None:
        binding, bus, payload = recipient.binding, self._bus, event.payload
        if binding is None or bus is None or not self._wants(binding.config, payload):
            return
        current_invocation.set(
            Invocation(function_id=binding.function_id, traceparent=event.traceparent, baggage=event.baggage)
        )
        condition: str | None = getattr(binding.config, "condition_function_id", None)
        try:
            if condition is not None:
                try:
                    met = await condition_met(bus, condition, payload, binding.namespace)
                except LinklyError as error:
                    self._log.warning(
                        "`%s`, the condition for %s, failed (`%s` was not run): %s",
                        condition,
                        self._cause(payload),
                        binding.function_id,
                        error,
                    )
                    return
                if not met or recipient.binding is None:  # taken back meanwhile
                    return
            await fire(bus, binding, payload)
        except LinklyError as error:
            self._log.warning("`%s`, run by %s, failed: %s", binding.function_id, self._cause(payload), error)
        except Exception:
            self._log.exception("telling `%s` of %s failed", binding.function_id, self._cause(payload))
