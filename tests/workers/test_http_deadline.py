"""A request has one deadline, whatever its time goes to: body, middleware, condition or function."""

import asyncio
import contextlib
from typing import Any

import httpx
import pytest

from linkly import Function, HttpRequest, HttpResponse, Worker, function, http
from linkly.schema import read_settings
from linkly.testing import ManualClock, running_engine, settle
from linkly_workers.http import HttpSettings, HttpWorker
from support.raw_http import raw_http


class Pages(Worker):
    name = "pages"

    def __init__(self, clock) -> None:
        super().__init__()
        self.clock = clock
        self.started: asyncio.Queue[str] = asyncio.Queue()

    @function("pages::echo", triggers=[http("POST", "/echo"), http("GET", "/echo")])
    async def echo(self, request: HttpRequest) -> HttpResponse:
        """Answer the body."""
        return HttpResponse(body=request.body)

    @function("pages::slow", triggers=[http("POST", "/slow")])
    async def slow(self, request: HttpRequest) -> None:
        """Take two seconds."""
        self.started.put_nowait("slow")
        await self.clock.sleep(2)

    @function("pages::guard")
    async def guard(self, payload: dict[str, Any]) -> dict[str, str]:
        """Let everybody pass, after two seconds."""
        self.started.put_nowait("guard")
        await self.clock.sleep(2)
        return {"action": "continue"}


@pytest.fixture
def gateway():
    @contextlib.asynccontextmanager
    async def start(**settings):
        clock = ManualClock()
        worker, pages = HttpWorker(read_settings(HttpSettings, {"port": 0, **settings}, "$")), Pages(clock)
        async with running_engine(worker, pages, clock=clock) as bus, httpx.AsyncClient(verify=False) as client:
            await settle()
            client.base_url = worker.url
            yield client, pages, bus, clock

    return start


async def dripping(client, clock, seconds):
    """Send one byte of a JSON body a second; return what is answered in that time."""
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
    async with raw_http(client.base_url) as connection:
        connection.send(head + b"Content-Length: 100\r\n\r\n")
        assert b" 100 " in await connection.line()
        answering = asyncio.create_task(connection.rest())
        for _ in range(seconds):
            if not connection.transport.is_closing():
                connection.send(b" ")
            for _ in range(10):
                await settle()
            await clock.advance(1)
        return await answering


async def test_a_body_that_drips_is_not_waited_for_longer_than_the_request_may_take(gateway):
    async with gateway(default_timeout=3000, concurrency_request_limit=1) as (client, _, _, clock):
        assert b"HTTP/1.1 408 " in await dripping(client, clock, 5)
        assert (await client.get("/echo")).status_code == 200


async def test_the_time_for_the_body_is_the_functions_no_more(gateway):
    async with gateway(default_timeout=3000) as (client, pages, _, clock), raw_http(client.base_url) as connection:
        head = b"POST /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        connection.send(head + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        await connection.line()
        await clock.advance(2)
        connection.send(b"{}")
        await asyncio.wait_for(pages.started.get(), 10)
        await clock.advance(1.1)
        assert b"HTTP/1.1 504 " in await connection.rest()


async def test_a_condition_has_the_time_of_the_request(gateway):
    async with gateway(default_timeout=3000) as (client, pages, bus, clock):

        async def never(payload):
            pages.started.put_nowait("condition")
            await clock.sleep(3600)

        bus.register_function(Function("test::never", never))
        bus.register_trigger("pages::echo", http("GET", "/checked", condition="test::never"))
        await settle()
        asking = asyncio.create_task(client.get("/checked"))
        await asyncio.wait_for(pages.started.get(), 10)
        await clock.advance(2.9)
        assert not asking.done()
        await clock.advance(0.2)
        answer = await asyncio.wait_for(asking, 10)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "TIMEOUT")


async def test_each_middleware_has_the_time_that_those_before_have_left(gateway):
    async with gateway(default_timeout=3000) as (client, pages, bus, clock):
        two = ("pages::guard", "pages::guard")
        bus.register_trigger("pages::echo", http("GET", "/guarded", middleware=two))
        await settle()
        asking = asyncio.create_task(client.get("/guarded"))
        await asyncio.wait_for(pages.started.get(), 10)
        await clock.advance(2)
        await asyncio.wait_for(pages.started.get(), 10)
        await clock.advance(1.1)
        answer = await asyncio.wait_for(asking, 10)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "MIDDLEWARE_TIMEOUT")


async def test_what_middleware_took_the_function_has_not(gateway):
    own = [{"function_id": "pages::guard"}]
    async with gateway(default_timeout=3000, middleware=own) as (client, pages, _, clock):
        asking = asyncio.create_task(client.post("/slow"))
        assert await asyncio.wait_for(pages.started.get(), 10) == "guard"
        await clock.advance(2)
        assert await asyncio.wait_for(pages.started.get(), 10) == "slow"
        await clock.advance(1.1)
        answer = await asyncio.wait_for(asking, 10)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "TIMEOUT")
