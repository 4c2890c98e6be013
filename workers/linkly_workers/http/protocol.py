"""The connection: bytes of a client become requests, which are answered in their order (RFC 9112).

httptools parses. This module adds limits, states (`states.py`) and their time-outs, which one sweeper looks after,
because a timer for each request costs more than its request line. It reads the body of a request whose Upgrade is
ignored, and leaves a chunked body's trailers out: they are no headers.

A request is served when the packet that brought it has been read, so that a small body has arrived with its head. Of
requests that wait on one connection one is begun in a turn of the loop: others get theirs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, cast

import httptools
import msgspec
from uvicorn.server import ServerState

from linkly.runner import Line, Run, line_of
from linkly_workers.http.alike import Alike
from linkly_workers.http.exchange import Exchange
from linkly_workers.http.fields import header_map
from linkly_workers.http.flow import Flow
from linkly_workers.http.head import Refused, check_codings, check_hosts, check_version, local_target
from linkly_workers.http.proxies import Proxies, plain_address
from linkly_workers.http.response import Reply, error_reply
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
from linkly_workers.http.status_lines import StatusLines
from linkly_workers.http.writes import GatheringTransport, Writes

_SEPARATORS = 4  # `: ` and the line's end
_FRAMING = (b"content-length", b"transfer-encoding")
AT_ONCE_TURNS = 5
"""Turns of the loop in which a function that does not wait has answered, and its response was written."""


class Common(msgspec.Struct, frozen=True, eq=False):
    """What all connections of a gateway have in common.

    Attributes:
        serve: Answers a request, now or later.
        limits: What a client may take.
        proxies: Whose word about the client is taken.
        monotonic: The clock's.
        lines: The first lines of responses.
        writes: Gathers what is written in a turn of the loop.
        changed: Told whenever a response begins to be streamed or ends.
    """

    serve: Callable[[Exchange], None]
    limits: ConnectionLimits
    proxies: Proxies
    monotonic: Callable[[], float]
    lines: StatusLines
    writes: Writes
    changed: Callable[[], None]


class GatewayProtocol(asyncio.Protocol):
    """One connection, made and kept count of by uvicorn's server.

    Args:
        common: What it has in common with the others.
        server_state: The server's; it shows the connections that are open.
        uvicorn: What else uvicorn's server tells a protocol: `config`, `app_state` and the loop.

    Attributes:
        state: What its client is doing.
        serving: What serves a request now, if it is not answered at once.
        transport: Where responses go.
        flow: What may pass now.
        alike: What its last request was like.
        origin: Where the calls of its requests enter.
        from_this_machine: The client is a program on this machine, a browser perhaps, and no trusted proxy.
        body_until: The clock's time until which a body that is being waited for has to be complete.
    """

    transport: GatheringTransport
    flow: Flow
    _line: Line

    def __init__(self, common: Common, *, server_state: ServerState, **uvicorn: object) -> None:
        self._common = common
        self._open = connections_of(server_state)
        self._times_s = common.limits.times_s()
        self._serve = common.serve
        self._monotonic = common.monotonic
        self.changed = common.changed
        self.lines = common.lines
        self.state = OPENED
        self._since = common.monotonic()
        self.serving: Run | None = None
        self.from_this_machine = False
        self.origin = ""
        self.body_until: float | None = None
        self._peer = ""
        self._scheme = "http"
        self._by_proxy = False
        self._head_bytes = 0  # what came since the head began; at most one packet less if it began inside of one
        self._shared = False  # a request ended in the packet that the head begins in
        self._beyond_body = 0  # what came after the last byte of the body so far: chunk sizes, trailers
        self._unread = 0  # how much of whole responses the client had not read at the last look
        self._unread_since = self._since
        self._good_host: str | None = None
        self._active: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._newest: Exchange | None = None
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._upgrades = False
        self.alike = Alike()
        self._parser: Any = self._new_parser()  # its types leave out what it can do

    @property
    def request(self) -> Exchange | None:
        """What is being answered, or is next."""
        if self.state is LOST:
            return None
        return self._active or (self._waiting[0] if self._waiting else None)

    @property
    def streaming(self) -> bool:
        """Whether a response has begun whose function still runs."""
        return self._active is not None and self._active.started

    def _enter(self, state: State) -> None:
        if state not in FOLLOWS[self.state]:
            raise ImpossibleTransition(self.state, state)
        if self.state is not OPENED:  # the first head's time runs since the connection was made
            self._since = self._monotonic()
        self.state = state

    # --- the transport's calls ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        self.transport = GatheringTransport(transport, self._common.writes)
        self.flow = Flow(self.transport, self.data_received)
        self.origin = f"http {id(self)}"
        peer = transport.get_extra_info("peername")
        if isinstance(peer, (tuple, list)) and len(peer) >= 2:
            host = self._peer = plain_address(str(peer[0]))
            self.origin = f"http {host}:{peer[1]}"
            self.from_this_machine = self._common.proxies.is_local_client(host)
            self._by_proxy = self._common.proxies.trusts(host)
        self._line = line_of(asyncio.get_running_loop())
        self._open.add(self)

    def eof_received(self) -> bool:
        """The client sends no more, mostly because it has hung up: it still gets what is answered at once."""
        self._leave(self.request, AT_ONCE_TURNS)
        return True

    def _leave(self, asked: Exchange | None, turns: int) -> None:
        """Close the connection, if this request is not answered within some turns of the loop and another is next."""
        request = self.request
        if request is None or (request is asked and turns == 0):
            self.transport.close()
        else:
            left = turns - 1 if request is asked else AT_ONCE_TURNS
            asyncio.get_running_loop().call_soon(self._leave, request, left)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has hung up, or the gateway has closed the connection."""
        self._open.discard(self)
        self._enter(LOST)
        if self._active is not None:
            self._active.lose()
        # All of these know this object. In a circle with it they would wait for the garbage collector, which an engine
        # lets come seldom: 6 KB of each connection that has ended, thousands of them before it takes any.
        self._parser = self._active = self._newest = None
        self._waiting.clear()
        self.alike.forget()
        self.flow.end()
        if self.serving is not None:
            self.serving.cancel()
        self.changed()

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        """It has read."""
        self.flow.resume_writing()
        self._next()

    def data_received(self, data: bytes) -> None:
        """Parse, and refuse what is too large or no HTTP; then serve a request that is there."""
        state = self.state
        if state is REFUSED:
            return
        if self.flow.paused:
            self.flow.hold(data)
            return
        if state is IDLE:
            alike, closing = self.alike.read(data, self._common.limits), self.transport.is_closing
            if alike is not None and self.flow.is_writable and not closing():
                self.state = WAITING  # and IDLE in `answered`: as `FOLLOWS` says, without a call of `_enter`
                self._active = self._newest = alike
                serve = self._serve
                serve(alike)
                return
        if state is HEAD:
            self._head_bytes += len(data)
        elif state is BODY or state is DISCARDING:
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
            if (self.state is HEAD and self._head_bytes > self._common.limits.head_bytes) or (
                self.state in (BODY, DISCARDING) and self._beyond_body > self._common.limits.head_bytes
            ):
                self._refuse(self._too_large())
            elif self.state is WAITING and (state is IDLE or state is OPENED) and len(self._waiting) == 1:
                self.alike.remember(data, self._waiting[0])
        self._next()

    # --- the parser's calls ------------------------------------------------------------------------------------

    def _new_parser(self) -> Any:
        parser = httptools.HttpRequestParser(self)
        # Requests that come after one with `Connection: close` are read, and not answered.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

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

        A route for WebSockets would take the transport over here. The parser takes a body for the other protocol's
        data: taken for a request instead, it would be one that a proxy in front never saw. So another parser, told how
        the body is framed, reads on.
        """
        framing = [b"%s: %s\r\n" % field for field in self._fields if field[0] in _FRAMING]
        self._parser = self._new_parser()
        self._upgrades = False
        self._parser.feed_data(b"".join([b"POST / HTTP/1.1\r\n", *framing, b"\r\n"]))

    def on_message_begin(self) -> None:
        """A head begins; not in a body, where it is the one that `_ignore_upgrade` made up."""
        if self.state is BODY:
            return
        self._target = b""
        self._fields = []
        if self._shared:
            self._head_bytes = 0
        self._enter(HEAD)

    def on_url(self, url: bytes) -> None:
        """A part of the request target has arrived."""
        if self.state is not HEAD:
            return
        self._target += url
        if len(self._target) > self._common.limits.target_bytes:
            text = f"the request target may have {self._common.limits.target_bytes} bytes"
            raise Refused(error_reply(414, "URI_TOO_LONG", text))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has arrived; a trailer is dropped, it must not pass for one (RFC 9110 6.5.1)."""
        name = name.lower()
        if self.state is HEAD:
            self._fields.append((name, value))
        else:
            self._beyond_body += len(name) + len(value) + _SEPARATORS
            if self._beyond_body > self._common.limits.head_bytes:
                raise Refused(self._too_large())
            if name == b"connection" and self._newest is not None:  # the parser obeys it and may drop the next request
                self._newest.keep_alive = False

    def on_headers_complete(self) -> None:
        """The head is complete: check it; the request waits for its turn."""
        if self.state is not HEAD:
            self._beyond_body = 0
            return
        if self._shared or self._head_bytes > self._common.limits.head_bytes:  # not all that came is this head
            size = len(self._target) + sum(len(name) + len(value) + _SEPARATORS for name, value in self._fields)
            if size > self._common.limits.head_bytes:
                raise Refused(self._too_large())
        parser, target, fields = self._parser, self._target, self._fields
        headers = header_map(fields)
        version = parser.get_http_version()
        if version != "1.1":
            check_version(version)
        host = headers.get("host")
        if host is None or host != self._good_host or len(headers) != len(fields):  # mostly all requests name the same
            check_hosts([value for name, value in fields if name == b"host"], version)
            self._good_host = host
        if "transfer-encoding" in headers:
            check_codings([value for name, value in fields if name == b"transfer-encoding"])
        if target[:1] != b"/" or b"#" in target:
            target = local_target(parser.get_method(), target)
        self._beyond_body = 0
        client, scheme = self._peer, self._scheme
        if self._by_proxy:
            client, scheme = self._common.proxies.client_of(fields, client, scheme)
        path, _, query = target.decode("ascii").partition("?")
        exchange = self._newest = Exchange(
            self,
            parser.get_method().decode(),
            path,
            query,
            fields,
            headers,
            client,
            scheme,
            version != "1.0" and parser.should_keep_alive(),
            "transfer-encoding" in headers or headers.get("content-length", "").strip("0") != "",
            version == "1.0",
        )
        self._waiting.append(exchange)
        self._upgrades = parser.should_upgrade()
        if exchange.has_body or self._upgrades:
            self._enter(BODY)
        if self._active is not None or len(self._waiting) > 1:
            self.flow.pause_reading()  # a client that never waits for an answer does not fill the queue without limit

    def on_body(self, body: bytes) -> None:
        """A part of the body has arrived."""
        self._since = self._monotonic()
        self._beyond_body = 0
        if self._newest is not None:
            self._newest.take_part(body)

    def on_message_complete(self) -> None:
        """The request is complete: from now on it is the function's time that counts."""
        if self._upgrades:  # what follows may be its body, which another parser reads
            return
        self._shared = True
        self._enter(IDLE if self.state is DISCARDING else WAITING)
        if self._newest is not None:
            self._newest.take_end()

    # --- one request after the other ---------------------------------------------------------------------------

    def _next(self) -> None:
        # Who does not read gets no more to read, and his requests wait.
        if self._active is None and self._waiting and self.flow.is_writable and not self.transport.is_closing():
            exchange = self._active = self._waiting.popleft()
            self._serve(exchange)

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Serve the request that is being answered; it is cancelled when the client has gone."""
        self.serving = Run(coroutine, self._line)

    def answered(self) -> None:
        """The response is complete: the next request follows, or the time between two."""
        self._active = self.serving = None
        # Names for what is called: `self.changed()` looks for a method first, which takes 0.05 us longer.
        changed, closing, monotonic = self.changed, self.transport.is_closing, self._monotonic
        changed()
        if closing():
            return
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
            return
        if self.state is WAITING:
            self.state, self._since = IDLE, monotonic()
        elif self.state is BODY:
            self._enter(DISCARDING)
        if self.flow.paused:
            self.flow.resume_reading()

    def shutdown(self) -> None:
        """Close the connection when the request that is being served is answered, as uvicorn's server asks for.

        Those that wait behind it are dropped: begun now, they would be cancelled half done, or find no function. Their
        client sees the connection end before the answer, so it may ask again (RFC 9112 9.3.1).
        """
        self._waiting.clear()
        if self._active is None:
            self.transport.close()
        else:
            self._active.keep_alive = False

    # --- time --------------------------------------------------------------------------------------------------

    def check_time(self, now: float) -> None:
        """Close the connection if its client has taken too long."""
        unread = 0 if self.streaming else self.transport.unsent_bytes()
        if unread != self._unread:
            self._unread, self._unread_since = unread, now
        elif unread and now - self._unread_since >= self._common.limits.body_s:  # a close would wait for ever
            self.transport.abort()
            return
        allowed_s = self._times_s[self.state]
        if allowed_s is None or self.transport.is_closing():
            return
        if self.state is BODY and self.body_until is not None and now >= self.body_until:
            self._refuse(_late())
        elif self.flow.paused:
            self._since = now
        elif now - self._since >= allowed_s:
            if self.state is HEAD or self.state is BODY:
                self._refuse(_late())
            else:
                self.transport.close()

    # --- refusing ----------------------------------------------------------------------------------------------

    def _too_large(self) -> Reply:
        text = f"request line and headers may have {self._common.limits.head_bytes} bytes"
        return error_reply(431, "REQUEST_HEADER_FIELDS_TOO_LARGE", text)

    def _refuse(self, refusal: Reply) -> None:
        """Say why, where that cannot be mistaken for the response to another request, and close."""
        discarding = self.state is DISCARDING
        self._enter(REFUSED)
        if self._waiting and not self._waiting[-1].whole:
            self._waiting.pop()
        last = self._waiting[-1] if self._waiting else self._active
        if last is not None and last.whole:  # requests that came before are answered, then the connection ends
            last.keep_alive = False
        elif discarding or (last is not None and last.started):  # nothing is left to say
            self.transport.close()
        else:
            if last is not None:
                last.lose()
            head = [self.lines[refusal.status], *(b"%b: %b\r\n" % field for field in refusal.headers)]
            head.append(b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(refusal.body))
            self.transport.write(b"".join([*head, refusal.body]))
            self.transport.close()


def connections_of(server_state: ServerState) -> set[GatewayProtocol]:
    """Return the connections that are open; uvicorn declares the set as one of its own protocols."""
    return cast("set[GatewayProtocol]", server_state.connections)


def _late() -> Reply:
    return error_reply(408, "REQUEST_TIMEOUT", "the request did not arrive in time")
