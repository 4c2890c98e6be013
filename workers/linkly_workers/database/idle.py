"""What a pool has open and nobody uses: the one given back last goes first; what is idle for long is closed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from linkly.clock import Clock, TimerHandle

T = TypeVar("T")


class Idle(Generic[T]):
    """Connections that nobody uses.

    Args:
        timeout_s: How long one stays.
        end: Closes one, without waiting for that.
        clock: Measures the time.
    """

    def __init__(self, timeout_s: float, end: Callable[[T], None], clock: Clock) -> None:
        self._timeout_s = timeout_s
        self._end = end
        self._clock = clock
        self._idle: deque[tuple[float, T]] = deque()
        self._sweeping: TimerHandle | None = None

    def __len__(self) -> int:
        """Count them."""
        return len(self._idle)

    def put(self, one: T) -> None:
        """Keep one that was given back."""
        self._idle.append((self._clock.monotonic(), one))
        if self._sweeping is None:
            self._sweeping = self._clock.call_later(self._timeout_s, self._sweep)

    def pop(self) -> T | None:
        """Take the one that was given back last."""
        return self._idle.pop()[1] if self._idle else None

    def end_all(self) -> None:
        """Close all."""
        while self._idle:
            self._end(self._idle.pop()[1])

    def close(self) -> None:
        """Close all, and look at no clock any more."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        self.end_all()

    def _sweep(self) -> None:
        """Close what has been idle for long; they are in the order of their last use."""
        self._sweeping = None
        limit = self._clock.monotonic() - self._timeout_s
        while self._idle and self._idle[0][0] <= limit:
            self._end(self._idle.popleft()[1])
        if self._idle:
            self._sweeping = self._clock.call_later(self._idle[0][0] - limit, self._sweep)
