"""Time-outs of operations: a dict entry for each, because every insert has one.

As `linkly.deadline`, without an object and a callback of its own for each wait, which cost a tenth of an insert.
"""

from __future__ import annotations

from typing import Any

from linkly.clock import Clock, TimerHandle
from linkly_workers._sqlite.operation import Operation


class Waits:
    """Operations that have a time limit; those of one length stand in order of expiry, so they share one timer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._monotonic = clock.monotonic
        self._classes: dict[float, dict[Operation[Any], float]] = {}
        self._timers: dict[float, TimerHandle] = {}

    def add(self, operation: Operation[Any], timeout_s: float) -> None:
        """Let an operation expire in so many seconds, unless it is answered before."""
        waits = self._classes.get(timeout_s)
        if waits is None:
            waits = self._classes[timeout_s] = {}
            self._start(timeout_s, timeout_s)
        waits[operation] = self._monotonic() + timeout_s
        operation.waits = waits

    def close(self) -> None:
        """Let nothing expire any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._classes.clear()

    def _start(self, timeout_s: float, delay_s: float) -> None:
        self._timers[timeout_s] = self._clock.call_later(delay_s, lambda: self._sweep(timeout_s))

    def _sweep(self, timeout_s: float) -> None:
        waits = self._classes[timeout_s]
        now = self._clock.monotonic()
        while waits:
            operation, expiry = next(iter(waits.items()))
            if expiry > now:
                self._start(timeout_s, expiry - now)
                return
            del waits[operation]
            operation.expire()
        # A class of its own is made again when it is needed: odd time-outs must not pile up.
        del self._timers[timeout_s], self._classes[timeout_s]
