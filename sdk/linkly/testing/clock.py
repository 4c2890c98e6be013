"""A clock that tests move."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable


class ManualClock:
    """A clock that stands still until a test moves it.

    Args:
        start: Seconds since the epoch.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._start = start
        self._order = itertools.count()
        self._timers: list[tuple[float, int, ManualTimer]] = []

    def time(self) -> float:
        """Seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        return self._now - self._start

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> ManualTimer:
        """Call `callback` when the clock has been moved by `delay_s`."""
        timer = ManualTimer(callback)
        heapq.heappush(self._timers, (self._now + delay_s, next(self._order), timer))
        return timer

    async def sleep(self, delay_s: float) -> None:
        """Return when the clock has been moved by `delay_s`."""
        due = asyncio.Event()
        self.call_later(delay_s, due.set)
        await due.wait()

    async def advance(self, seconds: float) -> None:
        """Move the clock, run what falls due in order, and let the loop settle after each."""
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            due, _, timer = heapq.heappop(self._timers)
            if timer.cancelled:
                continue
            self._now = max(self._now, due)
            timer.callback()
            await settle()
        self._now = end
        await settle()


class ManualTimer:
    """A pending `ManualClock.call_later`."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """Forget the call."""
        self.cancelled = True


async def settle(turns: int = 20) -> None:
    """Let everything that is ready to run do so."""
    for _ in range(turns):
        await asyncio.sleep(0)
