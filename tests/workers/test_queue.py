"""The life of jobs: accepted, started, tried again, dead; what a crash and a stop make of them."""

import asyncio

import pytest

from linkly import Enqueue, LinklyError
from linkly.errors import ConfigError, HandlerFailed
from linkly.testing import ManualClock, running_engine
from linkly_workers._scripts import dialect
from linkly_workers.queue.store import JOBS, QueueStore
from support.database_calls import database_worker
from support.queue_workers import App, queue_worker, running_queue, states, until_states


async def failing(payload):
    raise HandlerFailed("not today")


async def test_an_accepted_job_runs_and_its_function_knows_which_one_it_is(running_queues):
    app = App()
    async with running_queues(app) as bus:
        answer = await bus.trigger("queue::enqueue", {"function_id": "app::work", "payload": {"n": 1}})
        assert await app.called(1) == [{"n": 1}]
        await until_states(bus, done=1)
    [job] = app.jobs
    assert (job["id"], job["queue"], job["attempt"], job["max_attempts"]) == (
        answer["messageReceiptId"],
        "default",
        1,
        3,
    )


async def test_the_enqueue_action_reaches_the_queue(running_queues):
    app = App()
    async with running_queues(app) as bus:
        receipt = await bus.trigger("app::work", {"n": 2}, action=Enqueue("default"))
        assert await app.called(1) == [{"n": 2}]
    assert app.jobs[0]["id"] == receipt.message_receipt_id


async def test_an_unknown_queue_is_named(running_queues):
    async with running_queues() as bus:
        with pytest.raises(LinklyError, match="Queue 'mails' not found") as caught:
            await bus.trigger("queue::enqueue", {"function_id": "app::work", "queue": "mails"})
    assert caught.value.code == "queue_not_found"


async def test_jobs_of_one_function_start_in_the_order_of_their_acceptance(running_queues):
    app = App()
    async with running_queues(app, queue_configs={"one": {"concurrency": 1}}) as bus:
        jobs = [{"function_id": "app::work", "queue": "one", "payload": n} for n in range(20)]
        await bus.trigger("queue::enqueue_many", {"jobs": jobs})
        assert await app.called(20) == list(range(20))


async def test_no_more_jobs_run_at_a_time_than_the_setting_says(running_queues):
    running_now, most, over = 0, 0, asyncio.Event()

    async def counted(payload):
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        if running_now == 3:
            over.set()
        await over.wait()
        running_now -= 1

    app = App(counted)
    async with running_queues(app, queue_configs={"default": {"concurrency": 3}}) as bus:
        await bus.trigger("queue::enqueue_many", {"jobs": [{"function_id": "app::work"}] * 12})
        await app.called(12)
        await until_states(bus, done=12)
    assert most == 3


async def test_a_failing_job_is_tried_as_often_as_the_setting_says_and_is_dead_then(running_queues):
    app = App(failing)
    async with running_queues(app, queue_configs={"default": {"max_retries": 4, "backoff_ms": 1}}) as bus:
        await bus.trigger("queue::enqueue", {"function_id": "app::work"})
        await app.called(4)
        await until_states(bus, dead=1)
        [row] = (await bus.trigger("database::query", {"sql": "SELECT reason, error FROM linkly_queue_jobs"}))["rows"]
    assert [job["attempt"] for job in app.jobs] == [1, 2, 3, 4]
    assert row["reason"] == "failed"
    assert "not today" in row["error"]


async def test_max_retries_0_is_one_attempt(running_queues):
    app = App(failing)
    async with running_queues(app, queue_configs={"default": {"max_retries": 0}}) as bus:
        await bus.trigger("queue::enqueue", {"function_id": "app::work"})
        await until_states(bus, dead=1)
    assert len(app.calls) == 1


async def test_attempts_wait_longer_each_time(url_of_queue):
    clock, app = ManualClock(), App(failing)
    waits = []
    async with running_queue(url_of_queue, app, clock=clock) as bus:
        await bus.trigger("queue::enqueue", {"function_id": "app::work"})
        for attempt in (1, 2):
            await app.called(attempt)
            await until_states(bus, retrying=1)
            [row] = (await bus.trigger("database::query", {"sql": "SELECT due_at FROM linkly_queue_jobs"}))["rows"]
            waits.append(row["due_at"] / 1000 - clock.time())
            await clock.advance(waits[-1] + 0.01)
        await app.called(3)
        await until_states(bus, dead=1)
    assert 1 <= waits[0] <= 1.2
    assert 2 <= waits[1] <= 2.4


async def test_a_function_can_refuse_further_attempts(running_queues):
    async def refusing(payload):
        raise LinklyError("never", code="JOB_FAILED")

    app = App(refusing)
    async with running_queues(app) as bus:
        await bus.trigger("queue::enqueue", {"function_id": "app::work"})
        await until_states(bus, dead=1)
    assert len(app.calls) == 1


async def test_jobs_of_a_function_that_nobody_serves_wait_and_hold_up_no_others(running_queues):
    app = App()
    async with running_queues(app, queue_configs={"default": {"concurrency": 1}}) as bus:
        await bus.trigger(
            "queue::enqueue_many", {"jobs": [{"function_id": "nobody::serves"}, {"function_id": "app::work"}]}
        )
        await app.called(1)
        await until_states(bus, waiting=1, done=1)


async def test_a_delayed_job_runs_when_its_time_has_come(url_of_queue):
    clock, app = ManualClock(), App()
    async with running_queue(url_of_queue, app, clock=clock) as bus:
        await bus.trigger("queue::enqueue", {"function_id": "app::work", "delay_ms": 60_000})
        await clock.advance(59)
        assert await states(bus) == {"delayed": 1}
        await clock.advance(1.5)
        await app.called(1)


async def test_a_job_whose_head_is_damaged_fails_and_holds_up_no_other(url_of_queue):
    clock, app = ManualClock(), App()
    queues = {"default": {"concurrency": 1, "max_retries": 1}}
    async with running_queue(url_of_queue, app, clock=clock, queue_configs=queues) as bus:
        for payload in ("damaged", "sound"):
            await bus.trigger("queue::enqueue", {"function_id": "app::work", "payload": payload, "delay_ms": 1000})
        sql = "UPDATE linkly_queue_jobs SET head = ? WHERE payload LIKE '%damaged%'"
        await bus.trigger("database::execute", {"sql": sql, "params": [{"$blob": "wQ=="}]})
        await clock.advance(2)
        await until_states(bus, dead=1, done=1)
    assert app.calls == ["sound"]


async def test_an_expired_job_does_not_run(url_of_queue):
    clock, app = ManualClock(), App()
    async with running_queue(url_of_queue, app, clock=clock) as bus:
        at = "2023-11-14T22:14:20Z"  # a minute after the clock's start
        await bus.trigger("queue::enqueue", {"function_id": "nobody::serves", "expires_at": at})
        await clock.advance(61)
        await until_states(bus, expired=1)


async def test_the_same_key_is_the_same_job(running_queues):
    app = App()
    async with running_queues(app) as bus:
        job = {"function_id": "app::work", "payload": {"n": 1}, "idempotency_key": "k"}
        first = await bus.trigger("queue::enqueue", job)
        assert await bus.trigger("queue::enqueue", job) == first
        with pytest.raises(LinklyError) as caught:
            await bus.trigger("queue::enqueue", {**job, "payload": {"n": 2}})
        await until_states(bus, done=1)
    assert caught.value.code == "idempotency_key_used"
    assert app.calls == [{"n": 1}]


async def test_a_full_queue_refuses_and_has_room_again_when_jobs_are_done(running_queues):
    let_go = asyncio.Event()
    app = App(lambda payload: let_go.wait())
    async with running_queues(app, queue_configs={"default": {"max_jobs": 2}}) as bus:
        await bus.trigger("queue::enqueue_many", {"jobs": [{"function_id": "app::work"}] * 2})
        with pytest.raises(LinklyError) as caught:
            await bus.trigger("queue::enqueue", {"function_id": "app::work"})
        let_go.set()
        await until_states(bus, done=2)
        await bus.trigger("queue::enqueue", {"function_id": "app::work"})
    assert caught.value.code == "queue_full"


async def test_a_group_is_a_line_and_a_retry_holds_up_its_own_group_only(running_queues):
    failed = []

    async def once(payload):
        if payload["group"] == "a" and payload["n"] == 0 and not failed:
            failed.append(payload)
            raise HandlerFailed("once")

    app = App(once)
    fifo = {"type": "fifo", "message_group_field": "group", "concurrency": 2, "backoff_ms": 50}
    async with running_queues(app, queue_configs={"lines": fifo}) as bus:
        jobs = [
            {"function_id": "app::work", "queue": "lines", "payload": {"group": group, "n": n}}
            for n in range(5)
            for group in "ab"
        ]
        await bus.trigger("queue::enqueue_many", {"jobs": jobs})
        await until_states(bus, done=10)
    assert [call["n"] for call in app.calls if call["group"] == "a"] == [0, 0, 1, 2, 3, 4]
    assert [call["n"] for call in app.calls if call["group"] == "b"] == [0, 1, 2, 3, 4]


async def test_a_delayed_job_of_a_group_waits_for_the_one_that_runs(url_of_queue):
    clock, let_go = ManualClock(), asyncio.Event()

    async def held(payload):
        if payload["n"] == 1:
            await let_go.wait()

    app = App(held)
    lines = {"type": "fifo", "message_group_field": "group", "concurrency": 2}
    async with running_queue(url_of_queue, app, clock=clock, queue_configs={"lines": lines}) as bus:
        job = {"function_id": "app::work", "queue": "lines"}
        delayed = {**job, "payload": {"group": "a", "n": 0}, "delay_ms": 1000}
        await bus.trigger("queue::enqueue_many", {"jobs": [delayed, {**job, "payload": {"group": "a", "n": 1}}]})
        await app.called(1)
        await clock.advance(2)
        await until_states(bus, waiting=1, active=1)
        await bus.trigger("queue::enqueue", {**job, "payload": {"group": "b", "n": 2}})
        assert [call["n"] for call in await app.called(2)] == [1, 2]
        let_go.set()
        await until_states(bus, done=3)


async def test_what_runs_when_the_worker_stops_is_given_back_and_runs_again(url_of_queue):
    stuck = App(lambda payload: asyncio.Event().wait())
    async with running_queue(url_of_queue, stuck, stop_grace_s=0) as bus:
        await bus.trigger("queue::enqueue", {"function_id": "app::work"})
        await stuck.called(1)
    app = App()
    async with running_queue(url_of_queue, app) as bus:
        await app.called(1)
        await until_states(bus, done=1)
    assert app.jobs[0]["attempt"] == 1


def test_a_fifo_queue_has_to_say_what_its_groups_are():
    with pytest.raises(LinklyError, match="Queue 'x' is of type 'fifo' but 'message_group_field' is not set"):
        queue_worker(queue_configs={"x": {"type": "fifo"}})


async def test_a_kind_of_database_without_scripts_is_named(mariadb_url):
    async with running_engine(database_worker(mariadb_url)) as bus:
        store = QueueStore(bus.trigger, "primary", bus.clock, 1000)
        with pytest.raises(ConfigError) as caught:
            await store.open("engine")
    assert caught.value.message == (
        "jobs cannot be kept in database `primary`: there are no scripts for a database of kind `mysql`; "
        "kinds: postgres, sqlite"
    )


def test_every_script_for_sqlite_has_one_of_its_name_for_postgres():
    sqlite, postgres = (set(dialect(JOBS.package, driver)) for driver in ("sqlite", "postgres"))
    assert sqlite - {"indexes"} <= postgres


@pytest.mark.parametrize("after", [1e30, float("inf")])
async def test_a_job_that_asks_for_a_retry_in_the_infinite_future_holds_up_no_others(url_of_queue, after):
    async def later(payload):
        if payload == "never":
            raise LinklyError("later", code="JOB_RETRY_LATER", details={"retry_after_ms": after})

    app = App(later)
    async with running_queue(url_of_queue, app, queue_configs={"default": {"concurrency": 1}}) as bus:
        for payload in ("never", "now"):
            await bus.trigger("queue::enqueue", {"function_id": "app::work", "payload": payload})
        await until_states(bus, retrying=1, done=1)
        assert (await bus.trigger("queue::jobs", {"queue": "default"}))["jobs"][0]["state"] == "retrying"


async def test_more_slots_than_a_claim_begins_jobs_for_are_filled(running_queues, monkeypatch):
    monkeypatch.setattr("linkly_workers.queue.serving.AT_ONCE", 2)
    go_on = asyncio.Event()

    async def waiting(payload):
        await go_on.wait()

    app = App(waiting)
    async with running_queues(app, queue_configs={"default": {"concurrency": 7}}) as bus:
        await bus.trigger("queue::enqueue_many", {"jobs": [{"function_id": "app::work"}] * 7})
        await app.called(7)
        go_on.set()
        await until_states(bus, done=7)


async def test_jobs_that_are_too_large_to_begin_at_once_begin_after_one_another(url_of_queue):
    app = App()
    database, queue = database_worker(url_of_queue, max_result_bytes=100_000), queue_worker()
    async with running_engine(database, queue, app) as bus:
        await bus.trigger("queue::pause", {"queue": "default"})
        for _ in range(7):
            await bus.trigger("queue::enqueue", {"function_id": "app::work", "payload": "x" * 40_000})
        await bus.trigger("queue::resume", {"queue": "default"})
        await app.called(7)
        await until_states(bus, done=7)


async def test_ends_are_written_although_the_next_job_is_too_large_to_begin(url_of_queue):
    app = App()
    database, queue = database_worker(url_of_queue, max_result_bytes=100_000), queue_worker()
    async with running_engine(database, queue, app) as bus:
        await bus.trigger("queue::pause", {"queue": "default"})
        for size in (10, 200_000):
            await bus.trigger("queue::enqueue", {"function_id": "app::work", "payload": "x" * size})
        await bus.trigger("queue::resume", {"queue": "default"})
        await until_states(bus, done=1, waiting=1)
