"""Requests whose fields are those of the one before take no parser; nobody can tell."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from uvicorn.server import ServerState

from linkly_workers.http.alike import Alike
from linkly_workers.http.protocol import Common, GatewayProtocol
from linkly_workers.http.proxies import Proxies
from linkly_workers.http.response import Reply
from linkly_workers.http.states import ConnectionLimits
from linkly_workers.http.status_lines import StatusLines
from linkly_workers.http.writes import Writes

LIMITS = ConnectionLimits(head_bytes=400, target_bytes=40, head_s=10, body_s=10, idle_s=10)

LINES = [
    b"GET /S/a HTTP/1.1",
    b"GET /s/a?b=%20?&c HTTP/1.1",
    b"GET /s/a? HTTP/1.1",
    b"HEAD /s/b HTTP/1.1",
    b"POST /s/b HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"GET /a#b HTTP/1.1",
    b"GET http://x/s/a HTTP/1.1",
    b"GET  / HTTP/1.1",
    b"GET / HTTP/1.0",
    b"GET /" + b"long" * 12 + b" HTTP/1.1",
    b"get / HTTP/1.1",
    b"GET /\xc3\xa4 HTTP/1.1",
    b"CONNECT x:80 HTTP/1.1",
    b"\r\nGET /after/an/empty/line HTTP/1.1",
    b"GET /lacks/the/version",
    b"",
]
FIELDS = [
    b"Host: x",
    b"Host: y\r\nX-Forwarded-For: 10.0.0.1, 127.0.0.1\r\nX-Forwarded-Proto: https",
    b"Host: x\r\nCookie: a=1\r\nAccept: \xff\r\ncookie: b=2",
    b"Host: x\r\nConnection: close",
    b"Host: x\r\nContent-Length: 0",
    b"Host: x\r\nContent-Length: 25",
    b"Host: x\r\nTransfer-Encoding: chunked",
    b"Host: x\r\nConnection: upgrade\r\nUpgrade: websocket",
    b"Host: x\r\nPadding: " + b"p" * 360,
    b"Host: x\r\nHost: y",
    b"No-Host: x",
]
BODIES = [
    b"",
    b"",
    b"",
    b"\r\n",
    b"5\r\nparts\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"25 bytes are not that many",
]


@st.composite
def requests(draw):
    """Draw requests most of which have the same fields and the same body."""
    fields = draw(st.sampled_from(FIELDS))
    body = draw(st.sampled_from([b"", *BODIES]))
    return [
        draw(st.sampled_from(LINES[:5]) | st.sampled_from(LINES))
        + b"\r\n"
        + draw(st.sampled_from([fields] * 10 + FIELDS))
        + b"\r\n\r\n"
        + draw(st.sampled_from([body] * 10 + BODIES))
        for _ in range(draw(st.integers(2, 6)))
    ]


class Sent(asyncio.Transport):
    """A transport that keeps what is sent."""

    def __init__(self):
        super().__init__()
        self.bytes = b""
        self.closing = False

    def get_extra_info(self, name, default=None):
        return ("127.0.0.1", 4000) if name == "peername" else default

    def write(self, data):
        self.bytes += data

    def close(self):
        self.closing = True

    abort = close

    def is_closing(self):
        return self.closing

    def get_write_buffer_size(self):
        return 0


class Connection:
    """A connection whose functions change the headers that they get, and what has been asked on it."""

    def __init__(self, proxies=(), limits=LIMITS):
        self.asked = []
        self.answered = asyncio.Event()
        self.made = GatewayProtocol(
            Common(
                serve=self._serve,
                limits=limits,
                proxies=Proxies(proxies),
                monotonic=lambda: 0.0,
                lines=StatusLines(),
                writes=Writes(),
                changed=self.answered.set,
            ),
            server_state=ServerState(),
        )
        self.sent = Sent()
        self.made.connection_made(self.sent)

    def _serve(self, exchange):
        named = ("method", "path", "query", "fields", "headers", "client_host", "scheme", "keep_alive", "has_body")
        self.asked.append({name: getattr(exchange, name) for name in (*named, "http_1_0")})
        self.asked[-1]["headers"] = dict(exchange.headers)
        exchange.headers.clear()
        exchange.answer(Reply(200, [], b"%d" % len(self.asked)))

    async def receive(self, data):
        if not self.sent.closing:
            self.made.data_received(data)
            while self.made.request is not None and not self.sent.closing:
                self.answered.clear()
                await self.answered.wait()


async def told(packets, proxies, *, remembers):
    """Return what was asked and answered when these packets come, and in what state the connection is then."""
    connection = Connection(proxies)
    for packet in packets:
        if not remembers:
            connection.made.alike = Alike()
        await connection.receive(packet)
    connection.made.shutdown()
    return connection.asked, connection.sent.bytes, connection.made.state


async def check(packets, proxies=()):
    remembered, parsed = [await told(packets, proxies, remembers=remembers) for remembers in (True, False)]
    assert remembered == parsed


@settings(max_examples=300)
@given(requests(), st.booleans(), st.lists(st.integers(1, 200), max_size=3))
def test_every_request_is_the_one_that_the_parser_reads(packets, proxied, cuts):
    for at in cuts:  # not every packet is a request
        packets = [part for packet in packets for part in (packet[:at], packet[at:]) if part]
    asyncio.run(check(packets, ["127.0.0.1"] if proxied else []))


@pytest.mark.parametrize("line", LINES)
async def test_every_request_line_is_the_one_that_the_parser_reads(line):
    await check([each + b"\r\nHost: x\r\n\r\n" for each in (LINES[0], line)])


@pytest.mark.parametrize("before", [b"\r\n", b"\n\r\n", b"\n"])
async def test_an_empty_line_before_a_request_makes_its_request_line_no_field(before):
    packet = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
    await check([before + packet, b"GET /b HTTP/1.1\r\n" + packet])


async def test_such_a_request_is_not_parsed_again():
    connection = Connection()
    first, again = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", b"HEAD /b?c HTTP/1.1\r\nHost: x\r\n\r\n"
    await connection.receive(first)
    connection.made.on_message_begin = connection.made.on_url = None  # what the parser would call
    await connection.receive(again)
    await connection.receive(first)
    assert [(each["method"], each["path"], each["query"]) for each in connection.asked] == [
        ("GET", "/a", ""),
        ("HEAD", "/b", "c"),
        ("GET", "/a", ""),
    ]
    assert [each["headers"] for each in connection.asked] == [{"host": "x"}] * 3


@pytest.mark.parametrize(
    "limits, target, status",
    [
        (LIMITS, b"/" + b"a" * 39, 200),
        (LIMITS, b"/" + b"a" * 40, 414),
        (replace(LIMITS, head_bytes=30), b"/" + b"a" * 20, 200),
        (replace(LIMITS, head_bytes=30), b"/" + b"a" * 21, 431),
    ],
)
async def test_targets_and_heads_are_limited_all_the_same(limits, target, status):
    connection = Connection(limits=limits)
    for each in (b"/", target):
        await connection.receive(b"GET " + each + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.made.shutdown()  # sends what is written
    assert connection.sent.bytes.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 %d " % status in connection.sent.bytes[10:]
