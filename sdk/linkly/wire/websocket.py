"""WebSocket frames <-> whole messages: what picows leaves to its user.

picows parses and masks; this module assembles fragments, keeps the size limit, sends close codes and joins
frames into one write (measured: 7.3 -> 1.5 us a message). permessage-deflate is never
negotiated. Rules: RFC 6455 5.4 (fragments), 5.5 (control frames), 7.4.1 (close codes), 8.1 (UTF-8).
"""

from __future__ import annotations

import asyncio
import logging
import os
import struct
from collections.abc import Callable

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from linkly.wire.connection import FrameReceiver
from linkly.wire.messages import MAX_MESSAGE_BYTES

log = logging.getLogger("linkly.websocket")

PING_IDLE_S = 20.0
"""A silent peer is pinged after this time, and cut when it does not answer within the same time again."""

FLUSH_FRAMES = 16
"""So many frames leave together, the last of a turn with the turn's end. If all of a turn left together, caller, engine
and callee would work one after the other instead of side by side: 19.0k calls/s against 30.0k."""

_FLUSH_PARTS = 2 * FLUSH_FRAMES
"""Of each frame: head and content."""

_TEXT, _BINARY = WSMsgType.TEXT, WSMsgType.BINARY
_MASK_LIMIT = 4096
"""Above this picows' vectorised masking beats one big integer."""

_INTERNAL_ERROR = 1011
"""RFC 6455 7.4.1."""

_MASKS_BYTES = 4096
"""Random bytes for masks are asked for in such portions: one `os.urandom` a frame is a fifth of a caller's time."""


class WebSocketStream(WSListener):
    """A `FrameStream` over one picows transport.

    Args:
        receiver: Takes the messages; may be set later, before the first message arrives.
        client: Whether this side masks its frames.
    """

    def __init__(self, receiver: FrameReceiver | None = None, *, client: bool = False) -> None:
        super().__init__()
        self.receiver = receiver
        self.transport: WSTransport | None = None
        self._client = client
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._flush_scheduled = False
        self._loop = asyncio.get_running_loop()
        self._take_texts: Callable[[list[bytes]], None] | None = None
        self._texts: list[bytes] = []
        self._masks = b""
        self._masks_used = 0
        self._fragments: list[bytes] = []
        self._fragments_bytes = 0
        self._fragments_text = False
        self._reason = "connection lost"
        self._reading_paused = False
        self._ended: asyncio.Event | None = None
        self.blocked = False

    # --- towards the network -------------------------------------------------------------------------------

    def send(self, data: bytes, *, text: bool) -> None:
        """Queue one message; it leaves with all others of this turn of the loop."""
        transport = self.transport
        if transport is None or transport.is_disconnected:
            return
        if self._client and len(data) > _MASK_LIMIT:
            self._flush()
            transport.send(WSMsgType.TEXT if text else WSMsgType.BINARY, data)
            return
        outgoing = self._outgoing
        outgoing.append(_header(len(data), 0x81 if text else 0x82, 0x80 if self._client else 0))
        outgoing.append(data)
        self._outgoing_bytes += len(data)
        if len(outgoing) >= _FLUSH_PARTS:
            self._flush()
        elif not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._end_turn)

    def send_many(self, frames: list[bytes], *, text: bool) -> None:
        """Queue messages; they leave with all others of this turn of the loop."""
        transport = self.transport
        if transport is None or transport.is_disconnected:
            return
        if self._client:
            for data in frames:
                self.send(data, text=text)
            return
        outgoing, first = self._outgoing, 0x81 if text else 0x82
        for data in frames:
            size = len(data)
            outgoing.append(_medium_header(first, 126, size) if 125 < size < 65536 else _header(size, first, 0))
            outgoing.append(data)
            self._outgoing_bytes += size
        if len(outgoing) >= _FLUSH_PARTS:
            self._flush()
        elif not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._end_turn)

    def _next_mask(self) -> bytes:
        used = self._masks_used
        if used >= len(self._masks):
            self._masks, used = os.urandom(_MASKS_BYTES), 0
        self._masks_used = used + 4
        return self._masks[used : used + 4]

    def buffered_bytes(self) -> int:
        """Count what the socket has not taken yet."""
        if self.transport is None or self.transport.is_disconnected:
            return 0
        return self._outgoing_bytes + self.transport.underlying_transport.get_write_buffer_size()

    def close(self, code: int, reason: str) -> None:
        """Send what is queued and a close frame; the socket ends when the peer answers or the transport gives up."""
        if self.transport is None or self.transport.is_disconnected:
            return
        self._flush()
        self._reason = f"closed with {code} {reason}".strip()
        self.transport.send_close(WSCloseCode(code), reason.encode())
        self.transport.disconnect()

    def abort(self) -> None:
        """Reset the TCP connection."""
        if self.transport is not None and not self.transport.is_disconnected:
            self._outgoing.clear()
            self._outgoing_bytes = 0
            self.transport.disconnect(graceful=False)

    async def ended(self) -> None:
        """Wait until the socket is gone: what was queued before `close` is sent, or lost with the network."""
        if self.transport is not None:
            self._ended = self._ended or asyncio.Event()
            await self._ended.wait()

    def pause_writing(self) -> None:
        """Called by picows when the socket takes no more."""
        self.blocked = True

    def resume_writing(self) -> None:
        """Called by picows when the socket has taken enough."""
        self.blocked = False

    def pause_reading(self) -> None:
        """Take no more from the socket until `resume_reading`."""
        if self.transport is not None and not self._reading_paused and not self.transport.is_disconnected:
            self._reading_paused = True
            self.transport.underlying_transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on after `pause_reading`."""
        if self.transport is not None and self._reading_paused and not self.transport.is_disconnected:
            self._reading_paused = False
            self.transport.underlying_transport.resume_reading()

    def _end_turn(self) -> None:
        self._flush_scheduled = False
        self._flush()

    def _flush(self) -> None:
        if self._outgoing and self.transport is not None and not self.transport.is_disconnected:
            data = self._masked() if self._client else b"".join(self._outgoing)
            self._outgoing.clear()
            self._outgoing_bytes = 0
            self.transport.underlying_transport.write(data)

    def _masked(self) -> bytes:
        """Return all outgoing frames, masked together: 0.3 us a frame of 200 bytes, one by one 0.6."""
        plain: list[bytes] = []
        pads: list[bytes] = []
        parts = iter(self._outgoing)
        for header, data in zip(parts, parts, strict=True):
            key, length = self._next_mask(), len(data)
            plain += (header, key, data)
            pads += (bytes(len(header) + len(key)), (key * (length // 4 + 1))[:length])
        frames = b"".join(plain)
        pad = int.from_bytes(b"".join(pads), "little")
        return (int.from_bytes(frames, "little") ^ pad).to_bytes(len(frames), "little")

    # --- from the network ----------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Called by picows after the handshake."""
        self.transport = transport

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Called by picows when the socket is gone."""
        self.read_ended()
        self.transport = self._take_texts = None  # who takes them knows this object
        if self._ended is not None:
            self._ended.set()
        self._outgoing.clear()
        self._outgoing_bytes = 0
        if self.receiver is not None:
            receiver, self.receiver = self.receiver, None
            receiver.stream_closed(self._reason)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Called by picows for every frame; pings are answered by picows itself."""
        kind = frame.msg_type
        if kind is _TEXT or kind is _BINARY:
            if self._fragments:
                self._fail(1002, "a new message began inside a fragmented one")
            elif frame.rsv1 or frame.rsv2 or frame.rsv3:
                self._fail(1002, "a reserved bit is set and no extension was negotiated")
            elif not frame.fin:
                self._fragments_text = kind is _TEXT
                self._add_fragment(frame.get_payload_as_bytes())
            elif kind is _TEXT and self._take_texts is not None:
                self._texts.append(frame.get_payload_as_bytes())
            else:
                self._hand_over(frame.get_payload_as_bytes(), text=kind is _TEXT)
        elif kind is WSMsgType.CONTINUATION:
            if not self._fragments:
                self._fail(1002, "a continuation of nothing")
                return
            self._add_fragment(frame.get_payload_as_bytes())
            if frame.fin and self._fragments:
                data = b"".join(self._fragments)
                self._fragments, self._fragments_bytes = [], 0
                self._hand_over(data, text=self._fragments_text)
        elif kind is WSMsgType.CLOSE:
            self.read_ended()
            code = frame.get_close_code()
            self._reason = f"the peer closed with {getattr(code, 'value', code)}"
            transport.send_close(code if code is not WSCloseCode.NO_INFO else WSCloseCode.OK)
            transport.disconnect()

    def gather_texts(self, take: Callable[[list[bytes]], None]) -> None:
        """Give text messages to `take`, those of one read together; `read_ended` has to be called after every read."""
        self._take_texts = take

    def read_ended(self) -> None:
        """Hand over the text messages of this read; a fault in who takes them closes the WebSocket."""
        if self._texts and self._take_texts is not None:
            texts, self._texts = self._texts, []
            try:
                self._take_texts(texts)
            except Exception:
                log.exception("messages could not be handled; their WebSocket is closed")
                self.close(_INTERNAL_ERROR, "internal error")

    def _hand_over(self, data: bytes, *, text: bool) -> None:
        self.read_ended()
        if self.receiver is not None:
            self.receiver.frame_received(data, text=text)

    def _add_fragment(self, data: bytes) -> None:
        self._fragments.append(data)
        self._fragments_bytes += len(data)
        if self._fragments_bytes > MAX_MESSAGE_BYTES:
            self._fragments, self._fragments_bytes = [], 0
            self._fail(1009, f"a message may have {MAX_MESSAGE_BYTES} bytes")

    def _fail(self, code: int, reason: str) -> None:
        self.read_ended()
        log.warning("closing a WebSocket with %d: %s", code, reason)
        self.close(code, reason)


_medium_header = struct.Struct(">BBH").pack
_large_header = struct.Struct(">BBQ").pack


def _header(length: int, first: int, bit: int) -> bytes:
    """Return the beginning of a frame (RFC 6455 5.2); `bit` is 0x80 if it is masked."""
    if length < 126:
        return bytes((first, bit | length))
    if length < 65536:
        return _medium_header(first, bit | 126, length)
    return _large_header(first, bit | 127, length)
