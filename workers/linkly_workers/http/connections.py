"""All connections of a gateway: where they are accepted, swept for time-outs, told the date, and ended.

At the end requests are finished and streams cut off. `drain` waits for requests while the listener still accepts,
because the next gateway may follow at once. The request that asked for the end itself (a call of `worker::*`) is not
waited for: it ends after the gateway.

uvicorn's server makes the connections (`Server.startup`); it neither runs (`serve` would take the engine's signals, and
wake ten times a second) nor shuts down (it sleeps 0.1 s at least), so that everything here goes by the clock passed in.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import TypeAlias, cast

import uvicorn

from linkly.clock import Clock, TimerHandle, time_limit
from linkly_workers.http.asgi import App
from linkly_workers.http.exchange import Carrier, Exchange
from linkly_workers.http.listener import BACKLOG
from linkly_workers.http.protocol import Common, GatewayProtocol, connections_of
from linkly_workers.http.proxies import Proxies
from linkly_workers.http.states import ConnectionLimits
from linkly_workers.http.status_lines import StatusLines
from linkly_workers.http.writes import Writes

SWEEP_S = 1.0
CLOSE_S = 5.0
"""How long requests may take, `drain` and `end` together."""
CANCELLED_S = 1.0
"""How long a cancelled request may take to say so to its client."""

Served: TypeAlias = dict[GatewayProtocol, Exchange]
"""Connection -> the request that it serves."""

asking: ContextVar[Carrier | None] = ContextVar("asking", default=None)
"""The connection whose request is being served in this context, also in what the engine does for it."""


class Connections:
    """All connections of a gateway.

    Attributes:
        open: Those that are open.
        changed: Is set whenever a response begins to be streamed or ends.
    """

    def __init__(
        self,
        serve: Callable[[Exchange], None],
        app: App,
        clock: Clock,
        limits: ConnectionLimits,
        proxies: Sequence[str] = (),
    ) -> None:
        self._clock = clock
        self._timer: TimerHandle | None = None
        self._until: float | None = None
        self._lines = StatusLines()
        self.changed = asyncio.Event()
        common = Common(
            serve=serve,
            limits=limits,
            proxies=Proxies(proxies),
            monotonic=clock.monotonic,
            lines=self._lines,
            writes=Writes(),
            changed=self.changed.set,
        )
        self._server = server_of(common, app)
        self.open = connections_of(self._server.server_state)

    def start(self) -> None:
        """Start to sweep."""
        self._sweep()

    async def accept(self, listener: socket.socket) -> None:
        """Accept connections from now on."""
        config = self._server.config
        config.load()
        self._server.lifespan = config.lifespan_class(config)
        await self._server.startup(sockets=[listener])

    def accept_no_more(self) -> None:
        """Accept no further connections."""
        for server in self._server.servers if self._server.started else ():
            server.close()

    def _sweep(self) -> None:
        self._timer = self._clock.call_later(SWEEP_S, self._sweep)
        self._lines.turn_to(self._clock.time())
        now = self._clock.monotonic()
        for connection in list(self.open):
            connection.check_time(now)

    async def drain(self) -> None:
        """Wait until what is being served now has been answered, then end streams; new requests are still served."""
        await self._answered()
        await self._cancelled(lambda each: each.streaming)

    async def end(self) -> None:
        """End every connection and what is left of the requests, after `accept_no_more`; sweep no longer."""
        for connection in list(self.open):
            connection.shutdown()
        await self._cancelled(lambda each: each.streaming)
        await self._answered()
        for connection in await self._cancelled(lambda each: True):
            connection.transport.abort()
        if self._timer is not None:
            self._timer.cancel()

    async def _answered(self) -> None:
        if self._until is None:
            self._until = self._clock.monotonic() + CLOSE_S
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
        with suppress(TimeoutError):
            async with time_limit(self._clock, max(until - self._clock.monotonic(), 0)):
                while left:
                    self.changed.clear()
                    await self.changed.wait()
                    left = _left_of(left, which)
        return list(_left_of(left, which))  # a request may have ended in the turn in which the time was over

    def _served(self, which: Callable[[GatewayProtocol], bool]) -> Served:
        own = asking.get()
        requests = {each: each.request for each in self.open if each is not own and which(each)}
        return {each: request for each, request in requests.items() if request is not None}


def _left_of(serving: Served, which: Callable[[GatewayProtocol], bool]) -> Served:
    return {each: request for each, request in serving.items() if each.request is request and which(each)}


def server_of(common: Common, app: App) -> uvicorn.Server:
    """Return a server of uvicorn whose connections are the gateway's.

    Args:
        common: What they have in common.
        app: What uvicorn takes for the app; the gateway gives it what no route takes.
    """
    config = uvicorn.Config(
        app,
        http=cast("type[asyncio.Protocol]", partial(GatewayProtocol, common)),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        backlog=BACKLOG,
    )
    return uvicorn.Server(config)
