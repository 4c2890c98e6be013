"""What a writer is doing, and what may follow."""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """One at a time; what is known of the file itself is in `DataFile`."""

    CLOSED = 0
    """Not open yet, or closed."""
    IDLE = 1
    """Open, and nobody waits for it to begin."""
    SCHEDULED = 2
    """A batch begins at the end of this turn of the loop, or runs on the loop's thread."""
    ON_THREAD = 3
    """A batch runs or is committed on the writing thread."""
    HELD = 4
    """One caller has the turn; the others wait until it is given back."""


MAY_FOLLOW = {
    State.CLOSED: (State.IDLE,),
    State.IDLE: (State.SCHEDULED, State.CLOSED),
    State.SCHEDULED: (State.IDLE, State.ON_THREAD, State.HELD, State.CLOSED),
    State.ON_THREAD: (State.IDLE,),
    State.HELD: (State.IDLE, State.CLOSED),
}
