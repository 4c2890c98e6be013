"""Lines for what several callers want at once: where a race was lost, those who want the same go one after another.

Racing again and again would let one of them lose every time, and be work for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager


class _Line:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.standing = 0


class Lines:
    """Lines by the name of what is wanted; one is there as long as somebody stands in it."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    def any_for(self, names: Iterable[str]) -> bool:
        """Return whether somebody stands in line for one of these."""
        return bool(self._lines) and any(name in self._lines for name in names)

    @asynccontextmanager
    async def turn(self, names: Iterable[str]) -> AsyncIterator[None]:
        """Have all of these, after those who came before."""
        async with AsyncExitStack() as stack:
            for name in sorted(set(names)):  # all in one order, so that nobody waits in a circle
                await stack.enter_async_context(self._alone(name))
            yield

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        line = self._lines.setdefault(name, _Line())
        line.standing += 1
        try:
            async with line.lock:
                yield
        finally:
            line.standing -= 1
            if not line.standing:
                del self._lines[name]
