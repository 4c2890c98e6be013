"""Queues on a server whose connection is lost at the worst moment, and values that a server refuses."""

import asyncio

import pytest

from linkly import LinklyError
from linkly.testing import running_engine
from support.cutting_proxy import CuttingProxy
from support.database_calls import database_worker, rows, value
from support.database_servers import POSTGRES
from support.queue_workers import App, counted, queue_worker, running_queue, until_states

ALONE = {"default": {"poll_interval_ms": 1_000_000}}


@pytest.fixture(scope="module")
def server():
    """A server that nobody else has."""
    if POSTGRES.missing is not None:
        pytest.skip(POSTGRES.missing)
    with POSTGRES.run() as server:
        yield server


@pytest.fixture
async def url(server):
    """Return the url of the server, without tables of an earlier test."""
    async with running_engine(database_worker(server.url)) as bus:
        for row in await rows(bus, "SELECT tablename AS name FROM pg_tables WHERE tablename LIKE 'linkly%'"):
            await bus.trigger("database::execute", {"sql": f"DROP TABLE {row['name']}"})
    return server.url


def through(proxy, url):
    """Return the url of a server by way of a proxy."""
    return url.replace(f":{proxy.target}/", f":{proxy.port}/")


@pytest.mark.parametrize("more", [{}, {"idempotency_key": "k"}], ids=["without key", "with key"])
async def test_a_job_whose_commit_was_not_answered_is_accepted_once(server, url, more):
    async with (
        CuttingProxy(server.port).open() as proxy,
        running_queue(through(proxy, url), queue_configs=ALONE) as bus,
        running_queue(url, queue_configs=ALONE) as seeing,
    ):
        job = {"function_id": "nobody::serves", "payload": {"n": 1}, **more}
        await bus.trigger("queue::enqueue", {**job, "idempotency_key": "first"})
        proxy.cuts, proxy.cut_at = 1, b"COMMIT\0"
        answer = await bus.trigger("queue::enqueue", job)
        assert proxy.cuts == 0
        assert (
            await value(seeing, "SELECT COUNT(*) FROM linkly_queue_jobs WHERE id = ?", answer["messageReceiptId"]) == 1
        )
        assert await counted(seeing) == {"accepted": 2}


async def test_a_claim_whose_commit_was_not_answered_is_given_back_and_counts_as_no_attempt(server, url):
    lines = {"lines": {"type": "fifo", "message_group_field": "group", "poll_interval_ms": 50}}
    app = App()
    async with (
        running_queue(url, queue_configs=lines) as front,
        CuttingProxy(server.port).open() as proxy,
        running_engine(database_worker(through(proxy, url)), queue_worker(queue_configs=lines), app),
    ):
        proxy.cuts, proxy.cut_at = 1, b"COMMIT\0"
        job = {"function_id": "app::work", "queue": "lines", "payload": {"group": "a"}}
        await front.trigger("queue::enqueue_many", {"jobs": [job, job]})
        await until_states(front, done=2)
        assert proxy.cuts == 0
        assert await counted(front) == {"accepted": 2, "done": 2}
    assert [job["attempt"] for job in app.jobs] == [1, 1]


async def test_what_an_engine_has_locked_that_stands_still_in_a_transaction_is_free_when_its_lease_is_over(server, url):
    lines = {"lines": {"type": "fifo", "message_group_field": "group", "poll_interval_ms": 10}}
    app = App()
    async with (
        CuttingProxy(server.port).open() as proxy,
        running_queue(url, queue_configs=lines) as front,
        running_queue(through(proxy, url), App(), queue_configs=lines, lease_ms=1000, stop_grace_s=0),
    ):
        proxy.keep_at = b"COMMIT\0"
        job = {"function_id": "app::work", "queue": "lines", "payload": {"group": "a"}}
        await front.trigger("queue::enqueue", job)
        await proxy.kept.wait()
        async with running_queue(url, app, queue_configs=lines):
            await app.called(1)
            proxy.keep_at = None
            await until_states(front, done=1)
    assert [job["attempt"] for job in app.jobs] == [1]


async def test_a_text_that_the_server_refuses_fails_its_own_caller_only(url):
    async with running_queue(url, queue_configs=ALONE) as bus:
        jobs = [{"function_id": "nobody::serves", "idempotency_key": key} for key in ("a", "b\0", "c")]
        results = await asyncio.gather(*(bus.trigger("queue::enqueue", job) for job in jobs), return_exceptions=True)
        assert [isinstance(result, LinklyError) for result in results] == [False, True, False]
        assert await counted(bus) == {"accepted": 2}
