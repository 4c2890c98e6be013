"""Where one request ends and the next begins: nobody in front of the gateway may see it otherwise; on real sockets."""

import asyncio
import contextlib
import re

import pytest

from linkly import HttpRequest, HttpResponse, Worker, function, http
from linkly.schema import read_settings
from linkly.testing import running_engine, settle
from linkly_workers.http import HttpSettings, HttpWorker
from support.raw_http import raw_http


class Pages(Worker):
    name = "pages"

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.url = ""  # of the gateway

    @function("pages::echo", triggers=[http("POST", "/echo/:name"), http("GET", "/echo/:name")])
    async def echo(self, request: HttpRequest) -> HttpResponse:
        """Answer body, headers and name."""
        self.asked.append(request.path_params["name"])
        return HttpResponse(body={"name": request.path_params["name"], "body": request.body, **request.headers})

    @function("pages::dated", triggers=[http("GET", "/dated")])
    async def dated(self, request: HttpRequest) -> HttpResponse:
        """Say headers that are not the function's to say."""
        return HttpResponse(headers={"Date": "yesterday", "Keep-Alive": "timeout=1", "Upgrade": "h2c", "X-Mine": "1"})


@pytest.fixture
def gateway():
    @contextlib.asynccontextmanager
    async def start(**settings):
        worker, pages = HttpWorker(read_settings(HttpSettings, {"port": 0, **settings}, "$")), Pages()
        async with running_engine(worker, pages):

            async def talk(*parts, endless=None):
                """Send each part when the answer to the one before has begun; return all that came.

                `endless` is sent again and again until the connection ends, which may cost the answer.
                """
                async with raw_http(worker.url) as connection:
                    answer = b""
                    for part in parts:
                        connection.send(part)
                        if part is not parts[-1]:
                            answer += await connection.line()
                    async with asyncio.timeout(10):
                        while endless and not connection.transport.is_closing():
                            connection.send(endless)
                            await asyncio.sleep(0)
                    return answer if endless else answer + await connection.rest()

            pages.url = worker.url
            yield talk, pages

    return start


JSON = b"Host: x\r\nContent-Type: application/json\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
LAST = b"GET /echo/last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HIDDEN = b"GET /echo/hidden HTTP/1.1\r\nHost: x\r\n\r\n"
CONTINUE = b"Expect: 100-continue\r\n"


@pytest.mark.parametrize("upgrade", [H2C, WEBSOCKET])
@pytest.mark.parametrize(
    "framing, body",
    [
        (b"Content-Length: %d\r\n" % len(HIDDEN), HIDDEN),
        (b"Transfer-Encoding: chunked\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
    ],
)
@pytest.mark.parametrize("apart", [True, False])
async def test_the_body_of_a_request_whose_upgrade_is_ignored_is_its_body(gateway, upgrade, framing, body, apart):
    async with gateway() as (talk, pages):
        head = b"POST /echo/first HTTP/1.1\r\n" + JSON + upgrade + framing
        if apart:  # the body is sent when the head has been read, which `100 Continue` tells
            answer = await talk(head + CONTINUE + b"\r\n", body + LAST)
        else:
            answer = await talk(head + b"\r\n" + body + LAST)
        assert pages.asked == ["first", "last"]
        assert answer.count(b" 200 OK") == 2


async def test_a_json_body_comes_with_an_ignored_upgrade(gateway):
    async with gateway() as (talk, _):
        head = b"POST /echo/a HTTP/1.1\r\n" + JSON + H2C + b"Content-Length: 7\r\n\r\n"
        answer = await talk(head + b'{"a":1}' + LAST)
        assert b'"body":{"a":1}' in answer


async def test_requests_that_ask_for_an_upgrade_one_after_the_other_are_all_answered(gateway):
    async with gateway() as (talk, pages):
        one = b"GET /echo/%d HTTP/1.1\r\nHost: x\r\n" + WEBSOCKET + b"\r\n"
        await talk(one % 1 + one % 2 + HIDDEN + one % 3 + LAST)
        assert pages.asked == ["1", "2", "hidden", "3", "last"]


CHUNKED = b"POST /echo/a HTTP/1.1\r\n" + JSON + b"X-A: head\r\nTransfer-Encoding: chunked\r\n"


async def test_trailers_are_no_headers(gateway):
    async with gateway() as (talk, pages):
        trailers = b"X-A: trailer\r\nAuthorization: evil\r\nHost: evil\r\nIdempotency-Key: k\r\n\r\n"
        answer = await talk(CHUNKED + b"\r\n2\r\n{}\r\n0\r\n" + trailers + LAST)
        assert pages.asked == ["a", "last"]
        assert b'"x-a":"head"' in answer
        assert b'"host":"x"' in answer
        assert b"evil" not in answer
        assert b"idempotency" not in answer


async def test_a_trailer_about_the_connection_ends_it_after_the_answer(gateway):
    async with gateway() as (talk, _):
        answer = await talk(CHUNKED + b"\r\n2\r\n{}\r\n0\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer


async def test_trailers_have_the_limit_of_a_head(gateway):
    async with gateway(header_limit_bytes=2000) as (talk, pages):
        answer = await talk(CHUNKED + b"\r\n2\r\n{}\r\n0\r\n" + b"T: 1\r\n" * 400)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert pages.asked == []


@pytest.mark.parametrize("start", [b"2\r\n{}\r\n0\r\nT: ", b"2\r\n{}\r\n0\r\nT", b"2\r\n{}\r\n0;", b"2;"])
async def test_an_endless_trailer_or_chunk_extension_ends_the_connection(gateway, start):
    async with gateway(header_limit_bytes=2000) as (talk, pages):
        await talk(CHUNKED + b"\r\n" + start, endless=b"t" * 500)
        assert pages.asked == []


async def test_a_request_behind_a_large_body_is_no_large_head(gateway):
    async with gateway(header_limit_bytes=2000) as (talk, pages):
        body = b'"' + b"x" * 5000 + b'"'
        first = b"POST /echo/first HTTP/1.1\r\n" + JSON + b"Content-Length: %d\r\n\r\n" % len(body) + body
        await talk(first + LAST[:20], LAST[20:])
        assert pages.asked == ["first", "last"]


async def test_a_large_head_behind_a_request_is_refused(gateway):
    async with gateway(header_limit_bytes=2000) as (talk, pages):
        large = LAST[:-2] + b"X: " + b"x" * 1990 + b"\r\n\r\n"
        answer = await talk(HIDDEN + large[:1000], large[1000:])
        assert b"HTTP/1.1 431 " in answer
        assert pages.asked == ["hidden"]


GET = b"GET /echo/a HTTP/1.1\r\n"


@pytest.mark.parametrize(
    "request_, status, text",
    [
        (b"GET /echo/1\r\n\r\n", 400, b"without a version"),
        (b"GET /echo/1 HTTP/2.0\r\nHost: x\r\n\r\n", 505, b"HTTP/2.0"),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 501, b"none"),
        (b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"OPTIONS alone"),
        (CHUNKED.replace(b"chunked", b"gzip, chunked") + b"\r\n2\r\n{}\r\n0\r\n\r\n", 501, b"`gzip`"),
        (CHUNKED.replace(b"chunked", b"chunked, chunked") + b"\r\n", 400, b"Transfer-Encoding"),
        (CHUNKED.replace(b"chunked", b"identity") + b"\r\n", 400, b"must end with `chunked`"),
        (GET + b"Host: a b/@c\r\n\r\n", 400, b"`a b/@c`"),
        (GET + b"Host: [:::::]\r\n\r\n", 400, b"`[:::::]`"),
        (GET + b"Host: x:y\r\n\r\n", 400, b"`x:y`"),
        (GET + b"Host: a\xc3\xbc\r\n\r\n", 400, b"no host"),
    ],
)
async def test_what_no_server_can_answer_is_refused_with_the_reason(gateway, request_, status, text):
    async with gateway() as (talk, pages):
        answer = await talk(request_)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert text in answer
        assert pages.asked == []


@pytest.mark.parametrize("host", [b"", b"x:80", b"[::1]:80", b"a.b-c_d%20", b"127.0.0.1:"])
async def test_hosts_with_and_without_port_are_taken(gateway, host):
    async with gateway() as (talk, _):
        answer = await talk(GET + b"Connection: close\r\nHost: " + host + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("target", [b"http://x", b"http://x?a=1"])
async def test_an_absolute_target_without_a_path_asks_for_the_root(gateway, target):
    async with gateway() as (talk, _):
        answer = await talk(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 404 ")


async def test_http_1_0_is_not_told_to_continue(gateway):
    async with gateway() as (talk, _):
        head = b"POST /echo/a HTTP/1.0\r\n" + JSON + CONTINUE + b"Content-Length: 2\r\n\r\n"
        answer = await talk(head + b"{}")
        assert answer.startswith(b"HTTP/1.1 200 ")


async def test_what_the_connection_says_itself_is_not_said_twice(gateway):
    async with gateway() as (talk, _):
        answer = await talk(b"GET /dated HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.count(b"date: ") == 1
        assert b"yesterday" not in answer
        assert b"keep-alive" not in answer
        assert b"upgrade" not in answer
        assert b"x-mine: 1" in answer


async def test_where_packets_end_makes_no_difference(gateway):
    async with gateway() as (_, pages):
        body = b"2\r\n{}\r\n0\r\nT: 1\r\n\r\n"
        stream = CHUNKED + b"\r\n" + body + HIDDEN + b"HEAD /echo/b HTTP/1.1\r\n" + JSON + WEBSOCKET + b"\r\n" + LAST
        answers = set()
        for cut in range(0, len(stream), 3):
            async with raw_http(pages.url) as connection:
                connection.send(stream[:cut])
                await settle()
                connection.send(stream[cut:])
                answers.add(re.sub(rb"date: [^\r]*", b"", await connection.rest()))
        (answer,) = answers
        assert answer.count(b"HTTP/1.1 200 OK") == 4
        assert pages.asked == ["a", "hidden", "b", "last"] * (cut // 3 + 1)
