"""What one connection asks to register, until its namespace is known; then it is applied in slices.

Clients send all their registrations before anything else. Applied in one turn, 100,000 of them would block the
loop for seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from linkly.wire.messages import Message, RegisterFunction

WAITING_LIMIT = 100_000
"""How many registrations, and calls of them, may wait for a namespace: one more ends the peer or fails the call."""

LET_IN_AT_ONCE = 256
"""Registrations that are applied in one turn of the loop when the namespace is known."""


class Waiting:
    """Registrations that wait, in order.

    Args:
        apply: Registers one.
        applied: Told when nothing waits any more.
    """

    __slots__ = (
        "_applied",
        "_apply",
        "_functions",
        "_messages",
    )

    def __init__(self, apply: Callable[[Message], None], applied: Callable[[], None]) -> None:
        self._apply = apply
        self._applied = applied
        self._messages: list[Message] = []  # an empty deque has 624 bytes, and every idle connection would have one
        self._functions: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(list(self._messages))

    def add(self, message: Message) -> None:
        """Stand at the end."""
        self._messages.append(message)
        if isinstance(message, RegisterFunction):
            self._functions[message.id] = self._functions.get(message.id, 0) + 1

    def offers(self, function_id: str) -> bool:
        """Return whether a registration of this function waits."""
        return self._functions.get(function_id, 0) > 0

    def let_in(self) -> None:
        """Apply what waits: a slice now, the rest, and what comes meanwhile, in later turns of the loop."""
        messages = self._messages[:LET_IN_AT_ONCE]
        del self._messages[:LET_IN_AT_ONCE]
        for message in messages:
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

    def end(self) -> None:
        """Forget them, and whom to tell: the connection has ended."""
        self.drop()
        self._apply = self._applied = _tell_nobody


def _tell_nobody(*_: object) -> None:
    pass
