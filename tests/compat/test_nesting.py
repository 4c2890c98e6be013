"""Calls out of a handler whose SDK hands baggage on (docs/protocol.md 3.8): circles end, calls nobody waits for too."""

import pytest

from linkly import Worker, function
from linkly.bus import HOP_LIMIT, Invocation
from linkly.errors import CallTimeout, TooManyHops
from linkly_engine.remote.nesting import GIVEN_UP_LIMIT, MEMBER, OVER, Nesting

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Impatient(Worker):
    """Waits 5 s for `x::y`."""

    name = "impatient"

    @function("impatient::call")
    async def call(self) -> object:
        return await self.bus.trigger("x::y", {}, timeout_s=5)

    @function("impatient::ask")
    async def ask(self) -> object:
        return await self.bus.trigger("x::silent", {})


@pytest.fixture
async def worker(bus_engine):
    """Serves `x::y` and hands baggage on."""
    worker = await bus_engine.connect()
    await worker.send(type="registerfunction", id="x::y")
    await worker.nothing_came()
    return worker


async def answer(worker, call, result=None):
    await worker.send(
        type="invocationresult", invocation_id=call["invocation_id"], function_id=call["function_id"], result=result
    )


async def test_a_circle_through_an_iii_worker_ends_at_the_hop_limit(bus_engine, worker):
    caller = await bus_engine.connect()
    await caller.start_call("x::y", {}, traceparent=TRACE)
    calls = 0
    while (message := await worker.receive())["type"] == "invokefunction":
        calls += 1
        assert calls <= 2 * HOP_LIMIT
        await worker.start_call("x::y", {}, traceparent=TRACE, baggage=message["baggage"])
    assert message["error"]["code"] == TooManyHops.code
    assert calls == HOP_LIMIT + 1


async def test_a_handler_whose_caller_has_given_up_calls_nobody(bus_engine, worker, clock):
    await bus_engine.engine.start([Impatient()])
    caller = await bus_engine.connect()
    await caller.start_call("impatient::call", traceparent=TRACE)
    call = await worker.until("invokefunction")
    in_time = await worker.call("engine::workers::list", {}, traceparent=TRACE, baggage=call["baggage"])
    assert "error" not in in_time
    await clock.advance(6)
    nested = await worker.call("engine::workers::list", {}, traceparent=TRACE, baggage=call["baggage"])
    assert nested["error"]["code"] == CallTimeout.code
    assert "was not called" in nested["error"]["message"]


async def test_an_uncancellable_nested_call_ends_with_the_time_of_the_outer_one(bus_engine, worker, clock):
    await bus_engine.engine.start([Impatient()])
    await worker.send(type="registerfunction", id="x::silent")
    caller = await bus_engine.connect()
    await caller.start_call("impatient::call", traceparent=TRACE)
    call = await worker.until("invokefunction", function_id="x::y")
    nested = await worker.start_call("impatient::ask", {}, traceparent=TRACE, baggage=call["baggage"])
    await worker.until("invokefunction", function_id="x::silent")
    await clock.advance(6)
    answer = await worker.until("invocationresult", invocation_id=nested)
    assert answer["error"]["code"] == CallTimeout.code


async def test_a_nested_call_of_another_worker_outlives_the_time_of_the_outer_one(bus_engine, worker, clock):
    await bus_engine.engine.start([Impatient()])
    other = await bus_engine.connect()
    await other.send(type="registerfunction", id="x::slow")
    await other.nothing_came()
    caller = await bus_engine.connect()
    await caller.start_call("impatient::call", traceparent=TRACE)
    call = await worker.until("invokefunction", function_id="x::y")
    nested = await worker.start_call("x::slow", {}, traceparent=TRACE, baggage=call["baggage"])
    slow = await other.until("invokefunction")
    await clock.advance(6)
    await answer(other, slow, "late")
    assert (await worker.until("invocationresult", invocation_id=nested))["result"] == "late"


async def test_what_a_handler_leaves_running_is_nested_in_nothing(bus_engine, worker, clock):
    await bus_engine.engine.start([Impatient()])
    caller = await bus_engine.connect()
    await caller.start_call("impatient::call", traceparent=TRACE)
    call = await worker.until("invokefunction")
    await answer(worker, call, "done")
    assert (await caller.until("invocationresult"))["result"] == "done"
    await clock.advance(60)
    later = await worker.call("engine::workers::list", {}, traceparent=TRACE, baggage=call["baggage"])
    assert "error" not in later


def test_a_bounded_number_of_abandoned_calls_is_remembered():
    nesting = Nesting()
    for _ in range(2 * GIVEN_UP_LIMIT):
        answered, abandoned = (nesting.begin(Invocation(function_id="x::y", baggage="k=v")) or "" for _ in range(2))
        nesting.end(answered)
        nesting.give_up(abandoned)
    assert len(nesting) == GIVEN_UP_LIMIT
    late = Invocation(function_id="x::y", baggage=f"{MEMBER}={abandoned}")
    nesting.place(late)
    assert late.deadline == OVER
