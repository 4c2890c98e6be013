"""A call from one connection to another arrives as it was made, whichever framing either side speaks."""

import asyncio
import gc
import json
import math
import weakref
from contextlib import AsyncExitStack

import pytest

from linkly import Function, current
from linkly.errors import LinklyError
from linkly.testing import ManualClock, settle, wired
from linkly_engine.engine import Engine
from linkly_engine.remote.function import with_caller
from support.raw_client import EngineUnderTest
from support.serving import serving

framings = pytest.mark.parametrize(
    "caller_speaks, callee_speaks", [(a, b) for a in ("native", "json") for b in ("native", "json")]
)


async def echo(payload):
    return payload


async def connected(stack, engine, **speaks):
    """Return a client for each name, in order."""
    return [
        await stack.enter_async_context(wired(engine, name=name, native=framing == "native"))
        for name, framing in speaks.items()
    ]


@framings
@pytest.mark.parametrize("value", [{}, {"a": 'ü"\\'}, {"_caller_worker_id": "mine"}, [1, None], "text", 0, False, None])
async def test_payload_and_result_arrive_as_they_are(caller_speaks, callee_speaks, value):
    async with Engine() as engine, AsyncExitStack() as stack:
        callee, caller = await connected(stack, engine, callee=callee_speaks, caller=caller_speaks)
        callee.register_function(Function('odd::"name" ü', echo))
        await settle()
        for _ in range(2):  # the second finds its route known
            result = await caller.trigger('odd::"name" ü', value)
            if isinstance(value, dict) and callee_speaks == "json":
                assert result.pop("_caller_worker_id") == caller.worker_id
                value = {name: each for name, each in value.items() if name != "_caller_worker_id"}
            assert result == value


@framings
@pytest.mark.parametrize("timeout_s", [5e6, math.inf])
async def test_a_call_may_take_longer_than_a_frame_can_say(caller_speaks, callee_speaks, timeout_s):
    async with Engine(clock=ManualClock()) as engine, AsyncExitStack() as stack:
        callee, caller = await connected(stack, engine, callee=callee_speaks, caller=caller_speaks)
        callee.register_function(Function("far::echo", echo))
        await settle()
        for bus in (caller, engine.bus("near")):
            assert await bus.trigger("far::echo", 1, timeout_s=timeout_s) == 1
            assert await bus.trigger("far::echo", 1, timeout_s=timeout_s, metadata={}) == 1


@framings
async def test_a_handler_knows_who_calls_and_what_it_is_nested_in(caller_speaks, callee_speaks):
    async with Engine() as engine, AsyncExitStack() as stack:
        callee, caller = await connected(stack, engine, callee=callee_speaks, caller=caller_speaks)

        async def who(payload):
            made = current()
            return [made.caller and made.caller.worker_id, made.hops, made.deadline is not None]

        callee.register_function(Function("far::who", who))
        await settle()
        natively = caller_speaks == callee_speaks == "native"
        for _ in range(2):
            assert await caller.trigger("far::who", {}) == [caller.worker_id, 0, natively]


@framings
async def test_errors_and_the_end_of_the_callee_reach_the_caller(caller_speaks, callee_speaks):
    async with Engine() as engine, AsyncExitStack() as stack:
        callee, caller = await connected(stack, engine, callee=callee_speaks, caller=caller_speaks)

        async def fail(payload):
            raise LinklyError("not today", code="REFUSED", details={"a": 1})

        callee.register_function(Function("far::fail", fail))
        entered = asyncio.Event()

        async def wait(payload):
            entered.set()
            await asyncio.Event().wait()

        callee.register_function(Function("far::wait", wait))
        await settle()
        for _ in range(2):
            with pytest.raises(LinklyError, match="not today") as failed:
                await caller.trigger("far::fail", 1)
            assert (failed.value.code, failed.value.details) == ("REFUSED", {"a": 1})
        waiting = asyncio.create_task(caller.trigger("far::wait", 1))
        await entered.wait()
        peers = {peer.record.name: peer for peer in engine.peers.values()}
        assert (len(peers["callee"].connection.calls), len(peers["caller"].connection.serving)) == (1, 1)
        peers["callee"].cut("gone")
        with pytest.raises(LinklyError) as failed:
            await waiting
        assert failed.value.code == "invocation_stopped"
        assert len(peers["caller"].connection.serving) == len(peers["caller"].connection.pending) == 0


@framings
async def test_a_caller_that_gives_up_or_goes_leaves_nothing_behind(caller_speaks, callee_speaks):
    clock = ManualClock()
    async with Engine(clock=clock) as engine, AsyncExitStack() as stack:
        callee, caller = await connected(stack, engine, callee=callee_speaks, caller=caller_speaks)
        cancelled = asyncio.Event()

        async def wait(payload):
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        callee.register_function(Function("far::wait", wait))
        await settle()
        calls = [asyncio.create_task(caller.trigger("far::wait", 1, timeout_s=1 + number)) for number in range(3)]
        await settle()
        await clock.advance(2)
        outcomes = [call.done() for call in calls]
        assert outcomes == [True, True, False]
        peers = {peer.record.name: peer for peer in engine.peers.values()}
        peers["caller"].cut("gone")
        with pytest.raises(LinklyError):
            await calls[2]
        await settle()
        if caller_speaks == callee_speaks == "native":
            assert cancelled.is_set()
        assert len(peers["callee"].connection.calls) == 0
        peers["callee"].cut("gone")


async def test_texts_that_come_together_arrive_in_order_whatever_stands_between_them():
    async with serving() as (engine, server), AsyncExitStack() as stack:
        under_test = EngineUnderTest(engine, server, stack)
        callee, other, caller, second = [await under_test.connect() for _ in range(4)]
        for client, function_id in ((callee, "far::f"), (callee, "far::g"), (other, "far::h")):
            await client.send(type="registerfunction", id=function_id)
            await client.nothing_came()

        async def call(name, function_id, **fields):
            await caller.send(
                type="invokefunction", invocation_id=name, function_id=function_id, data={"is": name}, **fields
            )

        await call("a", "far::f")
        await call("b", "far::f")
        await call("c", "far::g")
        await call("b", "far::g")  # is being served
        await caller.send_text('{"type": "invokefunction", "broken')
        await call("d", "far::f", metadata={"m": 1})
        await call("e", "far::h")
        await caller.socket.send(b"LOGSx")
        await call("f", "far::nowhere")
        await call("g", "far::f", action={"type": "void"})
        await call("h", "far::f")
        await second.send(type="invokefunction", invocation_id="a", function_id="far::f", data=[])
        calls = [await callee.until("invokefunction") for _ in range(7)]
        assert [message["data"] and message["data"]["is"] for message in calls] == ["a", "b", "c", "d", "g", "h", []]
        assert await callee.nothing_came() == []
        calls.append(await other.until("invokefunction"))
        assert calls[-1]["data"]["is"] == "e"
        for message in calls:
            client = other if message["function_id"] == "far::h" else callee
            outcome = (
                {"error": {"code": "no", "message": "no"}} if message["function_id"] == "far::g" else {"result": 1}
            )
            named = {name: message[name] for name in ("invocation_id", "function_id") if name in message}
            await client.send(type="invocationresult", **named, **outcome)
        await other.nothing_came()
        await callee.nothing_came()
        outcomes = {message["invocation_id"]: message.get("result") for message in await caller.nothing_came()}
        assert outcomes == {"a": 1, "b": 1, "c": None, "d": 1, "e": 1, "f": None, "h": 1}
        assert [message["result"] for message in await second.nothing_came()] == [1]


@framings
async def test_of_workers_that_called_each_other_nothing_is_left_when_they_have_gone(caller_speaks, callee_speaks):
    async with Engine() as engine:
        async with AsyncExitStack() as stack:
            clients = await connected(stack, engine, one=caller_speaks, other=callee_speaks)
            for client, function_id in zip(clients, ("one::echo", "other::echo"), strict=True):
                client.register_function(Function(function_id, echo))
            await settle()
            for client in clients:
                for function_id in ("one::echo", "other::echo"):
                    await client.trigger(function_id, 1)
            connections = [weakref.ref(peer.connection) for peer in engine.peers.values()]
            del client, clients
        await settle()
        gc.collect()
        assert [connection() for connection in connections] == [None, None]


@framings
async def test_of_a_worker_that_was_called_nothing_is_left_when_its_caller_calls_another(caller_speaks, callee_speaks):
    async with Engine() as engine, AsyncExitStack() as stack:
        async with AsyncExitStack() as gone:
            (callee,) = await connected(gone, engine, callee=callee_speaks)
            callee.register_function(Function("callee::echo", echo))
            caller, other = await connected(stack, engine, caller=caller_speaks, other=caller_speaks)
            other.register_function(Function("other::echo", echo))
            await settle()
            await caller.trigger("callee::echo", 1)
            (connection,) = [
                weakref.ref(peer.connection) for peer in engine.peers.values() if peer.record.name == "callee"
            ]
            del callee
        await settle()
        await caller.trigger("other::echo", 1)
        gc.collect()
        assert connection() is None


async def test_an_id_that_json_has_to_escape_comes_back_as_it_was():
    async with serving() as (engine, server), AsyncExitStack() as stack:
        under_test = EngineUnderTest(engine, server, stack)
        callee, caller = await under_test.connect(), await under_test.connect()
        await callee.send(type="registerfunction", id="far::f")
        await callee.nothing_came()
        odd = 'a"\\\n\u00fc'
        await caller.send(type="invokefunction", invocation_id=odd, function_id="far::f", data={"a": 1})
        message = await callee.serve_one(lambda message: {"result": message["data"]["a"]})
        assert message["data"] == {"a": 1, "_caller_worker_id": caller.worker_id}
        assert (await caller.until("invocationresult"))["invocation_id"] == odd


@pytest.mark.parametrize(
    "payload", ["{}", "{ }", '{"a":1}', ' { "a" : {} } ', "{\n\t}", '{"_caller_worker_id":"x"}', "[]", '"{"', "1"]
)
def test_the_caller_is_told_inside_every_object(payload):
    told = json.loads(bytes(with_caller(payload.encode(), "w")))
    value = json.loads(payload)
    assert told == ({**value, "_caller_worker_id": "w"} if isinstance(value, dict) else value)
