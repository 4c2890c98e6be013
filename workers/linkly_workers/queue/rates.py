"""Counts what happens to the jobs of each queue within the last minute."""

from __future__ import annotations

from collections import Counter, deque

from linkly.clock import Clock

SECONDS = 60


class Rates:
    """The counts of this engine.

    Args:
        clock: Says which second it is.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seconds: deque[tuple[int, Counter[tuple[int, str]]]] = deque()

    def add(self, queue: int, what: str, count: int) -> None:
        """Count something."""
        second = int(self._clock.monotonic())
        if not self._seconds or self._seconds[-1][0] != second:
            self._forget(second)
            self._seconds.append((second, Counter()))
        self._seconds[-1][1][queue, what] += count

    def last_minute(self, queue: int, what: str) -> int:
        """Return how much of it was counted."""
        self._forget(int(self._clock.monotonic()))
        return sum(counts[queue, what] for _, counts in self._seconds)

    def _forget(self, second: int) -> None:
        while self._seconds and self._seconds[0][0] <= second - SECONDS:
            self._seconds.popleft()
