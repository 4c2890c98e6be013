"""The client: connect, serve, call, lose the connection, come back."""

import asyncio

import pytest

from linkly import Client, Function, Void, function, trigger
from linkly.errors import (
    CallTimeout,
    ConnectionLost,
    FunctionNotFound,
    Shutdown,
)
from linkly.testing import ManualClock, running_engine, settle, wired
from linkly.trigger import TriggerType
from linkly.worker import Worker
from support.serving import engine_and_bus, serving


async def registered(engine, function_id):
    """Wait until a function is there."""
    arrived = asyncio.Event()

    async def check(payload):
        if engine.tables.functions.find("default", function_id) is not None:
            arrived.set()

    bus = engine.bus("watcher")
    bus.register_function(Function("watcher::check", check))
    bus.register_trigger("watcher::check", trigger("engine::functions-available"))
    await check(None)
    await asyncio.wait_for(arrived.wait(), 30)


async def test_everything_registered_comes_back_after_the_engine_restarts():
    told = []

    async def bind(binding):
        told.append(binding.function_id)

    async def unbind(binding):
        told.append("unbound")

    async with serving() as (_, server):
        port = server.port
        client = Client(server.url, name="w")
        await client.__aenter__()
        client.register_trigger_type(TriggerType("tick", "d", bind=bind, unbind=unbind))
        client.register_trigger("w::run", trigger("tick"))
        client.register_function(Function("w::run", lambda payload: "ran"))
        assert await client.trigger("w::run") == "ran"
        first_id = client.worker_id
    async with serving(port=port) as (engine, _):
        await registered(engine, "w::run")
        assert await engine.bus("x").trigger("w::run") == "ran"
        assert await client.trigger("w::run") == "ran"
        assert client.worker_id != first_id
        assert told == ["w::run", "w::run"]
        await client.close()


async def test_a_function_registered_while_there_is_no_engine_is_not_lost():
    async with serving() as (_, server):
        port = server.port
    client = Client(f"ws://127.0.0.1:{port}", name="w", wait=False)
    async with client:
        client.register_function(Function("w::run", lambda payload: "ran"))
        waiting = asyncio.create_task(client.trigger("w::run"))
        async with serving(port=port):
            assert await asyncio.wait_for(waiting, 30) == "ran"


async def test_a_call_in_flight_when_the_connection_is_lost_fails_at_once():
    async with serving() as (engine, server), Client(server.url, name="caller") as client:
        started = asyncio.Event()

        async def never(payload):
            started.set()
            await asyncio.Event().wait()

        engine.bus("host").register_function(Function("host::never", never))
        call = asyncio.create_task(client.trigger("host::never"))
        await asyncio.wait_for(started.wait(), 30)
        engine.peers[client.worker_id].cut("on purpose")
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(call, 30)


async def test_a_call_that_was_given_up_is_cancelled_where_it_runs():
    clock = ManualClock()
    async with engine_and_bus(clock=clock) as (engine, bus):
        started, cancelled = asyncio.Event(), asyncio.Event()

        async def slow(payload):
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        bus.register_function(Function("t::slow", slow))
        async with wired(engine, name="remote") as remote:
            for ending in ("time-out", "cancellation"):
                started.clear()
                cancelled.clear()
                call = asyncio.create_task(remote.trigger("t::slow", timeout_s=1))
                await asyncio.wait_for(started.wait(), 10)
                if ending == "time-out":
                    await clock.advance(1.1)
                    with pytest.raises(CallTimeout, match="t::slow"):
                        await call
                else:
                    call.cancel()
                    await asyncio.wait([call])
                await asyncio.wait_for(cancelled.wait(), 10)
            await settle()
            statistics = await bus.trigger("engine::statistics")
            row = statistics["connections"][0]
            assert (row["calls_waiting_for_it"], row["calls_it_waits_for"]) == (0, 0)


async def test_a_remote_executor_is_told_that_its_caller_gave_up():
    clock = ManualClock()
    async with engine_and_bus(clock=clock) as (engine, _), wired(engine, name="executor") as executor:
        started, cancelled = asyncio.Event(), asyncio.Event()

        async def slow(payload):
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        executor.register_function(Function("t::slow", slow))
        await settle()
        async with wired(engine, name="caller") as caller:
            call = asyncio.create_task(caller.trigger("t::slow"))
            await asyncio.wait_for(started.wait(), 10)
            call.cancel()
            await asyncio.wait_for(cancelled.wait(), 10)


async def test_a_client_that_was_closed_says_so():
    async with engine_and_bus() as (engine, _):
        async with wired(engine, name="w") as client:
            pass
        with pytest.raises(Shutdown):
            await client.trigger("engine::functions::list")


async def test_leaving_finishes_what_is_being_served():
    async with engine_and_bus() as (engine, bus):
        started, gate = asyncio.Event(), asyncio.Event()

        async def slow(payload):
            started.set()
            await gate.wait()
            return "finished"

        client_context = wired(engine, name="w")
        client = await client_context.__aenter__()
        client.register_function(Function("w::slow", slow))
        await settle()
        call = asyncio.create_task(bus.trigger("w::slow"))
        await asyncio.wait_for(started.wait(), 10)
        leaving = asyncio.create_task(client_context.__aexit__(None, None, None))
        await settle()
        with pytest.raises(FunctionNotFound):
            await bus.trigger("w::slow")
        gate.set()
        assert await call == "finished"
        await leaving


async def test_leaving_does_not_wait_for_a_call_that_its_caller_has_given_up():
    # The clock stands still: what a leaving client waits at most never comes.
    async with (
        asyncio.timeout(30),
        engine_and_bus(clock=ManualClock()) as (engine, bus),
        wired(engine, name="w") as client,
    ):
        started = asyncio.Event()

        async def endless(payload):
            started.set()
            await asyncio.Event().wait()

        client.register_function(Function("w::endless", endless))
        await settle()
        call = asyncio.create_task(bus.trigger("w::endless"))
        await started.wait()
        leaving = asyncio.create_task(client.close())
        await settle()
        assert not leaving.done()
        call.cancel()
        await leaving


@pytest.mark.parametrize("native", [True, False], ids=["native", "json"])
async def test_a_thousand_calls_at_once_all_end(native):
    class Echo(Worker):
        name = "echo"

        @function("echo::echo")
        async def echo(self, payload):
            return payload

    async with running_engine(Echo(), wire=True, native=native) as bus:
        answers = await asyncio.gather(*(bus.trigger("echo::echo", [n]) for n in range(1000)))
        assert answers == [[n] for n in range(1000)]


@pytest.mark.parametrize("native", [True, False])
async def test_a_call_says_in_which_namespace_its_function_is(native):
    class Echo(Worker):
        name = "shop"

        @function("echo::it")
        async def it(self, payload: dict) -> int:
            return payload["a"]

    async with running_engine(Echo(), wire=True, native=native) as bus:
        for number in range(2):
            assert await bus.trigger("echo::it", {"a": number}, namespace="default") == number
            with pytest.raises(FunctionNotFound):
                await bus.trigger("echo::it", {"a": 1}, namespace='an "other"')


async def test_the_back_off_grows_and_is_jittered():
    waits = []

    class Watched(ManualClock):
        async def sleep(self, delay_s):
            waits.append(delay_s)
            if len(waits) >= 9:
                await asyncio.Event().wait()

    class Nobody:
        async def connect(self, attach):
            raise ConnectionRefusedError("nobody")

    client = Client("ws://nowhere", name="w", dialer=Nobody(), clock=Watched(), wait=False)
    async with client:
        await settle(100)
    expected = [min(0.1 * 2**n, 10) for n in range(9)]
    assert all(0.7 * want <= got <= 1.3 * want for got, want in zip(waits, expected, strict=True))
    assert waits != expected


async def test_void_calls_are_sent_and_not_waited_for():
    async with engine_and_bus() as (engine, bus), wired(engine, name="w") as client:
        called = asyncio.Event()
        bus.register_function(Function("t::note", lambda payload: called.set()))
        assert await client.trigger("t::note", {}, action=Void()) is None
        assert await client.trigger("no::such", {}, action=Void()) is None
        await asyncio.wait_for(called.wait(), 10)
