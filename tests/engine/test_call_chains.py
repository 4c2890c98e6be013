"""Calls that are nested in calls: they share a deadline, are not nested for ever, and do not pile up."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from linkly import Void, Worker, current, function
from linkly.bus import HOP_LIMIT
from linkly.errors import CallTimeout, LinklyError, Overloaded, TooManyHops
from linkly.testing import ManualClock, running_engine, settle, wired
from linkly.worker import running
from linkly_engine.engine import Engine
from linkly_engine.remote.forwarding import PENDING_LIMIT

WIRES = pytest.mark.parametrize("wire", ["in process", "native", "json"])


class Circle(Worker):
    """Two functions that call one another, and what they see of the call."""

    name = "circle"

    def __init__(self) -> None:
        self.entered = 0
        self.remaining: list[float | None] = []
        self.gate = asyncio.Event()

    @function("circle::there")
    async def there(self) -> None:
        self.entered += 1
        await self.bus.trigger("circle::back")

    @function("circle::back")
    async def back(self) -> None:
        self.entered += 1
        await self.bus.trigger("circle::there")

    @function("circle::again")
    async def again(self, left: int) -> None:
        self.entered += 1
        if left:
            await self.bus.trigger("circle::again", {"left": left - 1}, action=Void())

    @function("circle::outer")
    async def outer(self) -> None:
        await self.bus.trigger("circle::inner")

    @function("circle::inner")
    async def inner(self) -> None:
        deadline = current().deadline
        self.remaining.append(None if deadline is None else round(deadline - self.bus.clock.monotonic()))

    @function("circle::wait")
    async def wait(self) -> None:
        self.entered += 1
        await self.gate.wait()


@asynccontextmanager
async def circle(wire: str, clock: ManualClock | None = None):
    worker = Circle()
    options = {} if wire == "in process" else {"wire": True, "native": wire == "native"}
    async with running_engine(worker, clock=clock, **options) as bus:
        yield worker, bus


@pytest.mark.parametrize("wire", ["in process", "native"])
async def test_a_circle_of_calls_ends_at_the_hop_limit(wire):
    async with circle(wire) as (worker, bus):
        with pytest.raises(TooManyHops, match="more than 64 others"):
            await bus.trigger("circle::there")
        assert worker.entered == HOP_LIMIT + 1


async def test_a_circle_over_a_wire_without_hops_ends_at_the_limit_of_pending_calls():
    async with circle("json") as (worker, bus):
        with pytest.raises(Overloaded, match="waits for 1000 answers"):
            await bus.trigger("circle::there")
        assert 2 * PENDING_LIMIT <= worker.entered <= 2 * PENDING_LIMIT + 2


@WIRES
async def test_a_chain_that_nobody_waits_for_may_go_on(wire):
    async with circle(wire) as (worker, bus):
        await bus.trigger("circle::again", {"left": 3 * HOP_LIMIT})
        async with asyncio.timeout(30):
            while worker.entered <= 3 * HOP_LIMIT:
                await settle()


@pytest.mark.parametrize("wire, remaining", [("in process", 7), ("native", 7), ("json", None)])
async def test_a_nested_call_knows_how_long_the_first_caller_waits(wire, remaining):
    async with circle(wire, ManualClock()) as (worker, bus):
        await bus.trigger("circle::outer", timeout_s=7)
        assert worker.remaining == [remaining if remaining is not None else None]


async def test_the_thousand_and_first_pending_call_is_overloaded():
    async with Engine() as engine, wired(engine, name="worker") as bus, AsyncExitStack() as stack:
        worker = Circle()
        await stack.enter_async_context(running(worker, bus))
        greedy = await stack.enter_async_context(wired(engine, name="greedy"))
        other = await stack.enter_async_context(wired(engine, name="other"))
        await settle()
        calls = [asyncio.create_task(greedy.trigger("circle::wait")) for _ in range(PENDING_LIMIT)]
        await settle(50)
        with pytest.raises(Overloaded, match="worker `greedy` waits for 1000 answers"):
            await greedy.trigger("circle::wait")
        assert await greedy.trigger("circle::inner") is None  # another function
        beside = asyncio.create_task(other.trigger("circle::wait"))  # another caller
        await settle()
        assert worker.entered == PENDING_LIMIT + 1
        calls.pop().cancel()
        await settle()
        again = asyncio.create_task(greedy.trigger("circle::wait"))  # a place has become free
        await settle()
        assert worker.entered == PENDING_LIMIT + 2
        worker.gate.set()
        await asyncio.gather(*calls, beside, again)


async def test_a_call_whose_time_is_over_when_it_arrives_is_not_made():
    clock = ManualClock()
    async with Engine(clock=clock) as engine, wired(engine, name="worker") as bus:
        worker = Circle()
        async with running(worker, bus), wired(engine, name="caller") as caller:
            await settle()
            call = asyncio.create_task(caller.trigger("circle::wait", timeout_s=0.0))
            with pytest.raises(LinklyError) as caught:
                await call
            await settle()
            assert caught.value.code == CallTimeout.code
            assert worker.entered == 0
