"""Clicks that the queue counts: on disk when the redirect is answered, counted once however often their jobs run."""

import asyncio
import contextlib

import httpx
import pytest

from linkly.errors import LinklyError
from linkly.schema import read_settings
from linkly.testing import ManualClock, settle
from linkly_workers.http import HttpSettings, HttpWorker
from linkly_workers.link import LinkSettings, LinkWorker
from linkly_workers.state import StateWorker
from support.database_calls import database_worker, until
from support.queue_workers import queue_worker, states

JOB = {"job": {"id": "j", "queue": "default", "attempt": 1, "max_attempts": 3, "enqueued_at": "2026-01-01T00:00:00Z"}}


@pytest.fixture
def queued(run, tmp_path):
    """Return what runs a shortener whose clicks are queued; yields an HTTP client and the bus."""

    @contextlib.asynccontextmanager
    async def start(*, queues=None, with_queue=True, clock=None, **settings):
        gateway = HttpWorker(read_settings(HttpSettings, {"port": 0}, "$"))
        link = LinkWorker(read_settings(LinkSettings, {"count": "queued", **settings}, "$"))
        workers = [StateWorker(), database_worker(f"sqlite:{tmp_path}/links.db"), gateway, link]
        if with_queue:
            workers.insert(2, queue_worker(queue_configs=queues or {}))
        async with run(*workers, clock=clock) as bus, httpx.AsyncClient(base_url=gateway.url) as client:
            await settle()
            yield client, bus

    return start


async def made(bus, code="a", **more):
    await bus.trigger("link::create", {"url": f"https://{code}.example", "code": code, **more})


async def counted(bus, code="a"):
    """Return the counter when all jobs have ended."""

    async def is_empty():
        return set(await states(bus)) <= {"done"}

    await until(is_empty)
    assert (await bus.trigger("link::verify", {}))["ok"]
    return (await bus.trigger("database::query", {"sql": f"SELECT clicks FROM links WHERE code = '{code}'"}))["rows"][
        0
    ]["clicks"]


async def test_every_redirect_is_in_the_counter_when_the_queue_is_empty(queued):
    async with queued(queues={"clicks": {"concurrency": 5}}, queue="clicks") as (client, bus):
        await made(bus)
        answers = await asyncio.gather(*(client.get("/s/a") for _ in range(50)))
        assert {(each.status_code, each.headers["location"]) for each in answers} == {(302, "https://a.example")}
        assert await counted(bus) == 50
        assert await states(bus) == {"done": 50}


async def test_a_click_is_on_disk_before_its_redirect(queued):
    async with queued() as (client, bus):
        await made(bus)
        assert (await client.get("/s/a")).status_code == 302
        assert sum((await states(bus)).values()) == 1


async def test_a_click_that_is_asked_for_again_is_counted_once(queued):
    async with queued() as (client, bus):
        await made(bus)
        for agent in ("one", "another"):
            headers = {"Idempotency-Key": "k", "User-Agent": agent}
            assert (await client.get("/s/a", headers=headers)).status_code == 302
        assert await counted(bus) == 1


async def test_a_job_that_runs_twice_counts_once(queued):
    async with queued() as (_, bus):
        await made(bus)
        for _ in range(2):
            assert await bus.trigger("link::count_queued", {"code": "a"}, metadata=JOB) == {"recorded": True}
        assert await counted(bus) == 1


async def test_a_click_that_was_accepted_counts_when_its_link_is_over(queued):
    clock = ManualClock(1_700_000_000)
    async with queued(clock=clock) as (client, bus):
        await made(bus, expires_at="2023-11-14T22:13:25Z")
        await clock.advance(5)
        assert (await client.get("/s/a")).status_code == 410
        click = {"code": "a", "clicked_at": "2023-11-14T22:13:24Z"}
        assert await bus.trigger("link::count_queued", click, metadata=JOB) == {"recorded": True}
        assert await counted(bus) == 1


async def test_a_link_with_a_limit_is_counted_before_its_redirect(queued):
    async with queued() as (client, bus):
        await made(bus, max_clicks=3)
        answers = await asyncio.gather(*(client.get("/s/a") for _ in range(8)))
        assert sorted(each.status_code for each in answers) == [302] * 3 + [410] * 5
        assert await states(bus) == {}
        assert await counted(bus) == 3


async def test_a_queued_click_says_when_it_was_and_what_it_was(queued):
    async with queued() as (client, bus):
        await made(bus)
        await client.get("/s/a", headers={"Referer": "https://from.example/x", "User-Agent": "Googlebot/2.1"})
        assert await counted(bus) == 1
        [click] = (await bus.trigger("database::query", {"sql": "SELECT * FROM clicks"}))["rows"]
        [job] = (await bus.trigger("database::query", {"sql": "SELECT id FROM linkly_queue_jobs"}))["rows"]
        assert (click["referrer"], click["bot"], click["click_id"]) == ("from.example", 1, job["id"])


async def test_a_queue_that_is_not_configured_is_named_with_the_setting(queued):
    with pytest.raises(LinklyError, match=r"no queue `clicks`; configured: default\..*`queue_configs`"):
        async with queued(queue="clicks"):
            pass


async def test_without_a_queue_worker_the_error_says_what_to_do(queued):
    with pytest.raises(LinklyError, match=r"worker `queue`, which is not there; add it .* `count: before_redirect`"):
        async with queued(with_queue=False):
            pass
