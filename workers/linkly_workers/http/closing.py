"""How a gateway comes to its end: requests are finished, streams are not waited for, the door stays open meanwhile.

Requests are waited for while the listener still accepts, because the next gateway may come right after this one. A
request that asks for the end itself is waited for by nobody: it ends when the gateway has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import ContextVar

from linkly_workers.http.protocol import Connections, GatewayProtocol

STEP_S = 0.005
CANCELLED_S = 1.0
"""How long a cancelled request may take to say so to its client."""

asking: ContextVar[GatewayProtocol | None] = ContextVar("asking", default=None)
"""The connection whose request is being served in this context."""


class Closing:
    """The end of a gateway.

    Args:
        connections: All of them.
        time_s: How long requests may take, `drain` and `end` together.
    """

    def __init__(self, connections: Connections, time_s: float) -> None:
        self._connections = connections
        self._time_s = time_s
        self._until: float | None = None

    async def drain(self) -> None:
        """Wait until what is being served now has been answered, then end streams; new requests are still served."""
        await self._answered()
        await self._cancelled(lambda each: each.streaming)

    async def end(self) -> None:
        """Nothing new is accepted any more: end every connection, what is left of requests too."""
        for connection in list(self._connections.open):
            connection.shutdown()
        await self._cancelled(lambda each: each.streaming)
        await self._answered()
        for connection in await self._cancelled(lambda each: True):
            connection.transport.abort()

    async def _answered(self) -> None:
        now = asyncio.get_running_loop().time
        if self._until is None:
            self._until = now() + self._time_s
        left = self._served(lambda each: not each.streaming)
        # Asked now and then: an event would cost something on the way of every request.
        while left and now() < self._until:
            await asyncio.sleep(STEP_S)
            left = [(each, request) for each, request in left if each.request is request and not each.streaming]

    async def _cancelled(self, which: Callable[[GatewayProtocol], bool]) -> Iterable[GatewayProtocol]:
        """Cancel what these connections serve, and wait a moment; return those that still do."""
        left = self._served(which)
        for connection, _ in left:
            if connection.serving is not None:
                connection.serving.cancel()
        now = asyncio.get_running_loop().time
        until = now() + CANCELLED_S
        while left and now() < until:
            await asyncio.sleep(STEP_S)  # for the same reason
            left = [(each, request) for each, request in left if each.request is request]
        return [each for each, _ in left]

    def _served(self, which: Callable[[GatewayProtocol], bool]) -> list[tuple[GatewayProtocol, object]]:
        own = asking.get()
        requests = [(each, each.request) for each in self._connections.open if each is not own and which(each)]
        return [(each, request) for each, request in requests if request is not None]
