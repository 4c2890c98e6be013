"""A receipt is a handle: a job is looked up, waited for and cancelled by it, in every state."""

import asyncio

import pytest

from linkly import LinklyError
from linkly.errors import HandlerFailed
from linkly.testing import ManualClock
from linkly.timestamps import time_text
from linkly_workers.queue import waiting
from support.database_calls import until
from support.queue_workers import App, running_queue, until_states

WAIT_S = 20


async def enqueue(bus, payload=None, **more):
    job = {"function_id": "app::work", "payload": payload, **more}
    return (await bus.trigger("queue::enqueue", job))["messageReceiptId"]


async def failing(payload):
    raise HandlerFailed("not today")


class Blocking:
    """A handler that waits, and notes that it was cancelled."""

    def __init__(self):
        self.go = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, payload):
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


async def test_a_job_is_looked_up_by_its_receipt(running_queues):
    async with running_queues() as bus:
        receipt = await enqueue(bus, {"n": 1}, priority=7, idempotency_key="k", expires_at="2999-01-01T00:00:00Z")
        row = await bus.trigger("queue::job", {"id": receipt})
    assert (row["id"], row["queue"], row["function_id"], row["namespace"]) == (
        receipt,
        "default",
        "app::work",
        "default",
    )
    assert (row["state"], row["attempts"], row["payload"]) == ("waiting", 0, {"n": 1})
    assert (row["priority"], row["idempotency_key"], row["expires_at"]) == (7, "k", "2999-01-01T00:00:00.000Z")


async def test_a_receipt_that_is_none_is_told(running_queues):
    async with running_queues() as bus:
        for name in ("job", "wait", "cancel"):
            with pytest.raises(LinklyError, match="there is no job `nothing`") as caught:
                await bus.trigger(f"queue::{name}", {"id": "nothing"})
            assert caught.value.code == "job_not_found"


async def test_whoever_waits_for_a_job_is_answered_when_it_has_ended(running_queues):
    handler = Blocking()
    app = App(handler)
    async with running_queues(app) as bus:
        receipt = await enqueue(bus)
        waiters = [asyncio.create_task(bus.trigger("queue::wait", {"id": receipt})) for _ in range(3)]
        await app.called(1)
        assert not any(waiter.done() for waiter in waiters)
        handler.go.set()
        rows = await asyncio.wait_for(asyncio.gather(*waiters), WAIT_S)
        assert [row["state"] for row in rows] == ["done"] * 3
        assert (await bus.trigger("queue::wait", {"id": receipt}))["state"] == "done"


async def test_whoever_waits_for_a_job_that_dies_is_told_why(running_queues):
    async with running_queues(App(failing), queue_configs={"default": {"max_retries": 2, "backoff_ms": 1}}) as bus:
        row = await bus.trigger("queue::wait", {"id": await enqueue(bus)})
    assert (row["state"], row["reason"], row["attempts"]) == ("dead", "failed", 2)
    assert row["error"]["message"] == "not today"


async def test_when_the_time_is_over_a_job_is_answered_as_it_is(running_queues):
    async with running_queues() as bus:
        row = await bus.trigger("queue::wait", {"id": await enqueue(bus), "timeout_ms": 1})
    assert row["state"] == "waiting"


async def test_those_who_wait_are_bounded(running_queues, monkeypatch):
    monkeypatch.setattr(waiting, "MOST", 1)
    handler = Blocking()
    app = App(handler)
    async with running_queues(app) as bus:
        receipt = await enqueue(bus)
        first = asyncio.create_task(bus.trigger("queue::wait", {"id": receipt}))
        await app.called(1)
        handlers = [asyncio.create_task(bus.trigger("queue::wait", {"id": receipt})) for _ in range(2)]
        with pytest.raises(LinklyError, match="1 calls wait for the ends of jobs"):
            await asyncio.gather(*handlers)
        handler.go.set()
        await first


async def test_whoever_waits_for_a_job_that_expires_is_answered(tmp_path):
    clock = ManualClock()
    async with running_queue(f"sqlite:{tmp_path}/q.db", clock=clock) as bus:
        receipt = await enqueue(bus, expires_at=time_text(clock.time() + 10))
        waiter = asyncio.create_task(bus.trigger("queue::wait", {"id": receipt, "timeout_ms": 3_600_000}))
        await clock.advance(11)
        assert (await waiter)["state"] == "expired"


@pytest.mark.parametrize(
    ("more", "state"), [({}, "waiting"), ({"delay_ms": 3_600_000}, "delayed")], ids=["waiting", "delayed"]
)
async def test_a_job_that_has_not_begun_is_cancelled_at_once(running_queues, more, state):
    async with running_queues() as bus:
        receipt = await enqueue(bus, **more)
        assert (await bus.trigger("queue::job", {"id": receipt}))["state"] == state
        answer = await bus.trigger("queue::cancel", {"id": receipt})
        assert (answer["cancelled"], answer["job"]["state"]) == (True, "cancelled")
        again = await bus.trigger("queue::cancel", {"id": receipt})
        assert (again["cancelled"], again["job"]["state"]) == (False, "cancelled")
        await until_states(bus, cancelled=1)


async def test_a_job_that_waits_for_its_next_attempt_is_cancelled(running_queues):
    app = App(failing)
    async with running_queues(app, queue_configs={"default": {"backoff_ms": 3_600_000}}) as bus:
        receipt = await enqueue(bus)
        await until_states(bus, retrying=1)
        assert (await bus.trigger("queue::cancel", {"id": receipt}))["cancelled"] is True
        await until_states(bus, cancelled=1)
    assert len(app.calls) == 1


async def test_a_handler_that_runs_is_cancelled_and_its_slot_is_free(running_queues):
    handler = Blocking()
    app = App(handler)
    async with running_queues(app, queue_configs={"default": {"concurrency": 1}}) as bus:
        receipt, following = await enqueue(bus, 1), await enqueue(bus, 2)
        await app.called(1)
        answer = await bus.trigger("queue::cancel", {"id": receipt})
        assert (answer["cancelled"], answer["job"]["state"], answer["job"]["attempts"]) == (True, "cancelled", 1)
        await asyncio.wait_for(handler.cancelled.wait(), WAIT_S)
        assert await app.called(2) == [1, 2]
        handler.go.set()
        await bus.trigger("queue::wait", {"id": following})
        await until_states(bus, done=1, cancelled=1)


async def test_of_a_cancel_and_a_completion_one_wins(running_queues):
    handler = Blocking()
    app = App(handler)
    async with running_queues(app, queue_configs={"default": {"concurrency": 100}}) as bus:
        receipts = [await enqueue(bus, n) for n in range(40)]
        await app.called(40)
        handler.go.set()
        answers = await asyncio.gather(*(bus.trigger("queue::cancel", {"id": receipt}) for receipt in receipts))
        rows = await asyncio.gather(*(bus.trigger("queue::wait", {"id": receipt}) for receipt in receipts))
        for answer, row in zip(answers, rows, strict=True):
            assert row["state"] == ("cancelled" if answer["cancelled"] else "done")
        sql = "SELECT accepted - done - cancelled AS left_, bytes FROM linkly_queue_counts WHERE accepted > 0"
        assert (await bus.trigger("database::query", {"sql": sql}))["rows"] == [{"left_": 0, "bytes": 0}]
    assert len(app.calls) == 40


async def test_the_group_of_a_cancelled_job_goes_on(running_queues):
    handler = Blocking()
    app = App(handler)
    queues = {"lines": {"type": "fifo", "message_group_field": "g"}}
    async with running_queues(app, queue_configs=queues) as bus:
        first, second, third = [await enqueue(bus, {"g": "a", "n": n}, queue="lines") for n in range(3)]
        await app.called(1)
        assert (await bus.trigger("queue::cancel", {"id": second}))["cancelled"]
        assert (await bus.trigger("queue::cancel", {"id": first}))["cancelled"]
        await app.called(2)
        handler.go.set()
        assert (await bus.trigger("queue::wait", {"id": third}))["state"] == "done"
    assert [call["n"] for call in app.calls] == [0, 2]


async def test_a_group_goes_on_when_the_function_of_its_cancelled_job_has_ended(url_of_queue):
    app, cancelled, cleaned = App(), asyncio.Event(), asyncio.Event()
    order = []

    async def handler(payload):
        order.append(f"{payload['n']} begins")
        if payload["n"] == 0:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
                await cleaned.wait()
                order.append("0 has ended")

    app.handler = handler
    queues = {"lines": {"type": "fifo", "message_group_field": "g", "concurrency": 2}}
    async with running_queue(url_of_queue, app, queue_configs=queues) as bus, asyncio.TaskGroup() as tasks:
        first, second, third = [await enqueue(bus, {"g": "a", "n": n}, queue="lines") for n in range(3)]
        await app.called(1)
        cancelling = tasks.create_task(bus.trigger("queue::cancel", {"id": first}))
        await asyncio.wait_for(cancelled.wait(), WAIT_S)
        await until_states(bus, cancelled=1, active=1, waiting=1)
        assert (await bus.trigger("queue::cancel", {"id": second}))["cancelled"]
        await until_states(bus, cancelled=2, active=1)
        cleaned.set()
        assert (await cancelling)["cancelled"]
        assert (await bus.trigger("queue::wait", {"id": third}))["state"] == "done"
    assert order == ["0 begins", "0 has ended", "2 begins"]


async def test_a_job_may_cancel_itself(running_queues):
    app = App()
    async with running_queues(app) as bus:

        async def cancel_it(payload):
            await bus.trigger("queue::cancel", {"id": app.jobs[0]["id"]})

        app.handler = cancel_it
        receipt = await enqueue(bus)
        assert (await bus.trigger("queue::wait", {"id": receipt}))["state"] == "cancelled"
        app.handler = None
        assert (await bus.trigger("queue::wait", {"id": await enqueue(bus)}))["state"] == "done"


async def test_an_end_that_comes_after_a_cancel_is_refused_and_counted(running_queues):
    handler = Blocking()
    app = App(handler)
    async with running_queues(app) as bus:
        receipt = await enqueue(bus)
        await app.called(1)
        # As another engine cancels it that shares the database.
        sql = "UPDATE linkly_queue_jobs SET state = 6, engine = NULL"
        await bus.trigger("database::execute", {"sql": sql})
        handler.go.set()

        async def counted():
            return (await bus.trigger("queue::show", {"queue": "default"}))["late"] == 1

        await until(counted)
        assert (await bus.trigger("queue::job", {"id": receipt}))["state"] == "cancelled"


async def test_a_job_that_another_engine_cancels_is_cancelled_where_it_runs(postgres_url):
    handler = Blocking()
    app = App(handler)
    async with running_queue(postgres_url, app, lease_ms=1000), running_queue(postgres_url, lease_ms=1000) as far:
        receipt = await enqueue(far)
        await app.called(1)
        assert (await far.trigger("queue::cancel", {"id": receipt}))["cancelled"] is True
        await asyncio.wait_for(handler.cancelled.wait(), WAIT_S)
