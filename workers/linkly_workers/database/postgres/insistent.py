"""A connection of the driver that has a statement end whose caller has gone."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

INSIST_S = 0.5
"""After so long the server is asked once more to stop a statement."""

_Driven: Any = asyncpg.Connection


class Insistent(_Driven):  # type: ignore[misc]  # the driver's class has no types
    """Asks the server until it has answered: a request that comes before the statement has begun is ignored.

    The driver asks once for each call that is cancelled, and then waits for the answer, which may never come.
    """

    _asking: asyncio.Task[None] | None = None

    def _cancel_current_command(self, *waiters: Any) -> None:
        super()._cancel_current_command(*waiters)
        if self._protocol is None:  # it is closed already
            return
        self._asking = asyncio.get_running_loop().create_task(self._ask(), name="end of a left statement")

    async def _ask(self) -> None:
        if self._protocol is None:  # it was closed before this began
            return
        answered = asyncio.ensure_future(self._protocol._wait_for_cancellation())
        while not (await asyncio.wait([answered], timeout=INSIST_S))[0]:
            await self._cancel(asyncio.get_running_loop().create_future())

    async def end_of_left(self) -> None:
        """Wait for the end of a statement whose caller has gone: what comes next must not be what is stopped."""
        if self._asking is not None:
            await asyncio.wait([self._asking])
            self._asking = None
