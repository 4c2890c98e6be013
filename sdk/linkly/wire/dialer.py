"""How a client reaches an engine: over its worker port, for the worker connection and for channels.

A worker connection is native frames after an HTTP upgrade; JSON over a WebSocket where that is not to be had: an engine
that is not ours, or a proxy in between. Channels are WebSockets.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol
from urllib.parse import quote, urlsplit, urlunsplit

from picows import WSError, WSListener, WSTransport, WSUpgradeRequest, WSUpgradeResponse, ws_connect

from linkly.channel import CHUNK_BYTES, ChannelReader, ChannelRef, ChannelWriter
from linkly.errors import ConnectionLost, NotFound
from linkly.wire.connection import BUSY_BYTES, FramesReceiver, FrameStream
from linkly.wire.messages import MAX_MESSAGE_BYTES
from linkly.wire.native_upgrade import UpgradeRefused, upgrade
from linkly.wire.websocket import PING_IDLE_S, WebSocketStream

Attach = Callable[[FrameStream, bool], FramesReceiver]
"""Takes a new stream and whether it speaks the native framing; answers who takes its messages."""

OPEN_TIMEOUT_S = 10.0

log = logging.getLogger("linkly.client")


class Dialer(Protocol):
    """A way to an engine."""

    async def connect(self, attach: Attach) -> None:
        """Open the worker connection and hand its stream to `attach` before the first message arrives.

        Raises:
            OSError: Nobody listens at that address.
            ConnectionLost: Somebody does, but it is no engine.
        """
        ...

    async def open_reader(self, reference: ChannelRef) -> ChannelReader:
        """Open the reading end of a channel."""
        ...

    async def open_writer(self, reference: ChannelRef) -> ChannelWriter:
        """Open the writing end of a channel."""
        ...


class PortDialer:
    """Over the worker port at `url`.

    Args:
        url: `ws://` or `wss://`; a query is kept.
        headers: Added to every handshake.
        native: Ask for native frames; JSON is spoken if the engine does not take them.
    """

    def __init__(self, url: str, *, headers: Mapping[str, str] | None = None, native: bool = True) -> None:
        self._url = url
        self._headers = dict(headers or {})
        self._native = native

    async def connect(self, attach: Attach) -> None:  # noqa: D102
        if self._native:
            try:
                await upgrade(self._url, self._headers, OPEN_TIMEOUT_S, lambda stream: attach(stream, True))
            except UpgradeRefused as refused:
                log.info("%s; it is asked for JSON instead", refused)
            else:
                return

        def listener(request: WSUpgradeRequest, response: WSUpgradeResponse) -> WSListener:
            del request, response
            stream = WebSocketStream(client=True)
            stream.receiver = attach(stream, False)
            return stream

        await _open(self._url, listener, self._headers)

    async def open_reader(self, reference: ChannelRef) -> ChannelReader:  # noqa: D102
        reader = _ChannelReader()
        await self._open_channel(reference, "read", reader)
        return reader

    async def open_writer(self, reference: ChannelRef) -> ChannelWriter:  # noqa: D102
        writer = _ChannelWriter()
        await self._open_channel(reference, "write", writer)
        return writer

    async def _open_channel(self, reference: ChannelRef, direction: str, listener: WSListener) -> None:
        scheme, netloc, path, query, _ = urlsplit(self._url)
        path = f"{path.rstrip('/')}/ws/channels/{quote(reference.channel_id, safe='')}"
        own = f"key={quote(reference.access_key, safe='')}&dir={direction}"
        url = urlunsplit((scheme, netloc, path, f"{query}&{own}" if query else own, ""))
        try:
            await _open(url, lambda request, response: listener, self._headers)
        except ConnectionLost as error:
            raise NotFound(f"channel `{reference.channel_id}` cannot be opened: {error.message}") from error


async def _open(
    url: str,
    factory: Callable[[WSUpgradeRequest, WSUpgradeResponse], WSListener],
    headers: Mapping[str, str],
) -> None:
    try:
        await ws_connect(
            factory,
            url,
            extra_headers=headers,
            websocket_handshake_timeout=OPEN_TIMEOUT_S,
            enable_auto_ping=True,
            auto_ping_idle_timeout=PING_IDLE_S,
            auto_ping_reply_timeout=PING_IDLE_S,
            max_frame_size=MAX_MESSAGE_BYTES,
            use_aiofastnet=False,
        )
    except WSError as error:
        raise ConnectionLost(f"{url} did not accept a WebSocket: {error}") from error
    except TimeoutError as error:
        raise ConnectionLost(f"{url} did not answer the WebSocket handshake in {OPEN_TIMEOUT_S:g} s") from error


class _ChannelReader(WebSocketStream):
    """Reading end over a WebSocket; stops taking from the socket while its program does not keep up."""

    def __init__(self) -> None:
        super().__init__(client=True)
        self.receiver = self
        self._messages: deque[bytes | str] = deque()
        self._bytes = 0
        self._at_end = False
        self._arrived = asyncio.Event()

    @property
    def writer_attached(self) -> bool:
        """Unknown at this end of a socket."""
        return True

    def frame_received(self, data: bytes, *, text: bool) -> None:
        self._messages.append(data.decode("utf-8", "replace") if text else data)
        self._bytes += len(data)
        self._arrived.set()
        if self._bytes > BUSY_BYTES:
            self.pause_reading()

    def stream_closed(self, reason: str) -> None:
        self._at_end = True
        self._arrived.set()

    async def __aiter__(self) -> AsyncIterator[bytes | str]:
        while (message := await self.receive()) is not None:
            yield message

    async def receive(self) -> bytes | str | None:
        """Return the next message, `None` at the end."""
        while not self._messages:
            if self._at_end:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        message = self._messages.popleft()
        self._bytes -= len(message)
        if self._bytes <= BUSY_BYTES:
            self.resume_reading()
        return message

    async def read_all(self) -> bytes:
        """Return all data up to the end."""
        return b"".join([message async for message in self if isinstance(message, bytes)])

    async def close(self) -> None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        """Stop reading."""
        self.abort()


class _ChannelWriter(WebSocketStream):
    """Writing end over a WebSocket; waits while the socket does not take more."""

    def __init__(self) -> None:
        super().__init__(client=True)
        self._writable = asyncio.Event()
        self._writable.set()
        self._gone = asyncio.Event()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writable.clear()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._writable.set()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        super().on_ws_disconnected(transport)
        self._writable.set()
        self._gone.set()

    async def write(self, data: bytes) -> None:
        """Send data in chunks."""
        for start in range(0, len(data), CHUNK_BYTES):
            await self._put(data[start : start + CHUNK_BYTES], text=False)

    async def send_text(self, text: str) -> None:
        """Send an out-of-band message."""
        await self._put(text.encode(), text=True)

    async def reader_gone(self) -> None:
        """Return when the socket has ended: the engine ends it when the reader goes."""
        await self._gone.wait()

    async def close(self) -> None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        """End the stream."""
        super().close(1000, "stream_complete")

    async def _put(self, data: bytes, *, text: bool) -> None:
        await self._writable.wait()
        if self.transport is None or self.transport.is_disconnected:
            raise ConnectionLost("the reader of this channel is gone")
        self.send(data, text=text)
        await asyncio.sleep(0)
