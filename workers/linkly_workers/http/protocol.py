"""The connection: what a client may take, in bytes and in time, before a request exists (RFC 9112).

uvicorn's protocol parses and writes; this adds limits for the request's head, and time-outs that one sweeper looks
after, because a timer for each request costs more than the request line. It also says when the client has gone, reads
the body of a request whose Upgrade is ignored, and leaves a chunked body's trailers out: they are no headers.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import Any

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from linkly.clock import Clock, TimerHandle
from linkly.origin import is_loopback
from linkly_workers.http.flow import ReadAhead
from linkly_workers.http.head import Refused, check_codings, check_hosts, check_version, local_target
from linkly_workers.http.response import JSON_TYPE, Reply, error_reply

SWEEP_S = 1.0
_SEPARATORS = 4  # `: ` and the line's end
_FRAMING = (b"content-length", b"transfer-encoding")

for _status in range(600, 1000):  # uvicorn knows the registered classes only; a function may answer any
    STATUS_LINE.setdefault(_status, b"HTTP/1.1 %d \r\n" % _status)


class ConnectionLimits(msgspec.Struct, frozen=True):
    """What a client may take.

    Attributes:
        head_bytes: Request line and headers.
        target_bytes: What stands between method and version.
        head_s: From the connection, or a head's first byte, to the end of the head.
        body_s: Without any byte of a body that is being waited for.
        idle_s: Between two requests.
    """

    head_bytes: int
    target_bytes: int
    head_s: float
    body_s: float
    idle_s: float


class Connections:
    """All connections of a gateway: makes their protocols and looks after their time-outs.

    Args:
        clock: What time-outs go by.
        limits: What a client may take.
        proxies: Addresses and networks of proxies that are trusted.
    """

    def __init__(self, clock: Clock, limits: ConnectionLimits, proxies: Sequence[str] = ()) -> None:
        self.clock = clock
        self.limits = limits
        self._proxies = [ipaddress.ip_network(proxy) for proxy in proxies]
        self.open: set[GatewayProtocol] = set()
        self._timer: TimerHandle | None = None

    def __call__(self, **uvicorn: Any) -> GatewayProtocol:
        """Make the protocol of a new connection: uvicorn's `http=`."""
        return GatewayProtocol(self, **uvicorn)

    def come_from_this_machine(self, address: str) -> bool:
        """Tell whether a peer is a program on this machine that is no trusted proxy."""
        return is_loopback(address) and not any(ipaddress.ip_address(address) in proxy for proxy in self._proxies)

    def start(self) -> None:
        """Look after time-outs from now on."""
        self._timer = self.clock.call_later(SWEEP_S, self._sweep)

    def stop(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self) -> None:
        now = self.clock.monotonic()
        for connection in list(self.open):
            connection.check_time(now)
        self._timer = self.clock.call_later(SWEEP_S, self._sweep)


class GatewayProtocol(HttpToolsProtocol):
    """One connection.

    Attributes:
        serving: The task that serves a request now; it is cancelled when the client has gone.
        lost: The client has gone.
        from_this_machine: The client is a program on this machine, a browser perhaps, and no trusted proxy.
        origin: Where the calls of its requests enter.
        body_until: The clock's time until which a body that is being waited for has to be complete.
    """

    def __init__(self, connections: Connections, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self._parser: Any = self.parser  # whose types leave out what it can do
        self._connections = connections
        self._limits = connections.limits
        self._monotonic = connections.clock.monotonic
        self.serving: asyncio.Task[Any] | None = None
        self.lost = False
        self.from_this_machine = False
        self.origin = ""
        self.body_until: float | None = None
        self._head_bytes = 0  # what came since the head began; at most one packet less if it began inside of one
        self._shared = False  # a request ended in the packet that the head begins in
        self._beyond_body = 0  # what came after the last byte of the body so far: chunk sizes, trailers
        self._in_head = False
        self._in_body = False
        self._upgrade = False  # the parser takes what follows the head for another protocol
        self._resuming = False  # the head that is being parsed is made up
        self._hosts: list[bytes] = []
        self._codings: list[bytes] = []
        self._good_hosts: list[bytes] | None = None
        self._refused = False
        self._active: RequestResponseCycle | None = None  # being served; `cycle` is the newest, which may wait for it
        self._since = self._monotonic()
        self._allowed_s: float | None = connections.limits.head_s

    @property
    def _cycle(self) -> RequestResponseCycle | None:
        """The newest request; none before the first, which uvicorn's types do not say."""
        return self.cycle

    @property
    def request(self) -> RequestResponseCycle | None:
        """What is being answered."""
        active = self._active
        return None if self.lost or active is None or active.response_complete else active

    @property
    def streaming(self) -> bool:
        """Whether a response has begun whose function still runs."""
        return self.serving is not None and self._active is not None and self._active.response_started

    # --- bytes -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        if self.client is not None:
            self.client = (_address(self.client[0]), self.client[1])
        self.origin = "http {}:{}".format(*self.client) if self.client else f"http {id(self)}"
        self.flow = self._ahead = ReadAhead(transport, self.data_received)
        if self.client is not None:
            self.from_this_machine = self._connections.come_from_this_machine(self.client[0])
        self._connections.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or the connection was closed from here."""
        self._connections.open.discard(self)
        super().connection_lost(exc)
        self._parser = None  # it knows this object, and this object it
        self.lost = True
        if self._active is not None:
            self._active.disconnected = True
        if self.serving is not None:
            self.serving.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse, and refuse what is too large or no HTTP."""
        if self._refused:
            return
        if self._ahead.read_paused:
            self._ahead.hold(data)
            return
        if self._in_head:
            self._head_bytes += len(data)
        elif self._in_body:
            self._beyond_body += len(data)
        else:
            self._head_bytes = len(data)
            self._shared = False
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            cause = error.__cause__ or error.__context__
            if isinstance(cause, Refused):
                self._refuse(cause.answer)
            else:
                self._refuse(error_reply(400, "BAD_REQUEST", f"this is no HTTP request: {cause or error}"))
        else:
            if (self._in_head and self._head_bytes > self._limits.head_bytes) or (
                self._in_body and self._beyond_body > self._limits.head_bytes
            ):
                self._refuse(self._too_large())

    def _parse(self, data: bytes) -> None:
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._ignore_upgrade()
            else:
                return

    def _ignore_upgrade(self) -> None:
        """Go on as if nobody had asked for another protocol (RFC 9110 7.8).

        The parser takes a body for that protocol's data: taken for a request instead, it would be one that a proxy in
        front never saw. So another parser, told how the body is framed, reads on.
        """
        framing = [b"%s: %s\r\n" % header for header in self.headers if header[0] in _FRAMING]
        self.parser = self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._upgrade, self._resuming = False, True
        self._parser.feed_data(b"".join([b"POST / HTTP/1.1\r\n", *framing, b"\r\n"]))
        self._resuming = False

    def on_message_begin(self) -> None:
        """A head begins."""
        if self._resuming:
            return
        super().on_message_begin()
        self.scope["linkly.connection"] = self  # type: ignore[typeddict-unknown-key]
        self._in_head = True
        self._hosts, self._codings = [], []
        if self._shared:
            self._head_bytes = 0
        if self._allowed_s != self._limits.head_s:  # the first head's time runs since the connection was made
            self._since, self._allowed_s = self._monotonic(), self._limits.head_s

    def on_url(self, url: bytes) -> None:
        """A part of the request target has arrived."""
        if self._resuming:
            return
        self.url += url
        if len(self.url) > self._limits.target_bytes:
            text = f"the request target may have {self._limits.target_bytes} bytes"
            raise Refused(error_reply(414, "URI_TOO_LONG", text))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has arrived; a trailer is dropped, it must not pass for one (RFC 9110 6.5.1)."""
        if not self._in_head:
            self._beyond_body += len(name) + len(value) + _SEPARATORS
            if self._beyond_body > self._limits.head_bytes:
                raise Refused(self._too_large())
            if name.lower() == b"connection":  # the parser heeds it and may drop what comes next: so it is the last
                self.cycle.keep_alive = False
            return
        name = name.lower()
        self.headers.append((name, value))
        if name == b"host":
            self._hosts.append(value)
        elif name == b"transfer-encoding":
            self._codings.append(value)
        elif name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        """The head is complete: check it and start the request."""
        if self._resuming:
            return
        self._in_head = False
        self._since, self._allowed_s = self._monotonic(), self._limits.body_s
        if self._shared or self._head_bytes > self._limits.head_bytes:  # not all that came is the head: count it alone
            size = len(self.url) + sum(len(name) + len(value) + _SEPARATORS for name, value in self.headers)
            if size > self._limits.head_bytes:
                raise Refused(self._too_large())
        parser = self._parser
        version = parser.get_http_version()
        if version != "1.1":
            check_version(version)
            self.expect_100_continue = False  # from HTTP/1.0 it is to be ignored (RFC 9110 10.1.1)
        if self._hosts != self._good_hosts:  # on most connections every request names the same
            check_hosts(self._hosts, version)
            self._good_hosts = self._hosts if self._hosts else None
        if self._codings:
            check_codings(self._codings)
        if self.url[:1] != b"/":
            self.url = local_target(parser.get_method(), self.url)
        self._upgrade = parser.should_upgrade()
        self._in_body, self._beyond_body = True, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body has arrived."""
        self._since = self._monotonic()
        self._beyond_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete: from now on it is the function's time that counts."""
        if self._upgrade:
            return
        self._in_body, self._shared = False, True
        finished = self.cycle.response_complete  # answered before its body had come
        self._since, self._allowed_s = self._monotonic(), self._limits.idle_s if finished else None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The response is complete: start the next request that waits, or the time between two."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self._refused:  # what came after this request
            self.transport.close()
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif not self._in_head:
            self._since, self._allowed_s = self._monotonic(), self._limits.idle_s
        if not self.pipeline:  # a client that never waits for an answer does not fill it without limit
            self.flow.resume_reading()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    # --- time --------------------------------------------------------------------------------------------------

    def check_time(self, now: float) -> None:
        """Close the connection if its client has taken too long."""
        if self.body_until is not None and now >= self.body_until:
            self._refuse(_late())
        elif self._allowed_s is None or self.flow.read_paused:
            self._since = now
        elif now - self._since >= self._allowed_s and not self.transport.is_closing():
            cycle = self._cycle
            waits_for_body = cycle is not None and cycle.more_body and not cycle.response_complete
            if self._in_head or waits_for_body:
                self._refuse(_late())
            elif cycle is None or cycle.response_complete:
                self.transport.close()

    # --- refusing ----------------------------------------------------------------------------------------------

    def _too_large(self) -> Reply:
        text = f"request line and headers may have {self._limits.head_bytes} bytes"
        return error_reply(431, "REQUEST_HEADER_FIELDS_TOO_LARGE", text)

    def _refuse(self, answer: Reply) -> None:
        """Say why, where that cannot be mistaken for the response to another request, and close."""
        self._refused = True
        active, newest = self.request, self._cycle
        if active is not None and (active is not newest or not active.more_body):
            # An earlier request is being served: it is finished, then the connection ends.
            active.keep_alive = False
            self.pipeline.clear()
            return
        if active is not None:
            if active.response_started:
                self.transport.close()
                return
            active.disconnected = True
        elif newest is not None and self._in_body:  # its request has been answered: nothing is left to say
            self.transport.close()
            return
        head = [STATUS_LINE[answer.status], b"%s: %s\r\n" % JSON_TYPE, b"connection: close\r\n"]
        self.transport.write(b"".join([*head, b"content-length: %d\r\n\r\n" % len(answer.body), answer.body]))
        self.transport.close()

    # --- responses without a length ----------------------------------------------------------------------------

    def begin_unsized(self) -> None:
        """The response's end is the connection's: HTTP/1.0 knows no chunks (RFC 9112 6.3)."""
        if self._active is not None and self._active.scope["http_version"] == "1.0":
            self._active.chunked_encoding = False

    def cut_off(self) -> None:
        """Close in the middle of a response."""
        if self._active is not None:
            self._active.disconnected = True  # uvicorn need not report it: it is meant
        self.transport.close()

    def expect_part(self, size: int) -> None:
        """One more part of such a response comes."""
        if self._active is not None and not self._active.chunked_encoding:
            self._active.expected_content_length = size


def _address(given: str) -> str:
    """Return a peer's address as it is written everywhere else: on `::`, IPv4 clients come as `::ffff:127.0.0.1`."""
    if not given.startswith("::ffff:"):
        return given
    mapped = ipaddress.IPv6Address(given).ipv4_mapped
    return given if mapped is None else str(mapped)


def _late() -> Reply:
    return error_reply(408, "REQUEST_TIMEOUT", "the request did not arrive in time")
