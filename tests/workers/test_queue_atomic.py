"""Jobs as a part of `database::atomic`: accepted if and only if the rest is committed."""

import asyncio
from contextlib import asynccontextmanager

import pytest

import linkly
from linkly import Enqueue, LinklyError, durable_subscriber
from linkly.atomic import NotAtomic, WouldWaitForItself
from linkly.testing import ManualClock, running_engine
from support.database_calls import database_worker, execute, rows, until
from support.queue_workers import WAIT_S, App, queue_worker, running_queue, states, until_states

NEVER = "DELETE FROM t WHERE id = 99"


@pytest.fixture(params=["in process", "over a wire", "postgres"])
def running(request, tmp_path):
    """Run a queue both ways, and on each kind of database, which has a table `t`."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else f"sqlite:{tmp_path}/queue.db"

    @asynccontextmanager
    async def run(*workers, **settings):
        async with running_queue(url, *workers, wire=request.param == "over a wire", **settings) as bus:
            await execute(bus, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
            yield bus

    return run


async def ids(bus):
    return [row["id"] for row in await rows(bus, "SELECT id FROM t ORDER BY id")]


async def test_a_row_and_its_job_are_committed_together_and_the_job_runs(running):
    app = App()
    async with running(app) as bus:
        async with linkly.atomic(bus) as tx:
            tx.execute("INSERT INTO t VALUES (1)")
            receipt = tx.trigger("app::work", {"n": 1}, action=Enqueue("default"))
            tx.trigger("app::other", {"n": 2}, action=Enqueue("default"))
        assert sorted((await app.called(2)), key=lambda call: call["n"]) == [{"n": 1}, {"n": 2}]
        await until_states(bus, done=2)
        assert await ids(bus) == [1]
    assert receipt.result["messageReceiptId"] in {job["id"] for job in app.jobs}


async def test_nothing_is_enqueued_if_another_operation_fails(running):
    app = App()
    async with running(app) as bus:
        with pytest.raises(LinklyError) as failure:  # noqa: PT012
            async with linkly.atomic(bus) as tx:
                tx.execute("INSERT INTO t VALUES (1)")
                tx.trigger("app::work", {"n": 1}, action=Enqueue("default"))
                tx.execute(NEVER, expect_rows=1)
        assert failure.value.code == "EXPECTATION_FAILED"
        assert (await states(bus), await ids(bus), app.calls) == ({}, [], [])


async def test_a_full_queue_refuses_all_of_it_and_says_so(running):
    async with running(queue_configs={"small": {"max_jobs": 1}}) as bus:
        await bus.trigger("absent::work", {}, action=Enqueue("small"))
        with pytest.raises(LinklyError) as failure:  # noqa: PT012
            async with linkly.atomic(bus) as tx:
                tx.execute("INSERT INTO t VALUES (1)")
                tx.trigger("absent::work", {}, action=Enqueue("small"))
        assert (failure.value.code, failure.value.details["retryable"]) == ("queue_full", True)
        assert (await states(bus), await ids(bus)) == ({"waiting": 1}, [])


async def test_what_the_queue_refuses_names_the_operation(running):
    async with running() as bus:
        with pytest.raises(LinklyError) as failure:  # noqa: PT012
            async with linkly.atomic(bus) as tx:
                tx.execute("INSERT INTO t VALUES (1)")
                tx.trigger("app::work", {}, action=Enqueue("missing"))
        assert (failure.value.code, failure.value.details["failed_index"]) == ("queue_not_found", 1)
        assert await ids(bus) == []


async def test_a_key_that_was_used_before_gets_its_receipt_and_the_rest_is_committed(running):
    async with running() as bus:
        first = await bus.trigger("absent::work", {"n": 1}, action=Enqueue("default", idempotency_key="k"))
        async with linkly.atomic(bus) as tx:
            tx.execute("INSERT INTO t VALUES (1)")
            again = tx.trigger("absent::work", {"n": 1}, action=Enqueue("default", idempotency_key="k"))
        assert again.result["messageReceiptId"] == first.message_receipt_id
        assert (await states(bus), await ids(bus)) == ({"waiting": 1}, [1])
        with pytest.raises(LinklyError) as failure:  # noqa: PT012
            async with linkly.atomic(bus) as tx:
                tx.execute("INSERT INTO t VALUES (2)")
                tx.trigger("absent::work", {"n": 2}, action=Enqueue("default", idempotency_key="k"))
        assert failure.value.code == "idempotency_key_used"
        assert await ids(bus) == [1]


async def test_one_key_twice_in_one_call_is_one_job(running):
    async with running() as bus:
        async with linkly.atomic(bus) as tx:
            receipts = [
                tx.trigger("absent::work", {}, action=Enqueue("default", idempotency_key="k")) for _ in range(2)
            ]
        assert receipts[0].result == receipts[1].result
        assert await states(bus) == {"waiting": 1}


async def test_of_calls_at_once_with_one_key_one_job_is_accepted(running):
    async def one(bus, number):
        async with linkly.atomic(bus) as tx:
            tx.execute("INSERT INTO t VALUES (?)", [number])
            receipt = tx.trigger("absent::work", {}, action=Enqueue("default", idempotency_key="k"))
        return receipt.result["messageReceiptId"]

    async with running() as bus:
        receipts = await asyncio.gather(*(one(bus, number) for number in range(6)))
        [job] = await rows(bus, "SELECT id FROM linkly_queue_jobs")
        assert set(receipts) == {job["id"]}
        assert await ids(bus) == list(range(6))


async def test_a_job_of_a_group_and_one_that_is_delayed_find_their_places(running):
    clock = ManualClock()
    app = App()
    async with running(
        app, clock=clock, queue_configs={"lines": {"type": "fifo", "message_group_field": "group"}}
    ) as bus:
        async with linkly.atomic(bus) as tx:
            for number in range(3):
                tx.trigger("app::work", number, action=Enqueue("lines", message_group="one"))
            tx.trigger("app::other", "later", action=Enqueue("lines", message_group="two", delay_ms=1000))
        assert await app.called(3) == [0, 1, 2]
        await until_states(bus, done=3, delayed=1)
        await clock.advance(1.1)
        assert (await app.called(4))[3] == "later"


async def test_a_queue_in_another_database_is_an_error_that_names_the_setting(tmp_path):
    url = f"sqlite:{tmp_path}/a.db"
    async with running_engine(database_worker(url), queue_worker()) as bus:
        await execute(bus, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
        with pytest.raises(
            NotAtomic, match=r"queues are in database `primary`.*set `db: other` in the config of queue"
        ):
            await bus.trigger("queue::prepare", {"db": "other", "operations": []})


async def test_a_job_from_an_interactive_block_runs_after_its_commit(running):
    app = App()
    async with running(app) as bus:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with linkly.atomic(bus, interactive=True) as tx:
                tx.trigger("app::work", 0, action=Enqueue("default"))
                _ = 1 / 0
        async with linkly.atomic(bus, interactive=True) as tx:
            [row] = await tx.query("SELECT count(*) AS n FROM t")
            tx.execute("INSERT INTO t VALUES (?)", [row["n"] + 1])
            tx.trigger("app::work", 1, action=Enqueue("default"))
        assert await app.called(1) == [1]
        assert await ids(bus) == [1]


async def test_a_job_of_an_interactive_block_runs_although_the_look_after_its_commit_fails(running, caplog):
    app = App()
    async with running(app) as bus:
        async with linkly.atomic(bus, interactive=True) as tx:
            tx.trigger("app::work", 1, action=Enqueue("default"))
            tx.execute("ALTER TABLE linkly_queue_lanes RENAME TO away")

        async def has_failed():
            return "the database does not take a turn" in caplog.text

        await until(has_failed)
        await execute(bus, "ALTER TABLE away RENAME TO linkly_queue_lanes")
        assert await app.called(1) == [1]


async def test_an_interactive_block_that_fails_leaves_no_job_and_no_lane(running):
    app = App()
    async with running(app) as bus:
        with pytest.raises(LinklyError) as failure:  # noqa: PT012
            async with linkly.atomic(bus, interactive=True) as tx:
                tx.trigger("app::work", 0, action=Enqueue("default"))
                tx.execute(NEVER, expect_rows=1)
        assert failure.value.code == "EXPECTATION_FAILED"
        assert await rows(bus, "SELECT id FROM linkly_queue_lanes WHERE function_id = 'app::work'") == []
        await bus.trigger("app::work", 1, action=Enqueue("default"))
        assert await app.called(1) == [1]


class Subscriber(App):
    """Subscribes `app::work` to a topic."""

    def triggers_of(self, function):
        return [durable_subscriber("order.created")] if function.id == "app::work" else []


async def test_a_message_is_published_if_and_only_if_the_rest_is_committed(running):
    app = Subscriber()
    async with running(app) as bus:
        with pytest.raises(LinklyError):  # noqa: PT012
            async with linkly.atomic(bus) as tx:
                tx.publish("order.created", {"n": 1})
                tx.execute(NEVER, expect_rows=1)
        async with linkly.atomic(bus) as tx:
            tx.execute("INSERT INTO t VALUES (2)")
            published = tx.publish("order.created", {"n": 2})
        assert await app.called(1) == [{"n": 2}]
        await until_states(bus, done=1)
        assert (published.result, await ids(bus)) == (None, [2])


async def test_a_message_without_a_subscription_is_kept_as_ever(running):
    async with running() as bus:
        async with linkly.atomic(bus) as tx:
            tx.publish("order.created", {"n": 1})
        await until_states(bus, waiting=1)


async def test_a_subscription_without_room_refuses_all_of_it_and_says_so(running):
    stays = asyncio.Event()

    async def held(payload):
        await stays.wait()

    app = Subscriber(held)
    async with running(app, subscriptions={"max_jobs": 1}) as bus:
        await bus.trigger("iii::durable::publish", {"topic": "order.created", "data": 1})
        await app.called(1)
        with pytest.raises(LinklyError) as failure:  # noqa: PT012
            async with linkly.atomic(bus) as tx:
                tx.execute("INSERT INTO t VALUES (1)")
                tx.publish("order.created", 2)
        assert (failure.value.code, failure.value.details["failed_index"]) == ("queue_full", 1)
        assert await ids(bus) == []
        stays.set()
        await until_states(bus, done=1)


async def test_an_enqueue_beside_an_interactive_block_that_would_wait_for_it_fails_at_once(tmp_path):
    async with running_queue(f"sqlite:{tmp_path}/queue.db", App()) as bus:
        await bus.trigger("app::work", 1, action=Enqueue("default"))  # whose lane is there from now on
        async with asyncio.timeout(WAIT_S), linkly.atomic(bus, interactive=True, timeout_s=60):
            for function_id, payload in (
                ("queue::enqueue", {"function_id": "app::work"}),
                ("iii::durable::publish", {"topic": "order.created", "data": 1}),
            ):
                with pytest.raises(WouldWaitForItself):
                    await bus.trigger(function_id, payload)
