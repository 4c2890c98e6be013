"""One request and its response, on a connection (RFC 9112).

A response is whole, `answer`, or comes in parts: `start`, `send_part`, `end`. What is sent to a client that has gone is
dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

import msgspec

from linkly_workers.http.flow import Flow
from linkly_workers.http.response import WITHOUT_BODY, Headers, Reply
from linkly_workers.http.status_lines import StatusLines
from linkly_workers.http.writes import GatheringTransport

BACKLOG_BYTES = 65_536
"""How much of a body may wait for its reader before the connection reads no more."""


class ClientGone(Exception):
    """The connection ended before the body did: no response can be sent."""


class Carrier(Protocol):
    """The connection, as its exchanges see it.

    Attributes:
        origin: Where the calls of its requests enter.
        from_this_machine: The client is a program on this machine, a browser perhaps, and no trusted proxy.
        body_until: The clock's time until which a body that is being waited for has to be complete.
    """

    transport: GatheringTransport
    flow: Flow
    lines: StatusLines
    origin: str
    from_this_machine: bool
    body_until: float | None

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Serve the request that is being answered; it is cancelled when the client has gone."""
        ...

    def changed(self) -> None:
        """Tell whoever waits that a response begins to be streamed."""
        ...

    def answered(self) -> None:
        """Go on: the response is complete."""
        ...


class Exchange(msgspec.Struct, eq=False):  # made in 0.1 us, a class with slots in 0.4
    """One request and its response.

    Attributes:
        connection: What it came on.
        method: Upper case.
        path: What was asked for, not yet percent-decoded.
        query: What stands behind `?`, not decoded.
        fields: All header lines, their names in lower case.
        headers: The last value of each name (`header_map`).
        client_host: The client's address, as a trusted proxy says.
        scheme: `http` or `https`, as a trusted proxy says.
        keep_alive: Whether the connection goes on after the response.
        has_body: Whether the request has a body; one in chunks may be empty.
        http_1_0: Whether the client speaks HTTP/1.0.
        cors: Header lines that every response to this request has.
        whole: Whether all of the request has arrived.
        started: Whether a response has begun.
        complete: Whether it has ended.
        gone: Whether nobody reads it.
    """

    connection: Carrier
    method: str
    path: str
    query: str
    fields: Headers
    headers: dict[str, str]
    client_host: str
    scheme: str
    keep_alive: bool
    has_body: bool = False
    http_1_0: bool = False
    cors: bytes = b""
    whole: bool = False
    started: bool = False
    complete: bool = False
    gone: bool = False
    _bodied: bool = False
    _chunked: bool = False
    _continued: bool = False
    _body: bytes = b""
    _arrived: asyncio.Future[None] | None = None

    def __repr__(self) -> str:  # without headers and body, which hold secrets: a log line may quote this
        return f"Exchange({self.method} {self.path})"

    # --- the request's body ------------------------------------------------------------------------------------

    def take_part(self, data: bytes) -> None:
        """Keep a part of the body until it is read; one that nobody will read is dropped."""
        if not self.complete:
            self._body += data
            if len(self._body) > BACKLOG_BYTES:
                self.connection.flow.pause_reading()
            self._wake()

    def take_end(self) -> None:
        """The request is complete."""
        self.whole = True
        if self._arrived is not None:
            self._wake()

    def lose(self) -> None:
        """Nobody reads the response any more."""
        self.gone = True
        self._wake()

    async def next_part(self) -> bytes:
        """Return what has arrived of the body since the last time; nothing at its end.

        Raises:
            ClientGone: The connection ended before.
        """
        if not self._continued:
            self._continued = True
            # From HTTP/1.0 it is to be ignored (RFC 9110 10.1.1).
            if not self.http_1_0 and self.headers.get("expect", "").lower() == "100-continue":
                self.connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.connection.flow.resume_reading()
        while not self._body and not self.whole and not self.gone:
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        if self.gone:
            raise ClientGone
        part, self._body = self._body, b""
        return part

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    # --- the response ------------------------------------------------------------------------------------------

    def answer(self, reply: Reply) -> None:
        """Send a whole response, to HEAD without its body."""
        status, body = reply.status, reply.body
        head = [self.connection.lines[status], reply.lines, self.cors]
        if reply.headers:
            head += self._lines(reply.headers)
        if not self.keep_alive:
            head.append(b"connection: close\r\n")
        head.append(b"\r\n" if status in (204, 304) else b"content-length: %d\r\n\r\n" % len(body))
        if self.method != "HEAD":
            head.append(body)
        self.started = True
        if not self.gone:
            self.connection.transport.write(b"".join(head))
        self._complete()

    async def start(self, status: int, headers: Headers) -> None:
        """Begin a response in parts."""
        self.started = True
        head = [self.connection.lines[status], self.cors, *self._lines(headers)]
        if not self.keep_alive:
            head.append(b"connection: close\r\n")
        if status == 205:
            head.append(b"content-length: 0\r\n")
        elif self.method != "HEAD" and status not in WITHOUT_BODY:
            # Without chunks, which HTTP/1.0 does not know, the response's end is the connection's (RFC 9112 6.3).
            self._bodied, self._chunked = True, not self.http_1_0
            if self._chunked:
                head.append(b"transfer-encoding: chunked\r\n")
        head.append(b"\r\n")
        await self.connection.flow.writable()
        self._write(b"".join(head))
        self.connection.changed()

    async def send_part(self, data: bytes) -> bool:
        """Send a part, when the client has read enough of those before; return whether it wants more."""
        if not self._bodied:
            return False
        if data:
            await self.connection.flow.writable()
            self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        return True

    def end(self) -> None:
        """End a response in parts."""
        if self._chunked:
            self._write(b"0\r\n\r\n")
        self._complete()

    def cut_off(self) -> None:
        """Close in the middle of a response, so that the client does not take a part for the whole."""
        self.gone = True
        self.connection.transport.close()

    def _lines(self, headers: Headers) -> list[bytes]:
        """Return header lines; `connection` is none of them, it ends the connection after the response."""
        lines: list[bytes] = []
        for name, value in headers:
            if name == b"connection":
                self.keep_alive = False
            else:
                lines.append(b"%b: %b\r\n" % (name, value))
        return lines

    def _write(self, data: bytes) -> None:
        if not self.gone:
            self.connection.transport.write(data)

    def _complete(self) -> None:
        self.complete = True
        if not self.keep_alive:
            self.connection.transport.close()
        self.connection.answered()
