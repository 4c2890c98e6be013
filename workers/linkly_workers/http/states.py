"""What a connection is doing, what may follow, and how long its client may take for it (RFC 9112 9). Pure.

The state tells what the client sends. Whether a response is on its way is the request's own: it may still be served
while the head of the next one arrives.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec


class State(IntEnum):
    """What the client of a connection is doing."""

    OPENED = 0
    """It has connected and sent nothing."""
    HEAD = 1
    """It sends request line and headers."""
    BODY = 2
    """It sends a body."""
    DISCARDING = 3
    """It sends the rest of a body whose request has been answered."""
    WAITING = 4
    """It has sent a request and waits for the response."""
    IDLE = 5
    """Its last request has been answered."""
    REFUSED = 6
    """Nothing is read any more; a response that is on its way is finished."""
    LOST = 7
    """The connection has ended."""


OPENED, HEAD, BODY, DISCARDING, WAITING, IDLE, REFUSED, LOST = State  # an attribute of an enum is looked up slowly

FOLLOWS: Final[tuple[tuple[State, ...], ...]] = (
    (HEAD, REFUSED, LOST),
    (BODY, WAITING, REFUSED, LOST),
    (WAITING, DISCARDING, REFUSED, LOST),
    (IDLE, REFUSED, LOST),
    (IDLE, HEAD, REFUSED, LOST),
    (HEAD, WAITING, REFUSED, LOST),
    (LOST,),
    (),
)
"""State -> what may follow; a tuple, because every request looks three times."""


class ImpossibleTransition(RuntimeError):
    """A connection was to enter a state that cannot follow: a mistake of the gateway."""

    def __init__(self, state: State, following: State) -> None:
        super().__init__(f"a connection that is {state.name} cannot become {following.name}")


class ConnectionLimits(msgspec.Struct, frozen=True):
    """What a client may take.

    Attributes:
        head_bytes: Request line and headers.
        target_bytes: What stands between method and version.
        head_s: From the connection, or a head's first byte, to the end of the head.
        body_s: Without any byte of a body that is being waited for, or without reading any of a whole response.
        idle_s: Between two requests.
    """

    head_bytes: int
    target_bytes: int
    head_s: float
    body_s: float
    idle_s: float

    def times_s(self) -> tuple[float | None, ...]:
        """Return State -> how long a client may stay in it; `None` where the time is not the client's."""
        return self.head_s, self.head_s, self.body_s, self.idle_s, None, self.idle_s, None, None
