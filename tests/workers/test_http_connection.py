"""What a client may take in bytes and time, and what HTTP says about connections; on real sockets."""

import asyncio
import contextlib
import gc

import pytest

from linkly import HttpRequest, HttpResponse, Worker, function, http
from linkly.http import StreamedResponse
from linkly.schema import read_settings
from linkly.testing import ManualClock, running_engine, settle
from linkly_workers.http import HttpSettings, HttpWorker
from linkly_workers.http.protocol import GatewayProtocol
from support.raw_http import raw_http


class Pages(Worker):
    name = "pages"

    def __init__(self) -> None:
        super().__init__()
        self.may_end = asyncio.Event()
        self.started = asyncio.Event()
        self.served = 0
        self.cancelled = asyncio.Event()

    @function("pages::echo", triggers=[http("POST", "/echo"), http("GET", "/echo")])
    async def echo(self, request: HttpRequest) -> HttpResponse:
        """Answer the body."""
        return HttpResponse(body=request.body)

    @function("pages::slow", triggers=[http("GET", "/slow"), http("POST", "/slow")])
    async def slow(self, request: HttpRequest) -> HttpResponse:
        """Answer when it may."""
        self.started.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return HttpResponse(body="slow")

    @function("pages::large", triggers=[http("GET", "/large")])
    async def large(self, request: HttpRequest) -> HttpResponse:
        """Answer a megabyte."""
        self.served += 1
        return HttpResponse(headers={"content-type": "text/plain"}, body="x" * 1_000_000)

    @function("pages::huge", triggers=[http("GET", "/huge")])
    async def huge(self, request: HttpRequest) -> HttpResponse:
        """Answer more than the kernel keeps."""
        self.started.set()
        return HttpResponse(headers={"content-type": "text/plain"}, body="x" * 20_000_000)

    @function("pages::parts", triggers=[http("GET", "/parts", stream=True)])
    async def in_parts(self, request: HttpRequest) -> None:
        """Answer in two parts, the second when it may."""
        async with StreamedResponse(self.bus, request) as out:
            await out.write("one")
            self.started.set()
            await self.may_end.wait()
            await out.write("two")

    @function("pages::leave", triggers=[http("GET", "/leave")])
    async def leave(self, request: HttpRequest) -> None:
        """End the program, or try to."""
        raise SystemExit("usage: leave")


@pytest.fixture
def gateway():
    @contextlib.asynccontextmanager
    async def start(clock=None, **settings):
        worker, pages = HttpWorker(read_settings(HttpSettings, {"port": 0, **settings}, "$")), Pages()
        async with running_engine(worker, pages, clock=clock), contextlib.AsyncExitStack() as connections:

            async def connect(data):
                connection = await connections.enter_async_context(raw_http(worker.url))
                connection.send(data)
                return connection

            yield connect, pages
            pages.may_end.set()

    return start


GET = b"GET /echo HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "head, status",
    [
        (GET + b"X: " + b"x" * 3000 + b"\r\n\r\n", 431),
        (GET + b"X: x\r\n" * 600 + b"\r\n", 431),
        (GET + b"X: " + b"x" * 3000, 431),
        (b"GET /" + b"x" * 600 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /" + b"x" * 600, 414),
    ],
)
async def test_heads_and_targets_over_their_limit_are_refused(gateway, head, status):
    async with gateway(header_limit_bytes=2000, target_limit_bytes=500) as (connect, _):
        connection = await connect(head)
        answer = await connection.rest()
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"connection: close" in answer


async def test_a_large_body_is_no_large_head(gateway):
    async with gateway(header_limit_bytes=2000) as (connect, _):
        body = b'"' + b"x" * 5000 + b'"'
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        connection = await connect(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert (await connection.rest()).endswith(body)


@pytest.mark.parametrize(
    "sent, answer",
    [
        (b"", b""),
        (b"GET /echo HTTP/1.1\r\nHos", b"HTTP/1.1 408 "),
        (
            b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n1",
            b"HTTP/1.1 408 ",
        ),
        (GET + b"\r\n", b"HTTP/1.1 200 "),
    ],
)
async def test_who_does_not_finish_is_not_waited_for(gateway, sent, answer):
    clock = ManualClock()
    async with gateway(clock=clock, body_timeout_ms=10_000, keep_alive_timeout_ms=10_000) as (connect, _):
        connection = await connect(sent)
        for _ in range(20):
            await settle()
        reading = asyncio.create_task(connection.rest())
        await clock.advance(9)
        assert not reading.done()
        await clock.advance(3)
        assert (await reading)[: len(answer) or None] == answer


async def test_a_head_that_trickles_gets_no_more_time(gateway):
    clock = ManualClock()
    async with gateway(clock=clock) as (connect, _):
        connection = await connect(b"GET /echo HTTP/1.1\r\n")
        for number in range(6):
            connection.send(b"X-%d: 1\r\n" % number)
            for _ in range(5):
                await settle()
            await clock.advance(2)
        assert (await connection.rest()).startswith(b"HTTP/1.1 408 ")


async def test_the_time_of_the_function_is_not_the_clients(gateway):
    clock = ManualClock()
    async with gateway(clock=clock, default_timeout=600_000) as (connect, pages):
        connection = await connect(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await asyncio.wait_for(pages.started.wait(), 10)
        await clock.advance(300)
        pages.may_end.set()
        assert (await connection.rest()).endswith(b'"slow"')


@pytest.mark.parametrize(
    "headers",
    [
        b"Host: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Host: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n",
        b"Host: x\r\nTransfer-Encoding: chunked, gzip\r\n",
        b"Host: x\r\nContent-Length: +4\r\n",
        b"Host: x\r\nHost: y\r\n",
        b"Content-Type: text/plain\r\n",
        b"Host: x\r\nBad Name: 1\r\n",
    ],
)
async def test_what_could_be_read_in_two_ways_is_refused(gateway, headers):
    async with gateway() as (connect, _):
        connection = await connect(b"POST /echo HTTP/1.1\r\n" + headers + b"\r\n0\r\n\r\n")
        answer = await connection.rest()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1") == 1


async def test_pipelined_requests_are_answered_in_order(gateway):
    async with gateway() as (connect, pages):
        second = GET + b"Connection: close\r\n\r\n"
        connection = await connect(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + second)
        await asyncio.wait_for(pages.started.wait(), 10)
        pages.may_end.set()
        answer = await connection.rest()
        assert answer.index(b'"slow"') < answer.index(b"null")


@pytest.mark.parametrize(
    "nonsense",
    [b"nonsense\r\n\r\n", b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"],
)
async def test_nonsense_after_a_request_does_not_disturb_its_answer(gateway, nonsense):
    async with gateway() as (connect, pages):
        connection = await connect(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + nonsense)
        await asyncio.wait_for(pages.started.wait(), 10)
        pages.may_end.set()
        answer = await connection.rest()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b'"slow"')


async def test_expect_continue_and_chunks(gateway):
    async with gateway() as (connect, _):
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        connection = await connect(head + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert b" 100 " in await connection.line()
        connection.send(b'2\r\n"a\r\n2\r\nb"\r\n0\r\n\r\n')
        assert (await connection.rest()).endswith(b'"ab"')


async def test_a_body_that_is_too_large_is_refused_before_it_is_sent(gateway):
    async with gateway(body_limit_bytes=10) as (connect, _):
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n"
        connection = await connect(head)
        answer = await connection.rest()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b" 100 " not in answer


async def test_http_1_0_closes_after_its_answer(gateway):
    async with gateway() as (connect, _):
        connection = await connect(b"GET /echo HTTP/1.0\r\n\r\n")
        answer = await connection.rest()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"null")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + GET + b"\r\n",
        b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + GET,
        b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
    ],
)
async def test_a_client_that_hangs_up_is_noticed(gateway, sent, caplog):
    async with gateway() as (connect, pages):
        connection = await connect(sent)
        await asyncio.wait_for(pages.started.wait(), 10)
        connection.transport.close()
        await asyncio.wait_for(pages.cancelled.wait(), 10)
        await settle()
        assert "ASGI" not in caplog.text


@pytest.fixture
def protocols():
    """Return what counts the gateway's ends of connections in memory; the garbage collector takes none meanwhile."""
    gc.collect()
    gc.disable()
    yield lambda: sum(isinstance(each, GatewayProtocol) for each in gc.get_objects())
    gc.enable()


@pytest.mark.parametrize(
    "sent, answers",
    [
        (b"", 0),
        (GET, 0),
        (GET + b"\r\n", 1),
        (GET + b"Connection: close\r\n\r\n", 1),
        (GET + b"\r\n" + GET + b"\r\n", 2),
        (b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + GET + b"\r\n", 0),
        (b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", 0),
        (b"GET /parts HTTP/1.1\r\nHost: x\r\n\r\n", 1),
        (b"GET /missing HTTP/1.1\r\nHost: x\r\n\r\n", 1),
        (b"nonsense\r\n\r\n", 1),
    ],
)
async def test_nothing_is_left_of_a_connection_that_has_ended(gateway, protocols, sent, answers):
    async with gateway() as (connect, pages):
        connection = await connect(sent)
        async with asyncio.timeout(10):
            if b"/slow" in sent:
                await pages.started.wait()
            for _ in range(answers):
                while b"HTTP/1.1 " not in await connection.line():
                    pass
            while not (answers or protocols()):
                await settle()
            connection.transport.close()
            while protocols():
                await settle()


async def test_requests_that_arrive_while_others_wait_are_answered_in_order(gateway):
    async with gateway() as (connect, pages):
        connection = await connect(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + GET + b"\r\n")
        await asyncio.wait_for(pages.started.wait(), 10)
        last = b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        connection.send((GET + b"\r\n") * 3000 + last + b"Content-Length: 6\r\n\r\n")
        for _ in range(20):
            await settle()
        connection.send(b'"last"')
        pages.may_end.set()
        answer = await connection.rest()
        assert answer.count(b"HTTP/1.1 200 OK") == 3003
        assert answer.index(b'"slow"') < answer.index(b"null")
        assert answer.endswith(b'"last"')


async def test_requests_that_wait_for_a_streamed_response_are_answered_after_it(gateway):
    async with gateway() as (connect, pages):
        parts = b"GET /parts HTTP/1.1\r\nHost: x\r\n\r\n"
        connection = await connect(parts + parts)
        await asyncio.wait_for(pages.started.wait(), 10)
        connection.send(GET + b"Connection: close\r\n\r\n")
        pages.may_end.set()
        answer = await connection.rest()
        assert answer.count(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n") == 2
        assert answer.endswith(b"null")


async def test_the_requests_of_a_client_that_does_not_read_wait(gateway):
    async with gateway() as (connect, pages):
        connection = await connect(b"")
        connection.transport.pause_reading()
        one = b"GET /large HTTP/1.1\r\nHost: x\r\n"
        connection.send((one + b"\r\n") * 49 + one + b"Connection: close\r\n\r\n")
        for _ in range(1000):
            await settle()
        assert 1 <= pages.served < 30
        connection.transport.resume_reading()
        assert (await connection.rest()).count(b"HTTP/1.1 200 OK") == 50


async def test_requests_of_one_moment_do_not_pass_the_limit_together(gateway):
    async with gateway(concurrency_request_limit=2) as (connect, pages):
        connections = [await connect(b"") for _ in range(8)]
        await settle()
        for connection in connections:
            connection.send(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        statuses = []
        for answer in asyncio.as_completed([connection.rest() for connection in connections]):
            statuses.append((await answer)[9:12])
            if len(statuses) == 6:
                pages.may_end.set()
        assert statuses == [b"503"] * 6 + [b"200"] * 2


async def test_who_sends_no_more_gets_what_is_answered_at_once(gateway):
    async with gateway() as (connect, pages):
        slow = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
        connection = await connect((GET + b"\r\n") * 20 + slow + GET + b"\r\n")
        connection.transport.write_eof()
        answer = await connection.rest()
        assert answer.count(b"HTTP/1.1 200 OK") == 20
        assert pages.cancelled.is_set()


async def test_a_function_that_exits_ends_its_request_alone(gateway, caplog):
    async with gateway() as (connect, _):
        leave = b"GET /leave HTTP/1.1\r\nHost: x\r\n\r\n"
        connection = await connect(leave + GET + b"Connection: close\r\n\r\n")
        answer = await connection.rest()
        assert answer.startswith(b"HTTP/1.1 500")
        assert answer.count(b"HTTP/1.1 200 OK") == 1
        assert "usage" not in answer.decode()
        assert "usage: leave" in caplog.text


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n", b"\r\n" + b"GET /large HTTP/1.1\r\nHost: x\r\n"])
async def test_who_reads_nothing_is_cut_off(gateway, more):
    clock = ManualClock()
    async with gateway(clock, body_timeout_ms=5000) as (connect, pages):
        connection = await connect(b"")
        connection.transport.pause_reading()
        connection.send(b"GET /huge HTTP/1.1\r\nHost: x\r\n" + more + b"\r\n")
        await asyncio.wait_for(pages.started.wait(), 10)
        for _ in range(13):
            await settle()
            await clock.advance(1)
        connection.transport.resume_reading()
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            answer = await connection.rest()
        assert len(answer) < 20_000_000
