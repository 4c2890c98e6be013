"""The ends of a channel inside the engine's process (`linkly.channel`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from linkly.channel import CHUNK_BYTES, ChannelRef
from linkly.errors import InvalidArguments
from linkly_engine.core.channels import ChannelStore, Direction
from linkly_engine.core.pipe import Pipe


class LocalReader:
    """Reading end inside the engine's process."""

    def __init__(self, channels: ChannelStore, reference: ChannelRef) -> None:
        self._pipe = _opened(channels, reference, "read")
        self._arrived = asyncio.Event()
        self._pipe.on_readable = self._arrived.set

    @property
    def writer_attached(self) -> bool:
        """Whether the writing end was opened."""
        return "write" in self._pipe.opened

    def __aiter__(self) -> AsyncIterator[bytes | str]:
        return self._messages()

    async def _messages(self) -> AsyncIterator[bytes | str]:
        while (message := await self.receive()) is not None:
            yield message

    async def receive(self) -> bytes | str | None:
        """Return the next message, `None` at the end."""
        while True:
            message = self._pipe.take()
            if message is not None:
                return message
            if self._pipe.writer_closed:
                self._pipe.close_reader()
                return None
            self._arrived.clear()
            await self._arrived.wait()

    async def read_all(self) -> bytes:
        """Return all data up to the end."""
        return b"".join([message async for message in self if isinstance(message, bytes)])

    async def close(self) -> None:
        """Stop reading."""
        self._pipe.close_reader()


class LocalWriter:
    """Writing end inside the engine's process."""

    def __init__(self, channels: ChannelStore, reference: ChannelRef) -> None:
        self._pipe = _opened(channels, reference, "write")
        self._writable = asyncio.Event()
        self._pipe.on_writable = self._writable.set
        self._gone = asyncio.Event()
        self._pipe.on_reader_gone = self._gone.set
        if self._pipe.reader_gone:
            self._gone.set()

    async def write(self, data: bytes) -> None:
        """Send data in chunks; waits while the buffer is full."""
        for start in range(0, len(data), CHUNK_BYTES):
            await self._put(data[start : start + CHUNK_BYTES])

    async def send_text(self, text: str) -> None:
        """Send an out-of-band message."""
        await self._put(text)

    async def reader_gone(self) -> None:
        """Return when the reader is gone."""
        await self._gone.wait()

    async def close(self) -> None:
        """End the stream."""
        self._pipe.close_writer()

    async def _put(self, message: bytes | str) -> None:
        while self._pipe.at_limit:
            self._writable.clear()
            await self._writable.wait()
        self._pipe.put(message)


def _opened(channels: ChannelStore, reference: ChannelRef, direction: Direction) -> Pipe:
    if reference.direction != direction:
        raise InvalidArguments(f"this reference is for `{reference.direction}`, not for `{direction}`")
    pipe = channels.open(reference.channel_id, reference.access_key, direction)
    if pipe is None:
        raise InvalidArguments(f"the {direction} end of channel `{reference.channel_id}` was opened before")
    return pipe
