"""The end of a gateway: requests are finished by the clock that is passed in, whoever is late is told so."""

import asyncio
import contextlib

import httpx
import pytest

from linkly import HttpRequest, Worker, function, http
from linkly.http import StreamedResponse
from linkly.schema import read_settings
from linkly.testing import ManualClock, running_engine, settle
from linkly_workers.http import HttpSettings, HttpWorker
from support.raw_http import raw_http


class Pages(Worker):
    """Functions that take their time."""

    name = "pages"

    def __init__(self) -> None:
        super().__init__()
        self.started = asyncio.Event()
        self.calls = 0
        self.may_end = asyncio.Event()

    @function("pages::slow", triggers=[http("GET", "/slow")])
    async def slow(self, request: HttpRequest) -> str:
        """Answer when it may."""
        self.calls += 1
        self.started.set()
        await self.may_end.wait()
        return "slow"

    @function("pages::parts", triggers=[http("GET", "/parts", stream=True)])
    async def in_parts(self, request: HttpRequest) -> None:
        """Begin, and go on when it may."""
        async with StreamedResponse(self.bus, request) as out:
            await out.write("one")
            self.started.set()
            await self.may_end.wait()


class EarlyClock(ManualClock):
    """Its timers fire a millisecond early, as uvloop's do: they go by whole milliseconds."""

    def call_later(self, delay_s, callback):
        """Call `callback` a little before `delay_s` seconds have passed."""
        return super().call_later(delay_s - 0.001, callback)


@pytest.fixture
def gateway():
    @contextlib.asynccontextmanager
    async def start(clock=None):
        clock, worker, pages = (
            clock or ManualClock(),
            HttpWorker(read_settings(HttpSettings, {"port": 0}, "$")),
            Pages(),
        )
        async with httpx.AsyncClient(verify=False) as client, running_engine(worker, pages, clock=clock):
            await settle()
            client.base_url = worker.url
            yield client, worker, pages, clock

    return start


async def test_a_drain_waits_for_a_request_and_takes_others_meanwhile(gateway):
    async with gateway() as (client, worker, pages, _):
        asking = asyncio.create_task(client.get("/slow"))
        await asyncio.wait_for(pages.started.wait(), 10)
        draining = asyncio.create_task(worker.drain())
        assert (await client.get("/healthz")).status_code == 200
        assert not draining.done()
        pages.may_end.set()
        assert (await asking).json() == "slow"
        await asyncio.wait_for(draining, 10)


async def test_a_request_that_takes_too_long_is_told_to_ask_again(gateway):
    async def pass_time(asking, clock):
        await settle()
        await clock.advance(4.9)
        assert not asking.done()
        await clock.advance(0.2)
        return await asking

    async with gateway() as (client, _, pages, clock):
        asking = asyncio.create_task(client.get("/slow"))
        await asyncio.wait_for(pages.started.wait(), 10)
        passing = asyncio.create_task(pass_time(asking, clock))
        # The gateway ends here.
    answer = await asyncio.wait_for(passing, 10)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "SHUTDOWN")


async def test_a_drain_ends_though_its_timer_fires_early(gateway):
    async with gateway(EarlyClock()) as (client, worker, pages, clock):
        asking = asyncio.create_task(client.get("/slow"))
        await asyncio.wait_for(pages.started.wait(), 10)
        draining = asyncio.create_task(worker.drain())
        await settle()
        await clock.advance(4.9995)
        await asyncio.wait_for(draining, 10)
        pages.may_end.set()
        await asking


async def test_a_stream_is_not_waited_for(gateway):
    async with gateway() as (client, worker, pages, _), client.stream("GET", "/parts") as answer:
        assert answer.status_code == 200
        await asyncio.wait_for(pages.started.wait(), 10)
        await asyncio.wait_for(worker.drain(), 10)
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            await answer.aread()


class Slow(Worker):
    """Asks for its own page while it ends."""

    name = "slow"
    url, answer = "", None

    @function("slow::page", triggers=[http("GET", "/page")])
    async def page(self) -> str:
        """Answer."""
        return "page"

    @contextlib.asynccontextmanager
    async def lifespan(self):
        """Run, and ask at the end."""
        yield
        async with httpx.AsyncClient(verify=False) as client:
            try:
                self.answer = (await client.get(self.url)).status_code
            except httpx.ConnectError:
                self.answer = "closed"


async def test_at_the_end_of_an_engine_the_gateway_ends_before_what_it_calls():
    gateway, slow = HttpWorker(read_settings(HttpSettings, {"port": 0}, "$")), Slow()
    async with running_engine(gateway, slow):
        slow.url = f"{gateway.url}/page"
    assert slow.answer == "closed"


async def test_requests_that_wait_behind_the_one_that_is_served_are_left_for_the_next_gateway(gateway):
    async def let_it_end(pages):
        await settle()
        pages.may_end.set()

    async with contextlib.AsyncExitStack() as connections:
        async with gateway() as (_, worker, pages, _):
            connection = await connections.enter_async_context(raw_http(worker.url))
            connection.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
            await asyncio.wait_for(pages.started.wait(), 10)
            ending = asyncio.create_task(let_it_end(pages))
            # The gateway ends here.
        await ending
        answer = await connection.rest()
    assert answer.count(b"HTTP/1.1 200 OK") == answer.count(b"HTTP/1.1") == pages.calls == 1
    assert b"connection: close" in answer
