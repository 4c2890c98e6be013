"""An attempt has a time, after which its handler is cancelled and has ended before the next one begins."""

import asyncio

from linkly import LinklyError
from linkly.testing import ManualClock
from support.queue_workers import App, running_queue, states, until_states


class Slow:
    """A handler that takes its time to end when it is cancelled."""

    def __init__(self):
        self.cancelled = asyncio.Event()
        self.may_end = asyncio.Event()

    async def __call__(self, payload):
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
            await self.may_end.wait()


async def test_an_attempt_that_takes_too_long_is_cancelled_and_dead_as_timed_out(url_of_queue):
    clock, handler = ManualClock(), Slow()
    handler.may_end.set()
    app = App(handler)
    queues = {"default": {"timeout_ms": 60_000, "max_retries": 1}}
    async with running_queue(url_of_queue, app, clock=clock, queue_configs=queues) as bus:
        await bus.trigger("queue::enqueue", {"function_id": "app::work"})
        await app.called(1)
        await clock.advance(59)
        assert await states(bus) == {"active": 1}
        await clock.advance(2)
        await handler.cancelled.wait()
        await until_states(bus, dead=1)
        [row] = (await bus.trigger("queue::dead", {"queue": "default"}))["jobs"]
    assert (row["reason"], row["attempts"]) == ("timed_out", 1)


async def test_the_next_attempt_waits_for_the_end_of_a_handler_that_was_cancelled(url_of_queue):
    clock, handler = ManualClock(), Slow()
    app = App(handler)
    queues = {"default": {"timeout_ms": 60_000, "max_retries": 2, "backoff_ms": 0}}
    async with running_queue(url_of_queue, app, clock=clock, queue_configs=queues) as bus:
        await bus.trigger("queue::enqueue", {"function_id": "app::work"})
        await app.called(1)
        await clock.advance(61)
        await handler.cancelled.wait()
        await clock.advance(1)
        assert await states(bus) == {"active": 1}
        app.handler = None
        handler.may_end.set()
        await app.called(2)
        await until_states(bus, done=1)
    assert [job["attempt"] for job in app.jobs] == [1, 2]


async def test_a_job_runs_again_when_its_handler_has_said(url_of_queue):
    async def busy(payload):
        raise LinklyError("later", code="JOB_RETRY_LATER", details={"retry_after_ms": 90_000})

    clock, app = ManualClock(), App(busy)
    async with running_queue(url_of_queue, app, clock=clock) as bus:
        await bus.trigger("queue::enqueue", {"function_id": "app::work"})
        await until_states(bus, retrying=1)
        await clock.advance(89)
        assert await states(bus) == {"retrying": 1}
        app.handler = None
        await clock.advance(1.5)
        await until_states(bus, done=1)
    assert [job["attempt"] for job in app.jobs] == [1, 2]
