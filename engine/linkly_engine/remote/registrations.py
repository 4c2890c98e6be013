"""What one connection asks to register: it waits until its namespace is known, comes in by slices, and is bounded.

Clients send all their registrations before anything else. Applied in one turn of the loop, 100,000 of them would stop
everybody for seconds; and what a connection owns goes in one turn when it ends.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator

from linkly.errors import Overloaded
from linkly.outcome import error_body
from linkly.wire.messages import (
    Message,
    RegisterFunction,
    RegisterTrigger,
    RegisterTriggerType,
    RegistrationRejected,
    TriggerRegistrationResult,
    UnregisterFunction,
    UnregisterTrigger,
    UnregisterTriggerType,
)

WAITING_LIMIT = 100_000
"""How many registrations, and calls of them, may wait for a namespace: one more ends the peer or fails the call."""

OWNED_LIMIT = 10_000
"""Functions, triggers and trigger types of one connection together."""

LET_IN_AT_ONCE = 256
"""Registrations that are applied in one turn of the loop when the namespace is known."""

_MADE = (RegisterFunction, RegisterTriggerType, RegisterTrigger)
_TAKEN_BACK: dict[type[Message], type[Message]] = {
    UnregisterFunction: RegisterFunction,
    UnregisterTriggerType: RegisterTriggerType,
    UnregisterTrigger: RegisterTrigger,
}

REGISTRATIONS = (*_MADE, UnregisterFunction, UnregisterTriggerType, UnregisterTrigger)
"""What waits for the namespace."""


class Waiting:
    """Registrations that wait, in order.

    Args:
        apply: Registers one.
        applied: Told when nothing waits any more.
    """

    def __init__(self, apply: Callable[[Message], None], applied: Callable[[], None]) -> None:
        self._apply = apply
        self._applied = applied
        self._messages: deque[Message] = deque()
        self._functions: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(list(self._messages))

    def add(self, message: Message) -> None:
        """Stand at the end."""
        self._messages.append(message)
        if isinstance(message, RegisterFunction):
            self._functions[message.id] += 1

    def offers(self, function_id: str) -> bool:
        """Tell whether a registration of this function waits."""
        return self._functions[function_id] > 0 if self._functions else False

    def let_in(self) -> None:
        """Apply what waits: a slice now, the rest, and what comes meanwhile, in later turns of the loop."""
        for _ in range(min(LET_IN_AT_ONCE, len(self._messages))):
            message = self._messages.popleft()
            if isinstance(message, RegisterFunction):
                self._functions[message.id] -= 1
            self._apply(message)
        if self._messages:
            asyncio.get_running_loop().call_soon(self.let_in)
        else:
            self._functions.clear()
            self._applied()

    def drop(self) -> None:
        """Forget them."""
        self._messages.clear()
        self._functions.clear()


class Owned:
    """What one connection has registered, by kind and id: how much, not what."""

    def __init__(self) -> None:
        self._all: set[tuple[type[Message], str]] = set()

    def takes(self, message: Message) -> bool:
        """Note a message that registers something or takes it back; `False`: that would be too much."""
        kind = type(message)
        if isinstance(message, _MADE):
            if len(self._all) >= OWNED_LIMIT and (kind, message.id) not in self._all:
                return False
            self._all.add((kind, message.id))
        elif kind in _TAKEN_BACK:
            self._all.discard((_TAKEN_BACK[kind], str(getattr(message, "id", ""))))
        return True


def too_many(message: Message) -> Overloaded:
    """Make the error of a registration that is refused because of the limit."""
    return Overloaded(
        f"`{getattr(message, 'id', '')}` was not registered: this connection has {OWNED_LIMIT} functions, triggers and "
        "trigger types, and none may have more; take some back, or use further connections"
    )


def refusal(message: Message, error: Overloaded, namespace: str, worker_id: str) -> Message | None:
    """Return what tells a worker that a registration was refused; `None`: its protocol has no word for that."""
    if isinstance(message, RegisterFunction):
        return RegistrationRejected(
            code=error.code, namespace=namespace, function_id=message.id, owner_worker_id=worker_id
        )
    if isinstance(message, RegisterTrigger):
        return TriggerRegistrationResult(
            id=message.id,
            trigger_type=message.trigger_type,
            function_id=message.function_id,
            error=error_body(error),
        )
    return None
