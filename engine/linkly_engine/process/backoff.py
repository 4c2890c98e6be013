"""How long to wait before a program that ended is started again. No clock, no process."""

from __future__ import annotations

FIRST_S, LONGEST_S = 1.0, 30.0
RESET_S = 60.0
GIVE_UP_AFTER = 8


class Backoff:
    """Doubles the wait from `FIRST_S` to `LONGEST_S`; a run of `RESET_S` or more begins anew.

    Attributes:
        failures: Runs in a row that were shorter than `RESET_S`.
    """

    def __init__(self) -> None:
        self.failures = 0

    def ended(self, uptime_s: float) -> float | None:
        """Return how long to wait after a run of `uptime_s`; `None`: give up."""
        if uptime_s >= RESET_S:
            self.failures = 0
        self.failures += 1
        if self.failures >= GIVE_UP_AFTER:
            return None
        return min(FIRST_S * 2.0 ** (self.failures - 1), LONGEST_S)

    def reset(self) -> None:
        """Forget the failures: something has changed."""
        self.failures = 0
