"""How long a job waits after an attempt that failed."""

from __future__ import annotations

from collections.abc import Callable

LONGEST_MS = 3_600_000
"""An hour."""

JITTER = 0.2
"""At most so much longer, so that jobs that failed together do not all come back at one moment."""


def backoff_ms(attempt: int, base_ms: int, random: Callable[[], float]) -> int:
    """Return how long to wait after attempt number `attempt` (from 1 on) has failed.

    `base_ms * 2^(attempt - 1)`, as iii's queue waits, never less but for the cap; and up to a fifth more.

    Args:
        attempt: Which attempt has failed.
        base_ms: The queue's setting.
        random: Gives a number from 0 up to 1.
    """
    wait = min(base_ms << min(attempt - 1, 32), LONGEST_MS)
    return min(LONGEST_MS, wait + int(wait * JITTER * random()))
