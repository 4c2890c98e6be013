"""The client's side of the HTTP upgrade after which native frames are spoken (RFC 9110 7.8, docs/protocol.md 2.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from linkly.errors import LinklyError
from linkly.wire.connection import FramesReceiver
from linkly.wire.native_frames import NATIVE_UPGRADE
from linkly.wire.native_stream import NativeStream

HEAD_LIMIT_BYTES = 16 * 1024
"""Of the answer's head."""

_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}


class UpgradeRefused(LinklyError):
    """Whoever listens speaks HTTP, but not native frames."""

    code = "upgrade_refused"


async def upgrade(
    url: str,
    headers: Mapping[str, str],
    timeout_s: float,
    attach: Callable[[NativeStream], FramesReceiver],
) -> None:
    """Open a native stream; `attach` takes it and answers who takes its frames, before the first one arrives.

    Raises:
        OSError: Nobody listens at that address.
        UpgradeRefused: It was refused, or not answered in time.
    """
    scheme, netloc, path, query, _ = urlsplit(url)
    host = netloc.rpartition("@")[2]
    parts = urlsplit(f"//{host}")
    lines = {"Host": host, "Upgrade": NATIVE_UPGRADE, "Connection": "Upgrade"}
    lines.update((name, value) for name, value in headers.items() if name.lower() not in ("upgrade", "connection"))
    target = (path or "/") + (f"?{query}" if query else "")
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[None] = loop.create_future()
    transport, _ = await loop.create_connection(
        lambda: _Asking(f"GET {target} HTTP/1.1\r\n{head}\r\n".encode(), url, attach, answered),
        parts.hostname or "localhost",
        parts.port or _PORTS.get(scheme, 80),
        ssl=True if scheme in ("wss", "https") else None,
    )
    try:
        async with asyncio.timeout(timeout_s):
            await answered
    except TimeoutError as error:
        transport.abort()
        raise UpgradeRefused(f"{url} did not answer a request for native frames in {timeout_s:g} s") from error
    except BaseException:
        transport.abort()
        raise


class _Asking(asyncio.Protocol):
    """Asks, and makes way for the stream."""

    def __init__(
        self,
        request: bytes,
        url: str,
        attach: Callable[[NativeStream], FramesReceiver],
        answered: asyncio.Future[None],
    ) -> None:
        self._request = request
        self._url = url
        self._attach = attach
        self._answered = answered
        self._head = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._head += data
        head, complete, rest = self._head.partition(b"\r\n\r\n")
        if not complete and len(head) < HEAD_LIMIT_BYTES:
            return
        status, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if status.split(" ")[1:2] != ["101"] or fields.get("upgrade", "").lower() != NATIVE_UPGRADE:
            self._refused(f"answered `{status[:100]}`")
            return
        stream = NativeStream()
        stream.receiver = self._attach(stream)
        self._transport.set_protocol(stream)
        stream.connection_made(self._transport)
        if not self._answered.done():
            self._answered.set_result(None)
        if rest:
            stream.data_received(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        self._refused("closed the connection")

    def _refused(self, how: str) -> None:
        if not self._answered.done():
            self._answered.set_exception(UpgradeRefused(f"asked for native frames, {self._url} {how}"))
        self._transport.abort()
