"""The connection: what a client may take, in bytes and in time, before a request exists (RFC 9112).

uvicorn's protocol parses and writes; this adds limits, states (`states.py`) and their time-outs, which one sweeper
looks after, because a timer for each request costs more than the request line. It also says when the client has gone,
reads the body of a request whose Upgrade is ignored, and leaves a chunked body's trailers out: they are no headers.

Names of uvicorn (0.45 to 0.54) that its documentation does not promise; they are used here, in `connections.py` and
`flow.py`:

* `HttpToolsProtocol`: the callbacks of parser and transport, `shutdown`, `_start_asgi_task`, and `client`, `cycle`,
  `expect_100_continue`, `flow`, `headers`, `parser`, `pipeline`, `scope`, `server_state`, `transport`, `url`
* `RequestResponseCycle`: `chunked_encoding`, `disconnected`, `expected_content_length`, `keep_alive`, `more_body`,
  `response_complete`, `response_started`, `scope`
* `FlowControl`: `_transport`, `read_paused`, `pause_reading`, `resume_reading`
* `ServerState`: `default_headers`, `total_requests`; `STATUS_LINE`
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from linkly_workers.http.flow import ReadAhead
from linkly_workers.http.head import Refused, check_codings, check_hosts, check_version, local_target
from linkly_workers.http.proxies import Proxies, plain_address
from linkly_workers.http.response import JSON_TYPE, Reply, error_reply
from linkly_workers.http.states import (
    BODY,
    DISCARDING,
    FOLLOWS,
    HEAD,
    IDLE,
    LOST,
    OPENED,
    REFUSED,
    WAITING,
    ConnectionLimits,
    ImpossibleTransition,
    State,
)
from linkly_workers.http.writes import GatheringTransport, Writes

_SEPARATORS = 4  # `: ` and the line's end
_FRAMING = (b"content-length", b"transfer-encoding")

for _status in range(600, 1000):  # uvicorn knows the registered classes only; a function may answer any
    STATUS_LINE.setdefault(_status, b"HTTP/1.1 %d \r\n" % _status)


class GatewayProtocol(HttpToolsProtocol):
    """One connection.

    Attributes:
        state: What its client is doing.
        serving: The task that serves a request now; it is cancelled when the client has gone.
        from_this_machine: The client is a program on this machine, a browser perhaps, and no trusted proxy.
        origin: Where the calls of its requests enter.
        body_until: The clock's time until which a body that is being waited for has to be complete.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        proxies: Proxies,
        monotonic: Callable[[], float],
        connections: set[GatewayProtocol],
        writes: Writes,
        changed: Callable[[], None],
        **uvicorn: Any,
    ) -> None:
        super().__init__(**uvicorn)
        self._parser: Any = self.parser  # whose types leave out what it can do
        self._limits = limits
        self._times_s = limits.times_s()
        self._proxies = proxies
        self._monotonic = monotonic
        self._connections = connections
        self._writes = writes
        self.changed = changed
        self.state = OPENED
        self._since = monotonic()
        self.serving: asyncio.Task[Any] | None = None
        self.from_this_machine = False
        self.origin = ""
        self.body_until: float | None = None
        self._head_bytes = 0  # what came since the head began; at most one packet less if it began inside of one
        self._shared = False  # a request ended in the packet that the head begins in
        self._beyond_body = 0  # what came after the last byte of the body so far: chunk sizes, trailers
        self._hosts: list[bytes] = []
        self._codings: list[bytes] = []
        self._good_hosts: list[bytes] | None = None
        self._active: RequestResponseCycle | None = None  # being served; `cycle` is the newest, which may wait for it

    @property
    def request(self) -> RequestResponseCycle | None:
        """What is being answered."""
        active = self._active
        return None if self.state is LOST or active is None or active.response_complete else active

    @property
    def streaming(self) -> bool:
        """Whether a response has begun whose function still runs."""
        return self.serving is not None and self._active is not None and self._active.response_started

    def _enter(self, state: State) -> None:
        if state not in FOLLOWS[self.state]:
            raise ImpossibleTransition(self.state, state)
        if self.state is not OPENED:  # the first head's time runs since the connection was made
            self._since = self._monotonic()
        self.state = state

    # --- bytes -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self.origin = f"http {id(self)}"
        if self.client is not None:
            self.client = host, port = plain_address(self.client[0]), self.client[1]
            self.origin = f"http {host}:{port}"
            self.from_this_machine = self._proxies.is_local_client(host)
        self.transport = GatheringTransport(transport, self._writes)  # type: ignore[assignment]
        self.flow = self._ahead = ReadAhead(transport, self.data_received)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has hung up, or the gateway has closed the connection."""
        self._connections.discard(self)
        super().connection_lost(exc)
        self._parser = None  # it knows this object, and this object it
        self._enter(LOST)
        if self._active is not None:
            self._active.disconnected = True
        if self.serving is not None:
            self.serving.cancel()
        self.changed()

    def data_received(self, data: bytes) -> None:
        """Parse, and refuse what is too large or no HTTP."""
        if self.state is REFUSED:
            return
        if self._ahead.read_paused:
            self._ahead.hold(data)
            return
        if self.state is HEAD:
            self._head_bytes += len(data)
        elif self.state is BODY or self.state is DISCARDING:
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
            elif isinstance(cause, ImpossibleTransition):
                raise cause from None
            else:
                self._refuse(error_reply(400, "BAD_REQUEST", f"this is no HTTP request: {cause or error}"))
        else:
            if (self.state is HEAD and self._head_bytes > self._limits.head_bytes) or (
                self.state in (BODY, DISCARDING) and self._beyond_body > self._limits.head_bytes
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
        """Go on as if the request had not asked for another protocol (RFC 9110 7.8).

        The parser takes a body for that protocol's data: taken for a request instead, it would be one that a proxy in
        front never saw. So another parser, told how the body is framed, reads on.
        """
        framing = [b"%s: %s\r\n" % header for header in self.headers if header[0] in _FRAMING]
        self.parser = self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._parser.feed_data(b"".join([b"POST / HTTP/1.1\r\n", *framing, b"\r\n"]))

    def on_message_begin(self) -> None:
        """A head begins; not in a body, where it is the one that `_ignore_upgrade` made up."""
        if self.state is BODY:
            return
        super().on_message_begin()
        self.scope["linkly.connection"] = self  # type: ignore[typeddict-unknown-key]
        self._hosts, self._codings = [], []
        if self._shared:
            self._head_bytes = 0
        self._enter(HEAD)

    def on_url(self, url: bytes) -> None:
        """A part of the request target has arrived."""
        if self.state is not HEAD:
            return
        self.url += url
        if len(self.url) > self._limits.target_bytes:
            text = f"the request target may have {self._limits.target_bytes} bytes"
            raise Refused(error_reply(414, "URI_TOO_LONG", text))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has arrived; a trailer is dropped, it must not pass for one (RFC 9110 6.5.1)."""
        if self.state is not HEAD:
            self._beyond_body += len(name) + len(value) + _SEPARATORS
            if self._beyond_body > self._limits.head_bytes:
                raise Refused(self._too_large())
            if name.lower() == b"connection":  # the parser obeys it and may drop the next request
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
        if self.state is not HEAD:
            self._beyond_body = 0
            return
        self._enter(BODY)
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
        self._beyond_body = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body has arrived."""
        self._since = self._monotonic()
        self._beyond_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete: from now on it is the function's time that counts."""
        if self._parser.should_upgrade():  # what follows may be its body, which another parser reads
            return
        self._shared = True
        self._enter(WAITING if self.state is BODY else IDLE)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The response is complete: start the next request that waits, or the time between two."""
        self.server_state.total_requests += 1
        self.changed()
        if self.transport.is_closing():
            return
        if self.state is REFUSED:  # what came after this request
            self.transport.close()
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.state is WAITING:
            self._enter(IDLE)
        elif self.state is BODY:
            self._enter(DISCARDING)
        if not self.pipeline:  # a client that never waits for an answer does not fill it without limit
            self.flow.resume_reading()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    # --- time --------------------------------------------------------------------------------------------------

    def check_time(self, now: float) -> None:
        """Close the connection if its client has taken too long."""
        allowed_s = self._times_s[self.state]
        if allowed_s is None or self.transport.is_closing():
            return
        if self.state is BODY and self.body_until is not None and now >= self.body_until:
            self._refuse(_late())
        elif self.flow.read_paused:
            self._since = now
        elif now - self._since >= allowed_s:
            if self.state is HEAD or self.state is BODY:
                self._refuse(_late())
            else:
                self.transport.close()

    # --- refusing ----------------------------------------------------------------------------------------------

    def _too_large(self) -> Reply:
        text = f"request line and headers may have {self._limits.head_bytes} bytes"
        return error_reply(431, "REQUEST_HEADER_FIELDS_TOO_LARGE", text)

    def _refuse(self, answer: Reply) -> None:
        """Say why, where that cannot be mistaken for the response to another request, and close."""
        discarding = self.state is DISCARDING
        self._enter(REFUSED)
        active = self.request
        if active is not None and (active is not self.cycle or not active.more_body):
            # An earlier request is being served: it is finished, then the connection ends.
            active.keep_alive = False
            self.pipeline.clear()
            return
        if discarding or (active is not None and active.response_started):  # nothing is left to say
            self.transport.close()
            return
        if active is not None:
            active.disconnected = True
        head = [STATUS_LINE[answer.status], b"%s: %s\r\n" % JSON_TYPE, b"connection: close\r\n"]
        self.transport.write(b"".join([*head, b"content-length: %d\r\n\r\n" % len(answer.body), answer.body]))
        self.transport.close()

    # --- streamed responses ------------------------------------------------------------------------------------

    def begin_unsized(self) -> None:
        """The response's end is the connection's: HTTP/1.0 knows no chunks (RFC 9112 6.3)."""
        if self._active is not None and self._active.scope["http_version"] == "1.0":
            self._active.chunked_encoding = False

    def cut_off(self) -> None:
        """Close in the middle of a response, so that the client does not take a part for the whole."""
        if self._active is not None:
            self._active.disconnected = True  # uvicorn need not report it: it is meant
        self.transport.close()

    def expect_part(self, size: int) -> None:
        """One more part of such a response comes."""
        if self._active is not None and not self._active.chunked_encoding:
            self._active.expected_content_length = size


def _late() -> Reply:
    return error_reply(408, "REQUEST_TIMEOUT", "the request did not arrive in time")
