"""What statements may take of one turn of the event loop, all of them together.

Each statement on the loop's thread is stopped after some milliseconds, and remembered. That bounds nothing when every
one is new: 2,000 texts that nobody has seen before had 2 ms each in one turn, and everybody else waited for 5.7 s. So
what is not quick is charged to the turn, whoever's connection it ran on, and when the turn's time is used the rest goes
to a thread.

Quick statements are not charged, which would cost each a call: what bounds them is how many calls a turn may bring.
"""

from __future__ import annotations

import asyncio
import weakref

TURN_S = 0.004
"""So much a turn of the loop may spend on statements that are not quick."""

BATCH_S, LEAST_BATCH_S = 0.004, 0.002
"""After this time on the loop's thread a batch of writes is committed with what it has. The second it has even when
other statements have used up the turn: writes must not stand still."""

QUICK_S = 0.000_5
"""What takes no longer is not counted."""


class LoopTime:
    """The time of one event loop's turns, in seconds.

    Attributes:
        left_s: What is left of this turn; not above zero when it is used.
    """

    __slots__ = ("__weakref__", "left_s")

    def __init__(self) -> None:
        self.left_s = TURN_S

    def spend(self, seconds: float) -> None:
        """Charge a statement to this turn."""
        if seconds < QUICK_S:
            return
        if self.left_s == TURN_S:
            # What is in the queue now still belongs to this turn, and what comes after the reset to the next.
            asyncio.get_running_loop().call_soon(self._reset)
        self.left_s -= seconds

    def _reset(self) -> None:
        self.left_s = TURN_S


_of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopTime] = weakref.WeakKeyDictionary()


def loop_time() -> LoopTime:
    """Return the one of the running loop."""
    return _of_loops.setdefault(asyncio.get_running_loop(), LoopTime())
