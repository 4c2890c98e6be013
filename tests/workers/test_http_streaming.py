"""Bodies and responses through channels: on a real socket, with the workers in process and over the wire."""

import asyncio
import contextlib
import json
import re

import httpx
import pytest

from linkly import HttpRequest, HttpResponse, LinklyError, Worker, function, http
from linkly.http import StreamedResponse
from linkly.schema import read_settings
from linkly.testing import ManualClock, settle
from linkly_workers.http import HttpSettings, HttpWorker
from support.raw_http import raw_http

pytestmark = pytest.mark.transports("in process", "native wire", "json wire")


class Streams(Worker):
    """Functions that read and write through channels."""

    name = "streams"

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = asyncio.Event()
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.written = 0
        self.messages: list[object] = []
        self.error: BaseException | None = None

    @function("streams::raw", triggers=[http("POST", "/raw", stream=True)])
    async def raw(self, request: HttpRequest) -> HttpResponse:
        """Answer the bytes that came, beside what was parsed."""
        reader = await self.bus.open_reader(request.request_body)
        raw = await reader.read_all()
        return HttpResponse(body={"raw": raw.decode("latin-1"), "body": request.body})

    @function("streams::size", triggers=[http("POST", "/size")])
    async def size(self, request: HttpRequest) -> HttpResponse:
        """Count a body while it comes."""
        if request.request_body is None:
            return HttpResponse(body=None)
        reader, size = await self.bus.open_reader(request.request_body), 0
        async for part in reader:
            size += len(part)
            self.started.set()
        return HttpResponse(body=size)

    @function("streams::unread", triggers=[http("POST", "/unread")])
    async def unread(self, request: HttpRequest) -> str:
        """Take no notice of the body."""
        return "done"

    @function("streams::events", triggers=[http("GET", "/events", stream=True)])
    async def events(self, request: HttpRequest) -> None:
        """Tell two things, the second when it may."""
        async with StreamedResponse(self.bus, request, headers={"content-type": "text/event-stream"}) as out:
            await out.event("one\ntwo", event="greeting", event_id="1", retry_ms=100)
            await self.may_go_on.wait()
            await out.event({"a": 1})

    @function("streams::head", triggers=[http("GET", "/empty", stream=True)])
    async def empty(self, request: HttpRequest) -> None:
        """Answer a status and headers only."""
        async with StreamedResponse(self.bus, request, status_code=202, headers={"x-a": "b"}):
            pass

    @function("streams::says", triggers=[http("GET", "/says", stream=True)])
    async def says(self, request: HttpRequest) -> None:
        """Say what the test wants before the end."""
        writer = await self.bus.open_writer(request.response)
        for message in self.messages:
            await writer.send_text(json.dumps(message))
        await writer.close()

    @function("streams::fails", triggers=[http("GET", "/fails/:when", stream=True)])
    async def fails(self, request: HttpRequest) -> None:
        """Fail before or after the first data."""
        async with StreamedResponse(self.bus, request) as out:
            if request.path_params["when"] == "late":
                await out.write("some")
                await self.may_go_on.wait()
            raise ValueError("it broke")

    @function("streams::buffered", triggers=[http("GET", "/buffered", stream=True)])
    async def buffered(self, request: HttpRequest) -> HttpResponse:
        """Answer without streaming."""
        return HttpResponse(status_code=201, body={"a": 1})

    @function("streams::nothing", triggers=[http("GET", "/nothing", stream=True)])
    async def nothing(self, request: HttpRequest) -> None:
        """Neither stream nor answer."""
        self.started.set()

    @function("streams::silent", triggers=[http("GET", "/silent", stream=True)])
    async def silent(self, request: HttpRequest) -> None:
        """Open the response and say nothing."""
        self.writer = await self.bus.open_writer(request.response)
        self.started.set()

    @function("streams::endless", triggers=[http("GET", "/endless", stream=True)])
    async def endless(self, request: HttpRequest) -> None:
        """Write until nobody reads."""
        try:
            async with StreamedResponse(self.bus, request) as out:
                while True:
                    await out.write(b"x" * 65_536)
                    self.written += 1
                    self.started.set()
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.ended.set()

    @function("streams::closed", triggers=[http("GET", "/closed")])
    async def closed(self, request: HttpRequest) -> None:
        """Try to stream without having said so."""
        async with StreamedResponse(self.bus, request):
            pass


@pytest.fixture
def gateway(run):
    @contextlib.asynccontextmanager
    async def start(clock=None, **settings):
        worker, streams = HttpWorker(read_settings(HttpSettings, {"port": 0, **settings}, "$")), Streams()
        async with run(worker, streams, clock=clock) as bus, httpx.AsyncClient(verify=False, timeout=20) as client:
            await settle()
            client.base_url = worker.url
            yield client, streams, bus
            streams.may_go_on.set()

    start.framing = run.framing
    return start


@pytest.mark.parametrize("text", ['{"b": 1,   "a": [1.0, "\\u00fc"]}', "{broken", ""])
async def test_the_raw_text_of_a_json_body_is_there_to_the_byte(gateway, text):
    async with gateway() as (client, _, _):
        answer = await client.post("/raw", content=text, headers={"content-type": "application/json"})
        assert answer.json()["raw"] == text


async def test_forms_are_read_from_the_raw_body(gateway):
    async with gateway() as (client, _, _):
        assert (await client.post("/raw", data={"a": "1 2"})).json() == {"raw": "a=1+2", "body": None}
        files = {"file": ("a.txt", b"content")}
        assert 'filename="a.txt"' in (await client.post("/raw", files=files)).json()["raw"]


async def test_an_upload_arrives_while_it_is_sent(gateway):
    async with gateway() as (client, streams, _):

        async def parts():
            yield b"x" * 1000
            await asyncio.wait_for(streams.started.wait(), 10)
            for _ in range(100):
                yield b"x" * 65_536

        assert (await client.post("/size", content=parts())).json() == 1000 + 100 * 65_536
        assert (await client.post("/size")).json() is None


async def test_an_upload_over_the_limit_is_a_413_while_it_is_sent(gateway):
    async with gateway(body_limit_bytes=100_000) as (client, _, _):

        async def parts():
            for _ in range(20):
                yield b"x" * 10_000

        answer = await client.post("/size", content=parts())
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_a_body_nobody_reads_does_not_stay(gateway):
    async with gateway() as (client, _, bus):
        for _ in range(3):
            assert (await client.post("/unread", content=b"x" * 300_000)).json() == "done"
        await settle()
        assert (await bus.trigger("engine::statistics"))["channels"] == []


async def test_events_leave_one_by_one(gateway):
    async with gateway() as (client, streams, _), client.stream("GET", "/events") as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        parts = answer.aiter_text()
        assert await anext(parts) == "event: greeting\nid: 1\nretry: 100\ndata: one\ndata: two\n\n"
        streams.may_go_on.set()
        assert await anext(parts) == 'data: {"a":1}\n\n'
        assert [part async for part in parts] == []


async def test_a_stream_without_data_has_its_status_and_headers(gateway):
    async with gateway() as (client, _, _):
        answer = await client.get("/empty")
        assert (answer.status_code, answer.headers["x-a"], answer.content) == (202, "b", b"")


async def test_a_head_request_to_a_stream_has_no_body(gateway):
    async with gateway() as (client, _, _):
        answer = await client.head("/events")
        assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "text/event-stream", b"")
        assert (await client.get("/buffered")).status_code == 201


async def test_a_function_that_may_stream_can_answer_as_any_other(gateway):
    async with gateway() as (client, _, bus):
        answer = await client.get("/buffered")
        assert (answer.status_code, answer.json()) == (201, {"a": 1})
        await settle()
        assert (await bus.trigger("engine::statistics"))["channels"] == []


async def test_only_a_failure_before_the_first_data_is_a_500(gateway, caplog):
    async with gateway() as (client, streams, _):
        early = await client.get("/fails/early")
        assert (early.status_code, early.json()["error"]["code"]) == (500, "invocation_failed")
        async with client.stream("GET", "/fails/late") as answer:
            parts = answer.aiter_text()
            assert await anext(parts) == "some"
            streams.may_go_on.set()
            assert answer.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
                await anext(parts)
        assert "cut off" in caplog.text
        assert (await client.get("/fails/early")).status_code == 500


async def test_null_from_a_function_that_never_opened_its_response_is_answered(gateway):
    clock = ManualClock()
    async with gateway(clock=clock) as (client, streams, _):
        asking = asyncio.create_task(client.get("/nothing"))
        await asyncio.wait_for(streams.started.wait(), 10)
        await settle()
        await clock.advance(5)
        answer = await asking
        assert (answer.status_code, answer.json()) == (200, None)


async def test_null_from_a_function_that_opened_its_response_waits_until_the_time_out(gateway):
    clock = ManualClock()
    async with gateway(clock=clock) as (client, streams, _):
        asking = asyncio.create_task(client.get("/silent"))
        await asyncio.wait_for(streams.started.wait(), 10)
        await settle()
        await clock.advance(29)
        assert not asking.done()
        await clock.advance(2)
        answer = await asking
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "TIMEOUT")


async def test_a_client_slows_and_ends_the_writer_of_its_stream(gateway):
    async with gateway() as (client, streams, bus), raw_http(client.base_url, limit=1024) as connection:
        connection.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in await connection.line()
        written = -1
        while written != streams.written:  # until sockets and channel are full
            written = streams.written
            for _ in range(200):
                await settle()
        assert written < 500
        assert not streams.ended.is_set()
        connection.transport.abort()
        await asyncio.wait_for(streams.ended.wait(), 10)
        await settle()
        assert (await bus.trigger("engine::statistics"))["channels"] == []


async def test_streaming_has_to_be_declared(gateway, caplog):
    async with gateway() as (client, _, _):
        answer = await client.get("/closed")
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "INVALID_ARGUMENTS")
        assert "stream=True" in answer.json()["error"]["message"]


async def test_http_1_0_gets_no_chunks(gateway):
    async with gateway() as (client, streams, _), raw_http(client.base_url) as connection:
        streams.may_go_on.set()
        connection.send(b"GET /events HTTP/1.0\r\n\r\n")
        head, _, body = (await connection.rest()).partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head
        assert body.endswith(b'data: two\n\ndata: {"a":1}\n\n')


async def test_an_event_type_of_two_lines_is_refused():
    with pytest.raises(LinklyError, match="one line"):
        await StreamedResponse(None, HttpRequest()).event("x", event="a\nb")


async def test_the_head_of_a_stream_is_read_as_that_of_a_return_value(gateway):
    async with gateway() as (client, streams, _):
        streams.messages = [
            {"type": "set_status", "status_code": "404"},
            {"type": "set_headers", "headers": {"Set-Cookie": ["a=1", "b=2"], "X-N": 5, "X-A": "1"}},
            {"type": "set_headers", "headers": {"x-a": ["2", "3"]}},
            {"type": "dance"},
            "what",
        ]
        answer = await client.get("/says")
        assert (answer.status_code, answer.headers["x-n"]) == (404, "5")
        assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
        assert answer.headers.get_list("x-a") == ["2", "3"]


@pytest.mark.parametrize(
    "message, field",
    [
        ({"type": "set_status", "status_code": True}, "status_code is true"),
        ({"type": "set_headers", "headers": {"X-Map": {"a": 1}}}, r'headers\["X-Map"\]'),
        ({"type": "set_headers", "headers": 5}, "headers are 5"),
    ],
)
async def test_a_stream_that_says_what_cannot_be_sent_is_a_500(gateway, caplog, message, field):
    async with gateway() as (client, streams, _):
        streams.messages = [message]
        answer = await client.get("/says")
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (500, "serialization_error")
        assert re.search(f"{error['error_id']}.*`streams::says`.*{field}", caplog.text)
