"""A limit on what is done, by the clock that is passed."""

import asyncio

import pytest

from linkly.clock import SystemClock, time_limit
from linkly.testing import ManualClock, settle


async def limited(clock, seconds, until):
    async with time_limit(clock, seconds):
        await until.wait()


async def test_it_ends_what_takes_longer_by_the_clock():
    clock = ManualClock()
    task = asyncio.create_task(limited(clock, 5, asyncio.Event()))
    await settle()
    await clock.advance(4.9)
    assert not task.done()
    await clock.advance(0.1)
    assert isinstance(task.exception(), TimeoutError)


async def test_it_leaves_nothing_behind_for_what_was_in_time():
    clock, done = ManualClock(), asyncio.Event()
    done.set()
    await limited(clock, 5, done)
    await clock.advance(10)
    await settle()


async def test_without_seconds_there_is_no_limit():
    clock, done = ManualClock(), asyncio.Event()
    task = asyncio.create_task(limited(clock, None, done))
    await settle()
    await clock.advance(1_000_000)
    assert not task.done()
    done.set()
    await task


async def test_a_cancellation_from_outside_stays_one():
    task = asyncio.create_task(limited(ManualClock(), 5, asyncio.Event()))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_inner_of_two_limits_ends_first():
    clock = ManualClock()

    async def nested():
        async with time_limit(clock, 10):
            with pytest.raises(TimeoutError):
                await limited(clock, 5, asyncio.Event())
            return clock.monotonic()

    task = asyncio.create_task(nested())
    await settle()
    await clock.advance(5)
    assert await task == 5


async def test_it_goes_by_the_machines_clock_too():
    with pytest.raises(TimeoutError):
        await limited(SystemClock(), 0.001, asyncio.Event())
