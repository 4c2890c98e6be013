"""What a job is: its states and what may follow on each, its head, and how one comes in and goes out of the store.

It knows no store and no bus.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum, StrEnum
from typing import Any, cast

import msgpack
import msgspec


class State(IntEnum):
    """Where a job is in its life, as the number that is stored."""

    WAITING = 0
    DELAYED = 1
    RETRYING = 2
    ACTIVE = 3
    DONE = 4
    DEAD = 5
    CANCELLED = 6
    DISCARDED = 7
    EXPIRED = 8


NEXT: dict[State, frozenset[State]] = {
    State.WAITING: frozenset((State.DISCARDED, State.ACTIVE, State.CANCELLED, State.EXPIRED)),
    State.DELAYED: frozenset((State.DISCARDED, State.WAITING, State.CANCELLED, State.EXPIRED)),
    State.RETRYING: frozenset((State.DISCARDED, State.WAITING, State.CANCELLED, State.EXPIRED)),
    State.ACTIVE: frozenset((State.DONE, State.RETRYING, State.WAITING, State.DEAD, State.CANCELLED)),
    State.DEAD: frozenset((State.WAITING, State.DISCARDED)),
    State.DONE: frozenset(),
    State.CANCELLED: frozenset(),
    State.DISCARDED: frozenset(),
    State.EXPIRED: frozenset(),
}
"""What may follow: a dead job can be redriven, and is new then; what has ended otherwise has ended for good."""


class Reason(StrEnum):
    """Why a job is dead."""

    FAILED = "failed"
    """Its function has failed each time."""
    REFUSED = "refused"
    """Its function has said that no further attempt is of use."""
    TIMED_OUT = "timed_out"
    """Its function took too long, the last time."""
    WORKER_LOST = "worker_lost"
    """The worker or the engine ended while it ran, the last time."""
    NO_FUNCTION = "no_function"
    """Nobody has served its function for too long."""
    TOO_MANY = "too_many"
    """Its subscription had no room for newer messages."""


class Head(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is kept beside a job's payload, stored as msgpack.

    Attributes:
        enqueued_at: Milliseconds since the epoch.
        traceparent: Trace of whoever enqueued it.
        baggage: W3C baggage of the same.
        key: Idempotency key.
        topic: It was published to.
        run_at: When it was to run, if that was said.
    """

    enqueued_at: int
    traceparent: str | None = None
    baggage: str | None = None
    key: str | None = None
    topic: str | None = None
    run_at: int | None = None


def pack_head(head: Head) -> bytes:
    """Return a head as it is stored."""
    return cast("bytes", msgpack.packb(msgspec.to_builtins(head)))


def unpack_head(stored: bytes) -> Head:
    """Return a head from the store; what a later version has added to it is left out."""
    return msgspec.convert(msgpack.unpackb(stored), Head)


class NewJob(msgspec.Struct, kw_only=True):
    """A job that is to be accepted.

    Attributes:
        id: The receipt.
        queue: The store's number of its queue.
        lane: The store's number of its lane.
        payload: JSON text.
        head: What is kept beside it.
        due_at: When it may run; `None`: at once.
        expires_at: When it is of no use any more.
        priority: Higher ones run first.
        message_group: The line in which it stands, in a queue that has groups.
    """

    id: str
    queue: int
    lane: int
    payload: str
    head: Head
    due_at: int | None = None
    expires_at: int | None = None
    priority: int = 0
    message_group: str | None = None

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        return len(self.payload.encode())

    @property
    def digest(self) -> bytes:
        """Tells jobs apart that have the same idempotency key: their function and payload."""
        return hashlib.sha256(f"{self.lane} {self.payload}".encode()).digest()


class Claimed(msgspec.Struct, array_like=True):
    """A job whose attempt begins; `position` with `starts` is the attempt's token. The order is script `claim`'s."""

    position: int
    id: str
    lane: int
    starts: int
    returned: int
    message_group: str | None
    priority: int
    head: bytes
    payload: str

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1 on."""
        return self.starts - self.returned


class Ended(msgspec.Struct, kw_only=True):
    """How an attempt came to its end.

    Attributes:
        position: Of the job.
        starts: The attempt's token.
        state: DONE, DEAD, RETRYING (runs once more at `due_at`) or WAITING (once more as soon as it is its turn).
        due_at: For RETRYING.
        error: Error body as JSON text.
        reason: For DEAD: why no further attempt is made.
        returned: The start does not count.
        message_group: Of the job.
    """

    position: int
    starts: int
    state: State
    due_at: int | None = None
    error: str | None = None
    reason: Reason | None = None
    returned: bool = False
    message_group: str | None = None


class Lane(msgspec.Struct, frozen=True):
    """Jobs of one function in one queue."""

    id: int
    queue: int
    namespace: str
    function_id: str


def error_text(body: dict[str, Any]) -> str:
    """Return an error body as it is stored."""
    return msgspec.json.encode(body).decode()
