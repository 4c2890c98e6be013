"""Time-outs of calls: exact, and nothing is left behind."""

import asyncio
import weakref
from contextvars import ContextVar

import pytest

from linkly.clock import SystemClock
from linkly.deadline import Deadlines, bounded
from linkly.errors import CallTimeout
from linkly.testing import ManualClock, settle


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def deadlines(clock):
    return Deadlines(clock)


async def test_a_coroutine_that_never_suspends_arms_nothing(deadlines):
    async def quick():
        assert len(deadlines) == 0
        return 5

    assert await bounded(quick(), deadlines, 1.0, "service::function") == 5
    assert len(deadlines) == 0


async def test_a_slow_coroutine_is_cancelled_and_the_task_goes_on(clock, deadlines):
    cancelled = []

    async def slow():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def caller():
        with pytest.raises(CallTimeout, match="`service::function` did not answer within 1 s"):
            await bounded(slow(), deadlines, 1.0, "service::function")
        await asyncio.sleep(0)  # the task itself is not cancelled
        return "went on"

    task = asyncio.create_task(caller())
    await settle()
    await clock.advance(0.9)
    assert not cancelled
    await clock.advance(0.2)
    assert cancelled == [True]
    assert await task == "went on"
    assert len(deadlines) == 0


async def test_an_answer_in_time_disarms(clock, deadlines):
    gate = asyncio.Event()

    async def waits():
        await gate.wait()
        return "ok"

    task = asyncio.create_task(bounded_in_task(waits(), deadlines))
    await settle()
    assert len(deadlines) == 1
    gate.set()
    assert await task == "ok"
    assert len(deadlines) == 0
    await clock.advance(10)


async def test_a_cancellation_from_outside_stays_a_cancellation(deadlines):
    task = asyncio.create_task(bounded_in_task(asyncio.Event().wait(), deadlines))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(deadlines) == 0


async def test_a_handler_that_answers_although_it_was_cancelled_is_believed(clock, deadlines):
    async def stubborn():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "anyway"

    async def caller():
        result = await bounded(stubborn(), deadlines, 1.0, "service::function")
        await asyncio.sleep(0)
        return result

    task = asyncio.create_task(caller())
    await settle()
    await clock.advance(2)
    assert await task == "anyway"


async def test_a_cancellation_made_an_error_leaves_the_task_uncancelled(clock, deadlines):
    async def stubborn():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError("out of time") from None

    async def caller():
        with pytest.raises(RuntimeError, match="out of time"):
            await bounded(stubborn(), deadlines, 1.0, "service::function")
        return asyncio.current_task().cancelling()

    task = asyncio.create_task(caller())
    await settle()
    await clock.advance(2)
    assert await task == 0
    assert len(deadlines) == 0


async def test_a_handler_that_waits_after_its_cancellation_hears_of_the_next(clock, deadlines):
    heard = []

    async def stubborn():
        for _ in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                heard.append("cancelled")
        await asyncio.sleep(0)
        return "anyway"

    task = asyncio.create_task(bounded_in_task(stubborn(), deadlines))
    await settle()
    await clock.advance(2)
    assert heard == ["cancelled"]
    task.cancel()
    assert await task == "anyway"
    assert heard == ["cancelled", "cancelled"]
    assert len(deadlines) == 0


async def test_waits_of_many_lengths_expire_in_their_order(clock, deadlines):
    expired = []
    for timeout in (3.0, 1.0, 2.0, 1.0):
        deadlines.arm(timeout, lambda timeout=timeout: expired.append(timeout))
    await clock.advance(1.5)
    assert expired == [1.0, 1.0]
    deadlines.arm(1.0, lambda: expired.append("again"))
    await clock.advance(5)
    assert expired == [1.0, 1.0, 2.0, "again", 3.0]
    assert len(deadlines) == 0


async def test_one_that_cannot_expire_takes_no_time_out_from_the_others(clock, deadlines, caplog):
    def fail():
        raise RuntimeError("a fault")

    expired = []
    deadlines.arm(1.0, fail)
    deadlines.arm(1.0, lambda: expired.append("at once"))
    await clock.advance(0.5)
    deadlines.arm(1.0, lambda: expired.append("later"))
    await clock.advance(0.5)
    assert expired == ["at once"]
    await clock.advance(0.5)
    assert expired == ["at once", "later"]
    assert "a fault" in caplog.text


def test_closed_they_begin_anew_on_another_loop():
    deadlines = Deadlines(SystemClock())

    async def run():
        assert await bounded(asyncio.sleep(0, "done"), deadlines, 1.0, "service::function") == "done"
        deadlines.close()

    for _ in range(2):
        asyncio.run(run())
    assert deadlines.loop is None


async def bounded_in_task(coroutine, deadlines):
    return await bounded(coroutine, deadlines, 1.0, "service::function")


class Kept:
    """What a context may hold."""


async def test_a_timer_keeps_nothing_of_the_call_that_set_it():
    deadlines, variable = Deadlines(SystemClock()), ContextVar[Kept]("variable")

    async def call():
        variable.set(kept := Kept())
        deadlines.arm(1e6, lambda: None)
        return weakref.ref(kept)

    kept = await asyncio.create_task(call())
    await settle()
    assert len(deadlines) == 1
    assert kept() is None
    deadlines.close()
