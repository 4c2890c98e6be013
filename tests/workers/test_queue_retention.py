"""What has ended is removed some time later; jobs without their function die; queues leave the config and come back."""

from contextlib import asynccontextmanager

import pytest

from linkly import Worker, function
from linkly.errors import HandlerFailed
from linkly.queue import DeadJob, subscribe_dead
from linkly.testing import ManualClock, running_engine
from support.database_calls import database_worker, until
from support.queue_workers import App, queue_worker, running_queue, states, until_states

DAY_S = 86_400
FIFO = {"type": "fifo", "message_group_field": "g"}


@pytest.fixture
def running(running_queues):
    """Run a queue both ways; what was counted and what is there agree at the end."""

    @asynccontextmanager
    async def run(*workers, **settings):
        async with running_queues(*workers, **settings) as bus:
            yield bus
            assert (await bus.trigger("queue::verify", timeout_s=1e6))["differences"] == []

    return run


async def enqueue(bus, *payloads, queue="default", **more):
    jobs = [{"function_id": "app::work", "payload": payload, "queue": queue, **more} for payload in payloads]
    return (await bus.trigger("queue::enqueue_many", {"jobs": jobs}))["messageReceiptIds"]


async def failing(payload):
    raise HandlerFailed("not today")


class Mourner(Worker):
    """Notes which jobs have died."""

    name = "mourner"

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[DeadJob] = []

    @function("mourner::all", triggers=[subscribe_dead()])
    async def all(self, job: DeadJob) -> None:
        """Note one."""
        self.heard.append(job)

    @function("mourner::other", triggers=[subscribe_dead("other")])
    async def other(self, job: DeadJob) -> None:
        """Never hear of one."""
        self.heard.append(job)

    async def until_heard(self, count):
        async def heard():
            return len(self.heard) >= count

        await until(heard)


async def moved_until_states(clock, bus, step_s, **wanted):
    """Move the clock, and wait, until jobs are in these states."""

    async def reached():
        await clock.advance(step_s)
        return await states(bus) == wanted

    await until(reached)


async def test_done_jobs_go_some_time_after_their_end(running):
    clock = ManualClock()
    async with running(App(), clock=clock, queue_configs={"default": {"keep_done_ms": 60_000}}) as bus:
        await enqueue(bus, 1, 2)
        await until_states(bus, done=2)
        await clock.advance(20)
        assert await states(bus) == {"done": 2}
        await moved_until_states(clock, bus, 1)


async def test_only_so_many_done_jobs_are_kept_and_the_newest_of_them(running):
    clock = ManualClock()
    async with running(App(), clock=clock, queue_configs={"default": {"keep_done": 3, "concurrency": 1}}) as bus:
        receipts = await enqueue(bus, *range(10))
        await moved_until_states(clock, bus, 1, done=3)
        rows = (await bus.trigger("queue::jobs", {}, timeout_s=1e6))["jobs"]
        assert [row["id"] for row in rows] == receipts[-3:]


async def test_cancelled_jobs_go_like_done_ones(running):
    clock = ManualClock()
    async with running(clock=clock, queue_configs={"default": {"keep_done": 0}}) as bus:
        [receipt] = await enqueue(bus, 1)
        await bus.trigger("queue::cancel", {"id": receipt})
        await moved_until_states(clock, bus, 1)


async def test_dead_letters_are_discarded_after_their_time(running):
    clock = ManualClock()
    settings = {"max_retries": 1, "keep_dead_ms": 60_000}
    async with running(App(failing), clock=clock, queue_configs={"default": settings}) as bus:
        await enqueue(bus, 1)
        await until_states(bus, dead=1)
        await clock.advance(20)
        assert await states(bus) == {"dead": 1}
        await moved_until_states(clock, bus, 1, discarded=1)


async def test_an_idempotency_key_goes_when_it_has_expired(running):
    clock = ManualClock()
    async with running(App(), clock=clock, idempotency_window_ms=60_000) as bus:
        await enqueue(bus, 1, idempotency_key="k")
        await until_states(bus, done=1)

        async def gone():
            await clock.advance(1)
            sql = "SELECT COUNT(*) AS n FROM linkly_queue_keys"
            return (await bus.trigger("database::query", {"sql": sql}, timeout_s=1e6))["rows"] == [{"n": 0}]

        await until(gone)


async def test_a_job_whose_function_nobody_serves_for_long_is_dead(running):
    clock, mourner = ManualClock(), Mourner()
    async with running(mourner, clock=clock, absent_retention_ms=20_000) as bus:
        await enqueue(bus, 1)
        await clock.advance(19)
        assert await states(bus) == {"waiting": 1}
        await moved_until_states(clock, bus, 1, dead=1)
        await mourner.until_heard(1)
        [row] = (await bus.trigger("queue::dead", {"queue": "default"}, timeout_s=1e6))["jobs"]
    assert (row["reason"], row["error"]["code"]) == ("no_function", "no_function")
    assert [(job.reason, job.attempts) for job in mourner.heard] == [("no_function", 0)]


async def test_a_function_that_another_engine_can_reach_is_not_absent(postgres_url):
    clock, settings = ManualClock(), {"absent_retention_ms": 20_000}
    async with running_queue(postgres_url, App(), clock=clock, **settings) as near:
        await near.trigger("queue::pause", {"queue": "default"})
        async with running_queue(postgres_url, clock=clock, **settings) as far:
            await enqueue(far, 1)
            served = 0

            async def noted():
                nonlocal served
                await clock.advance(1)
                sql = "SELECT served_at FROM linkly_queue_lanes WHERE function_id = 'app::work'"
                [row] = (await far.trigger("database::query", {"sql": sql}, timeout_s=1e6))["rows"]
                served = row["served_at"]
                return served > (1_700_000_000 + 60) * 1000

            await until(noted)
            assert await states(far) == {"waiting": 1}


async def test_the_time_in_which_no_engine_ran_does_not_count_at_once(running):
    clock = ManualClock()
    async with running(clock=clock, absent_retention_ms=600_000) as bus:
        await enqueue(bus, 1)

        async def noted():
            sql = "SELECT COUNT(*) AS n FROM linkly_queue_lanes WHERE served_at > 0 AND function_id = 'app::work'"
            return (await bus.trigger("database::query", {"sql": sql}, timeout_s=1e6))["rows"] == [{"n": 1}]

        async def moved():
            await clock.advance(1)
            return await noted()

        await until(moved)
    app, later = App(), ManualClock(start=clock.time() + 30 * DAY_S)
    async with running(clock=later, absent_retention_ms=600_000) as bus:
        for _ in range(10):
            await later.advance(1)
        assert await states(bus) == {"waiting": 1}
    async with running(app, clock=later, absent_retention_ms=600_000) as bus:
        await until_states(bus, done=1)


async def test_functions_hear_once_of_each_job_that_dies(running):
    mourner = Mourner()
    async with running(App(failing), mourner, queue_configs={"default": {"max_retries": 1}, "other": {}}) as bus:
        receipts = await enqueue(bus, {"n": 1}, {"n": 2}, idempotency_key=None)
        await until_states(bus, dead=2)
        await mourner.until_heard(2)
    assert sorted(job.id for job in mourner.heard) == sorted(receipts)
    job = mourner.heard[0]
    assert (job.queue, job.function_id, job.reason, job.attempts, job.max_attempts) == (
        "default",
        "app::work",
        "failed",
        1,
        1,
    )
    assert job.payload in ({"n": 1}, {"n": 2})
    assert job.error is not None
    assert job.error.message == "not today"


async def test_functions_hear_of_what_died_because_the_engine_had_ended(running, url_of_queue):
    async with running(queue_configs={"default": {"max_retries": 1}}) as bus:
        await enqueue(bus, 1)
        engine = 1 if url_of_queue.startswith("sqlite") else 77
        sql = f"UPDATE linkly_queue_jobs SET state = 3, starts = 1, engine = {engine}"
        await bus.trigger("database::execute", {"sql": sql})
    mourner = Mourner()
    async with running(mourner, queue_configs={"default": {"max_retries": 1}}) as bus:
        await until_states(bus, dead=1)
        await mourner.until_heard(1)
    assert [job.reason for job in mourner.heard] == ["worker_lost"]


async def test_jobs_of_a_queue_that_left_the_config_wait_and_run_when_it_is_back(running):
    app = App()
    async with running(queue_configs={"mail": {}}) as bus:
        await enqueue(bus, 1, queue="mail")
    async with running(app) as bus:
        info = await bus.trigger("queue::show", {"queue": "mail"})
        assert (info["configured"], info["waiting"]) == (False, 1)
        assert app.calls == []
    async with running(app, queue_configs={"mail": {}}) as bus:
        assert await app.called(1) == [1]
        await until_states(bus, done=1)


async def test_jobs_of_a_queue_that_left_the_config_are_moved_or_discarded(running):
    app = App()
    async with running(queue_configs={"mail": {}}) as bus:
        moved, discarded = await enqueue(bus, 1, 2, queue="mail")
        await enqueue(bus, 3, queue="mail", delay_ms=3_600_000)
    async with running(app) as bus:
        which = {"ids": [moved], "waiting": True, "into": "default"}
        assert await bus.trigger("queue::redrive", which) == {"redriven": 1}
        assert await app.called(1) == [1]
        assert await bus.trigger("queue::discard", {"ids": [discarded], "waiting": True}) == {"discarded": 1}
        await until_states(bus, done=1, discarded=1, delayed=1)
        which = {"queue": "mail", "waiting": True, "into": "default"}
        assert await bus.trigger("queue::redrive", which) == {"redriven": 1}
        assert (await bus.trigger("queue::show", {"queue": "default"}))["delayed"] == 1


async def test_a_queue_that_is_turned_fifo_gives_its_jobs_groups(running):
    app = App()
    payloads = [{"g": "a", "n": 0}, {"n": 1}, {"g": "a", "n": 2}, {"n": 3}, {"g": "b", "n": 4}]
    async with running(queue_configs={"mail": {}}) as bus:
        await enqueue(bus, *payloads, queue="mail")
    async with running(app, queue_configs={"mail": FIFO}) as bus:
        await until_states(bus, done=5)
        assert (await bus.trigger("queue::jobs", {"queue": "mail"}))["jobs"][1]["message_group"] == ""
    order = [call["n"] for call in app.calls]
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert order.index(0) < order.index(2)
    assert order.index(1) < order.index(3)


async def test_a_queue_with_large_jobs_is_turned_fifo_although_the_database_does_not_hand_them_out_together(
    url_of_queue,
):
    app = App()
    payloads = [{"g": "a", "n": n, "text": "x" * 40_000} for n in range(7)]
    async with running_queue(url_of_queue, queue_configs={"mail": {}}) as bus:
        await enqueue(bus, *payloads, queue="mail")
    database, queue = (
        database_worker(url_of_queue, max_result_bytes=100_000),
        queue_worker(queue_configs={"mail": FIFO}),
    )
    async with running_engine(database, queue, app) as bus:
        await until_states(bus, done=7)
    assert [call["n"] for call in app.calls] == list(range(7))


async def test_a_queue_that_is_turned_back_from_fifo_takes_the_groups_away(running):
    app = App()
    async with running(queue_configs={"mail": FIFO}) as bus:
        await enqueue(bus, *[{"g": "a", "n": n} for n in range(3)], queue="mail")
        await enqueue(bus, {"g": "a", "n": 3}, queue="mail", delay_ms=50)
    async with running(app, queue_configs={"mail": {}}) as bus:
        await until_states(bus, done=4)
