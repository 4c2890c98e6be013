"""`engine::functions-available`: who is bound is told of every function that comes afterwards."""

import asyncio

from linkly import Function, trigger
from linkly.testing import running_engine


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
