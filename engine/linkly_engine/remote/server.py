"""The worker port: `/` for workers, `/otel` for telemetry, `/ws/channels/{id}` for channel ends (docs/protocol.md 1.1).

The upgrade of a worker is always answered with 101: clients up to 0.19 never try again after anything else. The
exception are web pages: browsers let any page open a WebSocket to any address, so a page needs to be listed. They
always send an `Origin` (WHATWG Fetch 3.2, RFC 6455 4.1), programs send none. The `Host` is not checked:
remote workers and containers use many names.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Collection
from sys import intern
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from picows import (
    WSAutoPingStrategy,
    WSListener,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]

from linkly.errors import ConfigError, ConnectionLost, NotFound
from linkly.origin import read_origin
from linkly.wire.connection import FrameStream
from linkly.wire.messages import MAX_MESSAGE_BYTES
from linkly.wire.native_stream import NativeStream
from linkly.wire.websocket import PING_IDLE_S, WebSocketStream
from linkly_engine import HOST, PORT
from linkly_engine.core.channels import ChannelStore
from linkly_engine.core.pipe import Pipe
from linkly_engine.remote.door import Door
from linkly_engine.remote.peer import Peer
from linkly_engine.remote.peers import Peers
from linkly_engine.remote.small_reads import bound_reads
from linkly_engine.remote.turns import Inbox, Turns
from linkly_engine.telemetry import Telemetry
from linkly_engine.telemetry.origin import holder

if TYPE_CHECKING:
    from picows import WSTransport

log = logging.getLogger("linkly.engine")
_picows_log = logging.getLogger("picows.server")

HANDSHAKE_TIMEOUT_S = 10.0
READ_BUFFER_BYTES = 2048
"""Of an idle connection: with picows' own 16 KiB each of 10,000 workers took 34 KiB, not 20. It grows with the first
read that fills it."""

LOOKS = 10
"""With how many frames of a telemetry socket its worker is looked for."""

READER_LIMIT_BYTES = 1024 * 1024
"""Readers of every Python client close with 1009 above this; binary data has no message bounds to keep."""

_CHANNEL_PATH = "/ws/channels/"
_ORIGINS_TOLD = 100
"""Refused origins that get a line of their own in the log."""


class Remote(Protocol):
    """The engine, as its connections need it."""

    peers: Peers
    channels: ChannelStore
    telemetry: Telemetry
    turns: Turns


class WorkerServer:
    """The listener that remote workers connect to.

    Args:
        port: 0: any free one.
        handshake_timeout_s: How long a client may take to ask for its WebSocket.
        allowed_origins: Web pages that may connect, as browsers write their origins.
    """

    def __init__(
        self,
        engine: Remote,
        *,
        host: str = HOST,
        port: int = PORT,
        handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S,
        allowed_origins: Collection[str] = (),
    ) -> None:
        self._engine = engine
        self._host = host
        self._port = port
        self._handshake_timeout_s = handshake_timeout_s
        self._allowed_origins = frozenset(allowed_origins)
        self._refused_origins: set[str] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port it listens on, also when 0 was asked for."""
        if self._server is None or not self._server.sockets:
            return self._port
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """What a worker connects to."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"ws://{host}:{self.port}"

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: The address cannot be had.
        """
        try:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._enter, self._host, self._port)
        except OSError as error:
            raise ConfigError(
                f"the worker port {self._host}:{self._port} cannot be opened: {_reason_and_way_out(error)}"
            ) from error

    async def stop(self) -> None:
        """Accept nobody any more; connections stay."""
        if self._server is not None:
            self._server.close()

    def _enter(self) -> Door:
        return Door(self._websocket, self._refuse_pages, self._native, self._handshake_timeout_s)

    def _websocket(self) -> Any:
        """Make what `picows.ws_create_server` makes for each connection; it has no public name."""
        return WSProtocol(
            host_port=None,
            ws_path=None,
            is_client_side=False,
            ws_listener_factory=self._accept,
            logger=_picows_log,
            disconnect_on_exception=True,
            websocket_handshake_timeout=self._handshake_timeout_s,
            enable_auto_ping=True,
            auto_ping_idle_timeout=PING_IDLE_S,
            auto_ping_reply_timeout=PING_IDLE_S,
            auto_ping_strategy=WSAutoPingStrategy.PING_WHEN_IDLE,
            enable_auto_pong=True,
            max_frame_size=MAX_MESSAGE_BYTES,
            extra_headers=None,
            read_buffer_init_size=READ_BUFFER_BYTES,
        )

    def _native(self, stream: NativeStream, transport: Any) -> None:
        peer = _worker(self._engine, stream, transport, native=True)
        connection = peer.connection
        stream.receiver = Inbox(
            peer.receiver,
            stream,
            self._engine.turns,
            connection.serving.__len__,
            connection.overtake,
            peer.receiver.frames_received,
            connection.cancelled_ahead.clear,  # whatever was cancelled has been read, or answered before
        )
        peer.start()

    def _refuse_pages(self, origins: list[str]) -> bytes | None:
        for origin in origins:
            if origin not in self._allowed_origins:
                return bytes(self._refuse_page(origin).response.to_bytes())
        return None

    def _accept(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener | None:
        for origin in request.headers.getall("Origin", []):
            if origin not in self._allowed_origins:
                return self._refuse_page(origin)
        try:
            target = urlsplit(request.path.decode("latin-1"))
        except ValueError:
            return None
        channel = self._channel_target(target.path, target.query)
        if channel is not None:
            return self._accept_channel(*channel)
        if target.path == "/otel":
            return _TelemetrySocket(self._engine)
        if target.path not in ("", "/"):
            return None
        return _WorkerSocket(self._engine)

    def _refuse_page(self, given: str) -> WSUpgradeResponseWithListener:
        origin = given.encode("utf-8", "replace").decode()  # undecodable bytes cannot go into the answer
        text = f"web pages of origin `{origin[:255]}` may not connect to this worker port"
        if origin not in self._refused_origins and len(self._refused_origins) < _ORIGINS_TOLD:
            self._refused_origins.add(origin)
            if _can_be_listed(origin):
                log.warning("%s; if this one shall, list it in `allowed_origins` of `iii-worker-manager`", text)
            else:
                log.warning("%s; it names nobody, so no `allowed_origins` of `iii-worker-manager` admit it", text)
        return _refusal(403, f"{text}; the setting is `allowed_origins` of `iii-worker-manager` in config.yaml")

    @staticmethod
    def _channel_target(path: str, query: str) -> tuple[str, str] | None:
        if path.startswith(_CHANNEL_PATH):
            return path[len(_CHANNEL_PATH) :], query
        # Clients whose base URL has a query append the channel's path behind it (docs/protocol.md 1.1).
        _, found, rest = query.partition(_CHANNEL_PATH)
        if not found or path not in ("", "/"):
            return None
        channel_id, _, channel_query = rest.partition("?")
        return channel_id, channel_query

    def _accept_channel(self, channel_id: str, query: str) -> WSListener | WSUpgradeResponseWithListener:
        parameters = parse_qs(query)
        key = parameters.get("key", [""])[0]
        direction = parameters.get("dir", [""])[0]
        if not key or direction not in ("read", "write"):
            return _refusal(400, "a channel needs ?key=...&dir=read or dir=write")
        try:
            pipe = self._engine.channels.open(unquote(channel_id), key, "read" if direction == "read" else "write")
        except NotFound as error:
            return _refusal(404, error.message)
        if pipe is None:
            return _ClosedSocket()
        return _ChannelReaderSocket(pipe) if direction == "read" else _ChannelWriterSocket(pipe)


def _can_be_listed(origin: str) -> bool:
    try:
        read_origin(origin)
    except ValueError:
        return False
    return True


def _refusal(status: int, text: str) -> WSUpgradeResponseWithListener:
    return WSUpgradeResponseWithListener(WSUpgradeResponse.create_error_response(status, text.encode()), None)


def _worker(engine: Remote, stream: FrameStream, transport: Any, *, native: bool) -> Peer:
    """Return the peer of a new connection."""
    address: Any = transport.get_extra_info("peername")
    ip_address = intern(address[0]) if isinstance(address, tuple) else None
    return engine.peers.connected(stream, native=native, ip_address=ip_address)


class _WorkerSocket(WebSocketStream):
    def __init__(self, engine: Remote) -> None:
        super().__init__()
        self._engine = engine

    def on_ws_connected(self, transport: WSTransport) -> None:
        super().on_ws_connected(transport)
        peer = _worker(self._engine, self, transport.underlying_transport, native=False)
        self._record, connection = peer.record, peer.connection
        connection.on_telemetry = self._ingest
        receiver = peer.receiver
        self.receiver = inbox = Inbox(
            receiver, self, self._engine.turns, connection.serving.__len__, many=receiver.texts_received, text=True
        )
        self.gather_texts(inbox.frames_received)
        bound_reads(transport.underlying_transport, self.read_ended)
        peer.start()

    def _ingest(self, frame: bytes) -> None:
        record = self._record
        self._engine.telemetry.ingest(frame, lambda: record.program or record.name, source=record.id)


class _TelemetrySocket(WebSocketStream):
    """Telemetry only: never a worker, nothing is ever sent back; text is ignored (docs/protocol.md 1.1)."""

    def __init__(self, engine: Remote) -> None:
        super().__init__()
        self._engine = engine
        self._name = ""
        self._looks = 0
        self._source = f"telemetry {id(self):x}"
        self.receiver = Inbox(self, self, engine.turns)

    def on_ws_connected(self, transport: WSTransport) -> None:
        super().on_ws_connected(transport)
        bound_reads(transport.underlying_transport)

    def frame_received(self, data: bytes, *, text: bool) -> None:
        if not text:
            self._engine.telemetry.ingest(data, self._worker, source=self._source)

    def _worker(self) -> str:
        """Return the name of the worker whose program has opened this socket, `""` if unknown."""
        if not self._name and self._looks < LOOKS and self.transport is not None:
            self._looks += 1  # the worker itself may not have said who it is yet
            socket = self.transport.underlying_transport
            client: Any = socket.get_extra_info("peername")
            server: Any = socket.get_extra_info("sockname")
            if isinstance(client, tuple) and isinstance(server, tuple) and client[0] == server[0]:
                records = [peer.record for peer in self._engine.peers.values() if peer.record.name]
                names = {record.pid: record.shown_name for record in records if record.pid is not None}
                for arrival in self._engine.peers.arrivals:
                    names.update(dict.fromkeys(arrival.pids, arrival.name))
                pid = holder(client[1], server[1], names)
                self._name = "" if pid is None else names[pid]
        return self._name

    def stream_closed(self, reason: str) -> None:
        pass


class _ClosedSocket(WebSocketStream):
    """The second opener of an end."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        super().on_ws_connected(transport)
        self.close(1008, "this end was opened before")


class _ChannelReaderSocket(WebSocketStream):
    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe = pipe

    def on_ws_connected(self, transport: WSTransport) -> None:
        super().on_ws_connected(transport)
        self._pipe.attach_sink(self._push, lambda: self.close(1000, "end of stream"))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        super().on_ws_disconnected(transport)
        self._pipe.close_reader()

    def pause_writing(self) -> None:
        self._pipe.reader_is_full(True)

    def resume_writing(self) -> None:
        self._pipe.reader_is_full(False)

    def _push(self, message: bytes | str) -> None:
        if isinstance(message, str):
            self.send(message.encode(), text=True)
            return
        for start in range(0, len(message) or 1, READER_LIMIT_BYTES):
            self.send(message[start : start + READER_LIMIT_BYTES], text=False)


class _ChannelWriterSocket(WebSocketStream):
    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe = pipe
        self.receiver = self

    def on_ws_connected(self, transport: WSTransport) -> None:
        super().on_ws_connected(transport)
        self._pipe.on_writable = self.resume_reading
        self._pipe.on_reader_gone = self.abort

    def frame_received(self, data: bytes, *, text: bool) -> None:
        try:
            self._pipe.put(data.decode("utf-8", "replace") if text else data)
        except ConnectionLost:
            self.abort()
            return
        if self._pipe.full:
            self.pause_reading()

    def stream_closed(self, reason: str) -> None:
        self._pipe.close_writer()


def _reason_and_way_out(error: OSError) -> str:
    number = error.errno or 0
    reason = os.strerror(number) if number > 0 else error.strerror or str(error)  # uvloop's text repeats the address
    if number in (errno.EMFILE, errno.ENFILE):
        return f"{reason}; raise the limit (`ulimit -n`, `LimitNOFILE=` of systemd)"
    running = "another engine may be running, or " if number == errno.EADDRINUSE else ""
    address = "`- name: iii-worker-manager` with `config: {host: ..., port: ...}` in config.yaml"
    return f"{reason}; {running}choose another address: {address}"
