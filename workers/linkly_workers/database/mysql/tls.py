"""Connections that turn to TLS, and that may be cancelled while they do.

The driver asks the loop for a transport with TLS over the socket that it has. uvloop (0.23) closes the handle of that
socket when its caller is cancelled after the handshake has begun and before he goes on, but lets the handshake be. If
the server has answered meanwhile, the client's answer is written to the closed handle, and the loop's exception handler
is told. `start_tls` has no such moment.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any


class TlsLoop:
    """A loop, as the driver has it, whose connections with TLS are made with `start_tls`.

    Args:
        loop: Does everything else.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *address: Any,
        ssl: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        **more: Any,
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Connect: see `asyncio.loop.create_connection`."""
        plain, protocol = await self._loop.create_connection(protocol_factory, *address, **more)
        if ssl is None:
            return plain, protocol
        try:
            transport = await self._loop.start_tls(plain, protocol, ssl, server_hostname=server_hostname)
        except BaseException:
            plain.abort()  # `start_tls` closes a handshake that has begun, and nothing before
            raise
        assert transport is not None, "start_tls returns a transport, or raises"
        return transport, protocol
