"""What an enqueue may ask for: when a job runs, in front of which others, and in which trace."""

import pytest

from linkly import LinklyError, current
from linkly.context import current_invocation
from linkly.invocation import Invocation
from linkly.testing import ManualClock
from linkly.timestamps import time_text
from support.queue_workers import App, running_queue, states, until_states

ONE = {"default": {"concurrency": 1}}


def enqueue(bus, payload=None, **more):
    return bus.trigger("queue::enqueue", {"function_id": "app::work", "payload": payload, **more})


async def test_jobs_of_a_higher_priority_start_first(running_queues):
    app = App()
    async with running_queues(app, queue_configs=ONE) as bus:
        await bus.trigger("queue::pause", {"queue": "default"})
        for payload, priority in (("low", -1), ("first", 5), ("usual", None), ("second", 5)):
            await enqueue(bus, payload, priority=priority)
        await bus.trigger("queue::resume", {"queue": "default"})
        assert await app.called(4) == ["first", "second", "usual", "low"]
        await until_states(bus, done=4)


async def test_a_field_of_the_payload_says_the_priority_where_the_setting_names_it(running_queues):
    app = App()
    settings = {"concurrency": 1, "priority_field": "urgent", "max_priority": 10}
    async with running_queues(app, queue_configs={"default": settings}) as bus:
        await bus.trigger("queue::pause", {"queue": "default"})
        for payload, priority in (({"urgent": 1}, None), ({"urgent": 2}, None), ({"urgent": 0}, 3), ({}, None)):
            await enqueue(bus, payload, priority=priority)
        await bus.trigger("queue::resume", {"queue": "default"})
        assert await app.called(4) == [{"urgent": 0}, {"urgent": 2}, {"urgent": 1}, {}]
        await until_states(bus, done=4)


async def test_a_fifo_queue_takes_no_priority(running_queues):
    async with running_queues(queue_configs={"lines": {"type": "fifo", "message_group_field": "g"}}) as bus:
        with pytest.raises(LinklyError, match="'lines' takes no priority"):
            await enqueue(bus, {"g": "a"}, queue="lines", priority=1)


async def test_a_job_runs_when_the_time_has_come_that_it_names(url_of_queue):
    clock, app = ManualClock(), App()
    async with running_queue(url_of_queue, app, clock=clock) as bus:
        await enqueue(bus, "later", run_at=time_text(clock.time() + 60))
        await enqueue(bus, "at once", run_at=time_text(clock.time() - 60))
        assert await app.called(1) == ["at once"]
        await clock.advance(59)
        await until_states(bus, delayed=1, done=1)
        await clock.advance(1.5)
        assert await app.called(2) == ["at once", "later"]


@pytest.mark.parametrize("option", ["run_at", "expires_at"])
@pytest.mark.parametrize("time", ["2031-01-31T12:00:00", "tomorrow"])
async def test_a_time_without_a_zone_is_refused(running_queues, option, time):
    async with running_queues() as bus:
        with pytest.raises(LinklyError, match=f"{option} is `{time}`, and has to be a time with its zone"):
            await enqueue(bus, **{option: time})
        assert await states(bus) == {}


async def test_a_job_belongs_to_the_trace_of_its_caller_and_not_to_its_deadline(running_queues):
    seen = []

    async def note(payload):
        seen.append(current())

    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    async with running_queues(App(note)) as bus:
        made = Invocation(
            function_id="caller", traceparent=f"00-{trace}-{parent}-01", deadline=bus.clock.monotonic() + 9
        )
        token = current_invocation.set(made)
        try:
            await enqueue(bus)
        finally:
            current_invocation.reset(token)
        await until_states(bus, done=1)
    [invocation] = seen
    assert trace in invocation.traceparent
    assert invocation.deadline is None or invocation.deadline > made.deadline + 600


async def test_of_many_jobs_all_are_accepted_or_none(running_queues):
    jobs = [{"function_id": "app::work"}] * 3
    async with running_queues(queue_configs={"default": {"max_jobs": 2}}) as bus:
        for refused in (jobs, [*jobs[:1], {"function_id": "app::work", "queue": "none"}]):
            with pytest.raises(LinklyError):
                await bus.trigger("queue::enqueue_many", {"jobs": refused})
        assert await states(bus) == {}
        assert (await bus.trigger("queue::verify"))["differences"] == []


async def test_a_queue_that_holds_so_many_bytes_is_full(running_queues):
    async with running_queues(queue_configs={"default": {"max_bytes": 10}}) as bus:
        await enqueue(bus, "1234")
        with pytest.raises(LinklyError) as caught:
            await enqueue(bus, "123")
        assert (caught.value.code, caught.value.details["retryable"]) == ("queue_full", True)
        await enqueue(bus, "12")


async def test_a_payload_that_is_too_large_is_refused_by_a_queue_and_by_a_topic(running_queues):
    async with running_queues(max_payload_bytes=10) as bus:
        published = {"topic": "t", "data": "123456789"}
        for call in (enqueue(bus, "123456789"), bus.trigger("iii::durable::publish", published)):
            with pytest.raises(LinklyError) as caught:
                await call
            assert caught.value.code == "payload_too_large"
        await enqueue(bus, "12345678")
        assert await states(bus) == {"waiting": 1}
