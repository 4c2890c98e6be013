"""All connections of a gateway: where they are accepted, swept for time-outs and told the date.

uvicorn's server is left out: it would wake ten times a second, and has its own way to stop.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from email.utils import formatdate
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from linkly.clock import Clock, TimerHandle
from linkly_workers.http.protocol import GatewayProtocol
from linkly_workers.http.proxies import Proxies
from linkly_workers.http.states import ConnectionLimits

SWEEP_S = 1.0


class Connections:
    """All connections of a gateway.

    Args:
        app: The ASGI app that serves their requests.
        clock: What time-outs and the Date header go by.
        limits: What a client may take.
        proxies: Addresses and networks of proxies that are trusted.

    Attributes:
        open: Those that are open.
        changed: Is set whenever a response begins to be streamed or ends.
    """

    def __init__(self, app: Any, clock: Clock, limits: ConnectionLimits, proxies: Sequence[str] = ()) -> None:
        self._config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=list(proxies),
        )
        self._config.load()
        self._clock = clock
        self._limits = limits
        self._proxies = Proxies(proxies)
        self._server_state = ServerState()
        self._server: asyncio.Server | None = None
        self._timer: TimerHandle | None = None
        self.open: set[GatewayProtocol] = set()
        self.changed = asyncio.Event()

    def start(self) -> None:
        """Start to sweep."""
        self._sweep()

    async def accept(self, listener: socket.socket) -> None:
        """Accept connections from now on."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: GatewayProtocol(
                self._limits,
                self._proxies,
                self._clock.monotonic,
                self.open,
                self.changed.set,
                config=self._config,
                server_state=self._server_state,
                app_state={},
            ),
            sock=listener,
            backlog=self._config.backlog,
        )

    def accept_no_more(self) -> None:
        """Accept no further connections."""
        if self._server is not None:
            self._server.close()

    def stop(self) -> None:
        """Stop to sweep."""
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self) -> None:
        self._timer = self._clock.call_later(SWEEP_S, self._sweep)
        self._server_state.default_headers = [(b"date", formatdate(self._clock.time(), usegmt=True).encode())]
        now = self._clock.monotonic()
        for connection in list(self.open):
            connection.check_time(now)
