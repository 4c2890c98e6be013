"""`engine::functions-available`: who is bound is told of every function that comes afterwards."""

import asyncio

import pytest

from linkly import Function, trigger
from linkly.testing import running_engine, settle


async def test_a_function_that_comes_in_the_turn_of_the_binding_is_told():
    """A worker's first registrations stand in one read, and those of another one in the same turn of the loop."""
    told = asyncio.Event()

    async def note(event):
        if any(row["function_id"] == "test::late" for row in event["functions"]):
            told.set()

    async def late():
        pass

    async with running_engine() as bus:
        bus.register_function(Function("test::note", note))
        bus.register_trigger("test::note", trigger("engine::functions-available"))
        bus.register_function(Function("test::late", late))
        async with asyncio.timeout(10):
            await told.wait()


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("is_followed", [False, True])
async def test_a_function_that_comes_behind_a_binding_is_told_whatever_came_before(turns, is_followed):
    told = asyncio.Event()

    async def note(event):
        if any(row["function_id"] == "test::late" for row in event["functions"]):
            told.set()

    async def other(event):
        pass

    async with running_engine() as bus:
        if is_followed:
            bus.register_function(Function("test::other", other))
            bus.register_trigger("test::other", trigger("engine::functions-available"))
            await settle()
        bus.register_function(Function("test::early", other))  # compared two turns later
        for _ in range(turns):
            await asyncio.sleep(0)
        bus.register_function(Function("test::note", note))
        bus.register_trigger("test::note", trigger("engine::functions-available"))
        bus.register_function(Function("test::late", other))
        async with asyncio.timeout(10):
            await told.wait()
