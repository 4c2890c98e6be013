"""Reads of bounded size from a WebSocket's socket, and who is told the end of each.

picows doubles its buffer whenever a read fills it and never reads less again: a client that floods soon has megabytes
read at a time, tens of thousands of frames (80 ms) in one turn of the loop. SO_RCVBUF does not help: a small window
slows down large messages where the round trip is long.

picows hands over one message at a time and does not say which is the last of a read. `WebSocketStream.gather_texts`
needs to know, so that those of one read go on together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

READ_BYTES = 64 * 1024


class SmallReads(asyncio.BufferedProtocol):
    """Stands in front of a buffered protocol.

    Args:
        read_ended: Called when the protocol has taken what was read.
    """

    def __init__(self, protocol: Any, read_ended: Callable[[], None] | None = None) -> None:
        self._get_buffer = protocol.get_buffer
        self._buffer_updated = protocol.buffer_updated
        self._read_ended = read_ended
        if read_ended is None:
            self.buffer_updated = protocol.buffer_updated  # type: ignore[method-assign]
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> Any:
        """Give a part of the protocol's buffer, or all of a small one."""
        return self._get_buffer(sizehint)[:READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        """Let the protocol take what was read."""
        self._buffer_updated(nbytes)
        if self._read_ended is not None:
            self._read_ended()


def bound_reads(transport: Any, read_ended: Callable[[], None] | None = None) -> None:
    """Bound the reads of a connected transport; `read_ended` is called after each."""
    transport.set_protocol(SmallReads(transport.get_protocol(), read_ended))
