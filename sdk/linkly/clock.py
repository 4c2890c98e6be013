"""Time as a thing that is passed in, so that no test has to sleep.

`SystemClock` is the running event loop's; `linkly.testing.ManualClock` is moved by the test.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol


class TimerHandle(Protocol):
    """A pending `Clock.call_later`."""

    def cancel(self) -> None:
        """Forget the call; harmless when it has run."""
        ...


class Clock(Protocol):
    """Wall time, monotonic time and timers."""

    def time(self) -> float:
        """Seconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean something."""
        ...

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> TimerHandle:
        """Call `callback` on the loop thread, `delay_s` seconds from now."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Return `delay_s` seconds from now."""
        ...


class SystemClock:
    """The machine's clock and the running event loop's timers."""

    # The functions themselves, not methods around them: every call reads the time.
    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> TimerHandle:  # noqa: D102
        return asyncio.get_running_loop().call_later(delay_s, callback)

    async def sleep(self, delay_s: float) -> None:  # noqa: D102
        await asyncio.sleep(delay_s)


@asynccontextmanager
async def time_limit(clock: Clock, seconds: float | None) -> AsyncIterator[None]:
    """End what `async with` runs when `clock` has moved on by `seconds` (`None`: never): `asyncio.timeout` by a clock.

    Raises:
        TimeoutError: The time is over.
    """
    async with asyncio.timeout(None) as limit:
        timer = None if seconds is None else clock.call_later(seconds, lambda: limit.reschedule(0))
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
