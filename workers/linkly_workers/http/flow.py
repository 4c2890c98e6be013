"""Reading that pauses for the parser, while the socket is still watched: a client that hangs up is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl

HELD_BYTES = 65_536


class ReadAhead(FlowControl):
    """Keeps up to `HELD_BYTES` that arrive during a pause; beyond that the socket is left unread."""

    def __init__(self, transport: asyncio.Transport, feed: Callable[[bytes], None]) -> None:
        super().__init__(transport)
        self._feed = feed
        self._held = bytearray()
        self._unread = False

    def pause_reading(self) -> None:
        """Begin a pause."""
        self.read_paused = True

    def hold(self, data: bytes) -> None:
        """Keep bytes that arrived during a pause."""
        self._held += data
        if len(self._held) > HELD_BYTES and not self._unread:
            self._unread = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """End the pause: feed the kept bytes, and read on."""
        if not self.read_paused or self._transport.is_closing():
            return
        self.read_paused = False
        if self._unread:
            self._unread = False
            self._transport.resume_reading()
        if self._held:
            data = bytes(self._held)
            self._held.clear()
            self._feed(data)
