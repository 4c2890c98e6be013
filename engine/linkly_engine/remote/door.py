"""The first bytes of every connection to the worker port: who asks for native frames gets them, all others are picows'.

A request is read up to the end of its head. One for native frames (docs/protocol.md 2.4) is answered here; any other is
given to picows with its bytes, which answers everything that is no WebSocket handshake as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from linkly.wire.native_frames import NATIVE_UPGRADE
from linkly.wire.native_stream import NativeStream

HEAD_LIMIT_BYTES = 16 * 1024
"""A longer head is picows' to refuse."""

_END = b"\r\n\r\n"
_SWITCHING = f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: {NATIVE_UPGRADE}\r\nConnection: Upgrade\r\n\r\n".encode()


class Door(asyncio.Protocol):
    """Reads the head of a request and gives the connection to who speaks what it asks for.

    Args:
        others: Makes the protocol of a connection that asks for anything else, a buffered one.
        refusal: What a request with these origins is answered if it may not connect; `None` if it may.
        entered: Takes a native stream; what it is given to is ready when this returns.
        timeout_s: How long a client may take to send its head.
    """

    def __init__(
        self,
        others: Callable[[], Any],
        refusal: Callable[[list[str]], bytes | None],
        entered: Callable[[NativeStream, Any], None],
        timeout_s: float,
    ) -> None:
        self._others = others
        self._refusal = refusal
        self._entered = entered
        self._timeout_s = timeout_s
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the head."""
        self._transport: Any = transport
        self._timer = asyncio.get_running_loop().call_later(self._timeout_s, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody came in."""
        self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Read on, and let in who has said what it wants."""
        self._head += data
        if _END not in self._head and len(self._head) < HEAD_LIMIT_BYTES:
            return
        self._timer.cancel()
        head, _, rest = self._head.partition(_END)
        request, *lines = head.decode("latin-1").split("\r\n")
        fields = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        wanted = [value.lower() for name, value in fields if name == "upgrade"]
        method, _, target = request.partition(" ")
        at_root = method == "GET" and target.split(" ")[0].partition("?")[0] == "/"
        if wanted != [NATIVE_UPGRADE] or not at_root:
            self._give_to_others()
            return
        refusal = self._refusal([value for name, value in fields if name == "origin"])
        if refusal is not None:
            self._transport.write(refusal)
            self._transport.close()
            return
        self._transport.write(_SWITCHING)
        stream = NativeStream()
        self._transport.set_protocol(stream)
        stream.connection_made(self._transport)
        self._entered(stream, self._transport)
        if rest:
            stream.data_received(rest)

    def _give_to_others(self) -> None:
        protocol = self._others()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        left = memoryview(self._head)
        while left and not self._transport.is_closing():
            room = memoryview(protocol.get_buffer(len(left)))
            taken = min(len(room), len(left))
            room[:taken] = left[:taken]
            protocol.buffer_updated(taken)
            left = left[taken:]
