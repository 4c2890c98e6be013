"""A worker leaves, another one offers the same: rolling deploys behind the real gateway, and takeovers beside them."""

import asyncio
from contextlib import AsyncExitStack

import httpx
import pytest

from linkly import Function, Worker, function, trigger
from linkly.testing import ManualClock, settle, wired
from linkly.trigger import TriggerType
from linkly_engine.engine import Engine
from linkly_workers.http import HttpSettings, HttpWorker
from support.serving import engine_and_bus


class Shop(Worker):
    """A worker in the engine's process."""

    name = "shop"

    @function("shop::who")
    async def who(self) -> str:
        """Say who serves."""
        return "in process"


async def replica(stack, engine, answer, *, native=True):
    """A remote worker that serves `GET /h` as every other replica does; return it and what ends it."""
    context = wired(engine, name=answer, native=native)
    client = await context.__aenter__()
    client.register_function(Function("shop::who", lambda payload: {"body": answer}))
    client.register_trigger("shop::who", trigger("http", {"api_path": "/h", "http_method": "GET"}))
    ended = False

    async def end():
        nonlocal ended
        if not ended:
            ended = True
            await context.__aexit__(None, None, None)

    stack.push_async_callback(end)
    await settle()
    await engine.acknowledged()
    return client, end


@pytest.mark.parametrize("ending", ["leaves", "is cut"])
@pytest.mark.parametrize("native", [True, False], ids=["native", "json"])
async def test_a_route_goes_on_with_the_next_replica_when_one_of_them(ending, native):
    http = HttpWorker(HttpSettings(port=0))
    async with engine_and_bus(http, clock=ManualClock()) as (engine, _), AsyncExitStack() as stack:
        page = await stack.enter_async_context(httpx.AsyncClient(base_url=http.addresses()["http"]))
        first, end_first = await replica(stack, engine, "first", native=native)
        await replica(stack, engine, "second", native=native)
        assert (await page.get("/h")).json() == "first"
        if ending == "leaves":
            await end_first()
        else:
            engine.peers[first.worker_id].cut("on purpose")  # it comes back when the clock moves
        await settle()
        await engine.acknowledged()
        answer = await page.get("/h")
        assert (answer.status_code, answer.json()) == (200, "second")


async def test_a_remote_worker_serves_the_functions_that_an_in_process_one_leaves():
    async with Engine() as engine, AsyncExitStack() as stack:
        shop = Shop()
        await engine.start([shop])
        await replica(stack, engine, "remote")
        bus = engine.bus("test")
        assert await bus.trigger("shop::who") == "in process"
        await engine.host.stop(shop)
        assert await bus.trigger("shop::who") == {"body": "remote"}


async def test_a_remote_worker_serves_before_the_in_process_one_has_finished():
    started, gate = asyncio.Event(), asyncio.Event()

    class Slow(Shop):
        @function("shop::slow")
        async def slow(self) -> str:
            started.set()
            await gate.wait()
            return "finished"

    async with Engine() as engine, AsyncExitStack() as stack:
        shop = Slow()
        await engine.start([shop])
        await replica(stack, engine, "remote")
        bus = engine.bus("test")
        slow = asyncio.create_task(bus.trigger("shop::slow"))
        await started.wait()
        stopping = asyncio.create_task(engine.host.stop(shop))
        await settle()
        assert await bus.trigger("shop::who") == {"body": "remote"}
        gate.set()
        assert await slow == "finished"
        await stopping


async def test_the_next_generation_of_an_in_process_worker_goes_before_those_who_wait():
    async with Engine() as engine, AsyncExitStack() as stack:
        shop, bus = Shop(), engine.bus("test")
        await engine.start([shop])
        await replica(stack, engine, "remote")
        handover = await engine.host.stop(shop, waiting=True)
        call = asyncio.create_task(bus.trigger("shop::who"))
        await settle()
        await engine.host.start(Shop(), takes_over=handover)
        handover.release()
        assert await call == "in process"
        assert engine.tables.functions.waiting == 1


async def test_the_next_generation_of_a_program_goes_before_those_who_wait():
    async with Engine() as engine, AsyncExitStack() as stack:
        bus = engine.bus("test")
        old, end_old = await replica(stack, engine, "old")
        await replica(stack, engine, "foreign")
        engine.tables.retire(engine.peers[old.worker_id].record)
        await replica(stack, engine, "new")
        assert await bus.trigger("shop::who") == {"body": "new"}
        await end_old()
        await settle()
        assert await bus.trigger("shop::who") == {"body": "new"}


async def test_a_program_that_is_being_replaced_inherits_nothing():
    async with Engine() as engine, AsyncExitStack() as stack:
        bus = engine.bus("test")
        _, end_owner = await replica(stack, engine, "owner")
        retiring, _ = await replica(stack, engine, "retiring")
        engine.tables.retire(engine.peers[retiring.worker_id].record)
        await replica(stack, engine, "foreign")
        await end_owner()
        await settle()
        assert await bus.trigger("shop::who") == {"body": "foreign"}


async def test_a_trigger_type_of_the_engine_survives_the_end_of_another_provider():
    http = HttpWorker(HttpSettings(port=0))
    async with engine_and_bus(http) as (engine, _), AsyncExitStack() as stack:
        page = await stack.enter_async_context(httpx.AsyncClient(base_url=http.addresses()["http"]))
        await replica(stack, engine, "replica")
        context = wired(engine, name="another gateway")
        other = await context.__aenter__()

        async def ignore(binding):
            pass

        other.register_trigger_type(TriggerType("http", "d", bind=ignore, unbind=ignore))
        await settle()
        await engine.acknowledged()
        assert (await page.get("/h")).status_code == 404
        await context.__aexit__(None, None, None)
        await settle()
        await engine.acknowledged()
        assert (await page.get("/h")).json() == "replica"
