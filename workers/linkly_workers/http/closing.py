"""The end of a gateway: requests are finished, streams are cut off, connections are accepted meanwhile.

`drain` waits for requests while the listener still accepts, because the next gateway may follow at once. The request
that asked for the end itself (a call of `worker::*`) is not waited for: it ends after the gateway.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeAlias

from linkly.clock import Clock
from linkly_workers.http.connections import Connections
from linkly_workers.http.protocol import GatewayProtocol

CANCELLED_S = 1.0
"""How long a cancelled request may take to say so to its client."""

Served: TypeAlias = dict[GatewayProtocol, object]
"""Connection -> the request that it serves."""

asking: ContextVar[GatewayProtocol | None] = ContextVar("asking", default=None)
"""The connection whose request is being served in this context."""


class Closing:
    """The end of a gateway.

    Args:
        connections: All of them.
        clock: What the time goes by.
        time_s: How long requests may take, `drain` and `end` together.
    """

    def __init__(self, connections: Connections, clock: Clock, time_s: float) -> None:
        self._connections = connections
        self._clock = clock
        self._time_s = time_s
        self._until: float | None = None

    async def drain(self) -> None:
        """Wait until what is being served now has been answered, then end streams; new requests are still served."""
        await self._answered()
        await self._cancelled(lambda each: each.streaming)

    async def end(self) -> None:
        """End every connection and what is left of the requests; the caller has stopped accepting new ones."""
        for connection in list(self._connections.open):
            connection.shutdown()
        await self._cancelled(lambda each: each.streaming)
        await self._answered()
        for connection in await self._cancelled(lambda each: True):
            connection.transport.abort()

    async def _answered(self) -> None:
        if self._until is None:
            self._until = self._clock.monotonic() + self._time_s
        left = self._served(lambda each: not each.streaming)
        await self._ended(left, self._until, lambda each: not each.streaming)

    async def _cancelled(self, which: Callable[[GatewayProtocol], bool]) -> list[GatewayProtocol]:
        """Cancel the requests of these connections and wait `CANCELLED_S`; return the connections that still serve."""
        left = self._served(which)
        for connection in left:
            if connection.serving is not None:
                connection.serving.cancel()
        return await self._ended(left, self._clock.monotonic() + CANCELLED_S, lambda each: True)

    async def _ended(
        self, serving: Served, until: float, which: Callable[[GatewayProtocol], bool]
    ) -> list[GatewayProtocol]:
        """Wait until these requests have ended, or until that time; return the connections of those that have not."""
        left = serving
        changed = self._connections.changed
        over = False  # set by the timer, not read off the clock: a timer of uvloop may fire a millisecond early

        def end() -> None:
            nonlocal over
            over = True
            changed.set()

        timer = self._clock.call_later(max(until - self._clock.monotonic(), 0), end)
        try:
            while left and not over:
                changed.clear()
                await changed.wait()
                left = {each: request for each, request in left.items() if each.request is request and which(each)}
        finally:
            timer.cancel()
        return list(left)

    def _served(self, which: Callable[[GatewayProtocol], bool]) -> Served:
        own = asking.get()
        requests = {each: each.request for each in self._connections.open if each is not own and which(each)}
        return {each: request for each, request in requests.items() if request is not None}
