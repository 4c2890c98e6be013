"""What links do while the PostgreSQL they are in is away: everybody is told to try again, and nothing is lost."""

import asyncio
import contextlib
import signal

import httpx
import pytest

from linkly.schema import read_settings
from linkly.testing import running_engine, settle
from linkly_workers._scripts import Unavailable
from linkly_workers.http import HttpSettings, HttpWorker
from linkly_workers.link import LinkSettings, LinkWorker
from linkly_workers.state import StateWorker
from support import database_calls
from support.cutting_proxy import CuttingProxy
from support.database_calls import database_worker, refused, value
from support.postgres_server import MISSING, binaries, running_server
from support.queue_workers import queue_worker

pytestmark = pytest.mark.skipif(binaries() is None, reason=MISSING)

REQUESTS = [
    ("GET", "/s/a", {}),
    ("GET", "/s/a", {"headers": {"Idempotency-Key": "one"}}),
    ("HEAD", "/s/unknown", {}),
    ("POST", "/links", {"json": {"url": "https://b.example"}}),
    ("PUT", "/links/a", {"json": {"url": "https://b.example"}}),
    ("DELETE", "/links/a", {}),
    ("GET", "/links", {}),
    ("GET", "/links/a/stats", {}),
]


@pytest.fixture(scope="module")
def server():
    """A server that may be killed: nobody else's."""
    with running_server() as server:
        yield server


@contextlib.asynccontextmanager
async def engine(url, *, patience_ms=100, beside=(), **settings):
    """Run a shortener; yields an HTTP client and the bus."""
    gateway = HttpWorker(read_settings(HttpSettings, {"port": 0}, "$"))
    link = LinkWorker(read_settings(LinkSettings, settings, "$"))
    database = database_worker(url, pool={"acquire_timeout_ms": patience_ms})
    async with (
        running_engine(StateWorker(), database, *beside, gateway, link) as bus,
        httpx.AsyncClient(timeout=60) as client,
    ):
        await settle()
        client.base_url = gateway.url
        yield client, bus


async def until(answered, status):
    async with asyncio.timeout(60):
        while (answer := await answered()).status_code != status:
            assert answer.status_code == 503
            await asyncio.sleep(0.05)  # the server is there when it is there
    return answer


async def test_while_the_server_is_away_every_request_is_told_to_come_again(server):
    async with engine(server.url) as (client, bus):
        await bus.trigger("link::create", {"url": "https://a.example", "code": "a"})
        server.stop(signal.SIGQUIT)
        try:
            for method, path, more in REQUESTS:
                answer = await client.request(method, path, **more)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), (method, path)
                if method != "HEAD":
                    assert "try again" in answer.json()["error"]
                    assert str(server.port) not in answer.text
            error = await refused(bus, "query", sql="SELECT 1")
            assert error.details["retryable"]
            with pytest.raises(Unavailable, match=rf"127\.0\.0\.1:{server.port}"):
                await bus.trigger("link::list", {})
        finally:
            server.start()
        answer = await until(lambda: client.get("/s/a"), 302)
        assert answer.headers["location"] == "https://a.example"
        proof = await bus.trigger("link::verify", {})
        assert (proof["ok"], proof["rows"]) == (True, 1)
        await bus.trigger("link::delete", {"code": "a"})


async def test_a_click_that_cannot_be_queued_is_told_to_come_again(server):
    async with engine(server.url, count="queued", beside=[queue_worker()]) as (client, bus):
        await bus.trigger("link::create", {"url": "https://a.example", "code": "a"})
        server.stop(signal.SIGQUIT)
        try:
            answer = await client.get("/s/a")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        finally:
            server.start()
        await until(lambda: client.get("/s/a"), 302)

        async def is_counted():
            return await value(bus, "SELECT clicks FROM links") == 1

        await database_calls.until(is_counted)
        assert (await bus.trigger("link::verify", {}))["ok"]
        await bus.trigger("link::delete", {"code": "a"})


async def test_redirects_wait_for_a_server_that_is_started_again(server):
    async with engine(server.url, patience_ms=60_000) as (client, bus):
        await bus.trigger("link::create", {"url": "https://a.example", "code": "a"})
        server.stop(signal.SIGQUIT)
        waiting = [asyncio.ensure_future(client.get("/s/a")) for _ in range(8)]
        await settle(100)
        server.start()
        assert [(await answer).status_code for answer in waiting] == [302] * len(waiting)
        assert await value(bus, "SELECT clicks FROM links") == len(waiting)
        await bus.trigger("link::delete", {"code": "a"})


async def test_an_engine_that_starts_before_its_server_opens_the_links_when_it_is_there(server):
    async with engine(server.url) as (_, bus):
        await bus.trigger("link::create", {"url": "https://a.example", "code": "a"})
    server.stop()
    try:
        async with engine(server.url) as (client, bus):
            assert (await client.get("/s/a")).status_code == 503
            server.start()
            assert (await until(lambda: client.get("/s/a"), 302)).headers["location"] == "https://a.example"
            await bus.trigger("link::delete", {"code": "a"})
    finally:
        server.stop()
        server.start()


async def test_a_click_with_an_id_is_certain_when_the_answer_to_its_commit_got_lost(server):
    async with CuttingProxy(server.port).open() as proxy:
        url = server.url.replace(f":{server.port}/", f":{proxy.port}/")
        async with engine(url, patience_ms=10_000) as (client, bus):
            await bus.trigger("link::create", {"url": "https://a.example", "code": "a"})
            proxy.cut_at, proxy.cuts = b"COMMIT\0", 1
            assert (await client.get("/s/a", headers={"Idempotency-Key": "one"})).status_code == 302
            assert await value(bus, "SELECT clicks FROM links") == 1
            proxy.cut_at, proxy.cuts = b"COMMIT\0", 1
            answer = await client.get("/s/a")
            assert (answer.status_code, answer.json()["error"]["code"]) == (500, "outcome_unknown")
            assert await value(bus, "SELECT clicks FROM links") == 2
            assert (await bus.trigger("link::verify", {}))["ok"]
            await bus.trigger("link::delete", {"code": "a"})
