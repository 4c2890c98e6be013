"""Channels: a byte stream between two workers, by reference inside a payload (docs/protocol.md 5).

A reference travels in any payload. Each end can be opened once. Binary messages are data, text messages are
out of band; both arrive in the order they were sent. What was written before the reader came is kept, up to
the channel's buffer, then the writer waits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal, Protocol

import msgspec

CHUNK_BYTES = 65_536
"""Writers split binary data at this size, as the published SDKs do."""


class ChannelRef(msgspec.Struct, frozen=True):
    """One end of a channel, as it travels in a payload."""

    channel_id: str
    access_key: str
    direction: Literal["read", "write"]


class Channel(msgspec.Struct, frozen=True):
    """Both ends of a new channel."""

    writer: ChannelRef
    reader: ChannelRef


class ChannelReader(Protocol):
    """The reading end. Iterating it gives `bytes` (data) and `str` (out of band) until the writer closed."""

    @property
    def writer_attached(self) -> bool:
        """Whether the writing end was opened; `True` too where this end cannot know."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes | str]:
        """Give every message in order."""
        ...

    async def receive(self) -> bytes | str | None:
        """Return the next message, `None` at the end."""
        ...

    async def read_all(self) -> bytes:
        """Return all data up to the end; out-of-band messages are dropped."""
        ...

    async def close(self) -> None:
        """Stop reading; the writer's next write fails."""
        ...


class ChannelWriter(Protocol):
    """The writing end."""

    async def write(self, data: bytes) -> None:
        """Send data; waits while the channel's buffer is full.

        Raises:
            ConnectionLost: The reader is gone.
        """
        ...

    async def send_text(self, text: str) -> None:
        """Send an out-of-band message."""
        ...

    async def reader_gone(self) -> None:
        """Return when nobody will read any more."""
        ...

    async def close(self) -> None:
        """End the stream; the reader gets everything written so far, then its end."""
        ...
