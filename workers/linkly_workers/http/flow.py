"""Reading and writing that pause, on one connection.

Reading pauses for the parser while the socket is still watched, so that a client that hangs up is noticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from linkly_workers.http.writes import GatheringTransport

HELD_BYTES = 65_536


class Flow:
    """What may pass now.

    Beyond `HELD_BYTES` that arrive during a pause the socket is left unread.

    Attributes:
        paused: Whether what arrives is held.
        is_writable: Whether the client reads what it is sent.
    """

    def __init__(self, transport: GatheringTransport, feed: Callable[[bytes], None]) -> None:
        self._transport = transport
        self._feed = feed
        self._held = bytearray()
        self._unread = False
        self._writable: asyncio.Future[None] | None = None
        self.paused = False
        self.is_writable = True

    def pause_reading(self) -> None:
        """Begin a pause."""
        self.paused = True

    def hold(self, data: bytes) -> None:
        """Keep bytes that arrived during a pause."""
        self._held += data
        if len(self._held) > HELD_BYTES and not self._unread:
            self._unread = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """End the pause: feed the kept bytes, and read on."""
        if not self.paused or self._transport.is_closing():
            return
        self.paused = False
        if self._unread:
            self._unread = False
            self._transport.resume_reading()
        if self._held:
            data = bytes(self._held)
            self._held.clear()
            self._feed(data)

    def pause_writing(self) -> None:
        """Let writers wait: the client reads too slowly."""
        self.is_writable = False

    def resume_writing(self) -> None:
        """Let them go on."""
        self.is_writable = True
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def end(self) -> None:
        """The connection has ended: nothing is fed any more, and writers go on, who find that out."""
        self._feed = _drop  # it knows the connection, and the connection this object
        self._held.clear()
        self.resume_writing()

    async def writable(self) -> None:
        """Wait while the client reads too slowly."""
        if not self.is_writable:
            self._writable = asyncio.get_running_loop().create_future()
            await self._writable


def _drop(data: bytes) -> None:
    """Take what nobody reads."""
