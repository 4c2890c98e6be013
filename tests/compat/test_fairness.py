"""One connection that floods does not stop the others: order of service, on real sockets."""

import asyncio
import json

import pytest

from linkly import Function, current
from linkly_engine.remote.registrations import OWNED_LIMIT
from linkly_engine.remote.waiting import LET_IN_AT_ONCE


def frame(payload):
    """Return a text frame, masked with zeros, as a client sends it."""
    head = bytes((0x81, 0xFE)) + len(payload).to_bytes(2, "big")
    return head + b"\0\0\0\0" + payload


def call(function_id, invocation_id, data=None):
    message = {"type": "invokefunction", "function_id": function_id, "invocation_id": invocation_id, "data": data}
    return frame(json.dumps(message).encode().ljust(130))


async def test_a_call_is_served_before_the_flood_of_another_connection_is_through(bus_engine):
    flooder, calm = await bus_engine.connect(), await bus_engine.connect()
    served = []

    async def note(who: str) -> None:
        if not served:  # the flood has arrived: only now the other one calls
            calm.socket.transport.write(call("test::note", "mine", {"who": "calm"}))
        served.append(who)

    bus_engine.engine.bus("test").register_function(Function("test::note", note))
    flood = [call("test::note", f"f{number}", {"who": "flooder"}) for number in range(5000)]
    flooder.socket.transport.write(b"".join(flood))
    await calm.until("invocationresult", invocation_id="mine")
    assert served.index("calm") < 500
    flooder.socket.transport.abort()  # it does not read what it was answered, and would wait 10 s for the end of that


async def test_every_call_of_a_flood_is_answered_in_order(bus_engine):
    flooder = await bus_engine.connect()
    served = []

    async def note(number: int) -> None:
        served.append(number)

    bus_engine.engine.bus("test").register_function(Function("test::note", note))
    flooder.socket.transport.write(
        b"".join(call("test::note", f"f{number}", {"number": number}) for number in range(5000))
    )
    await flooder.until("invocationresult", invocation_id="f4999")
    assert served == list(range(5000))
    assert (
        len([each for each in flooder.seen if each["type"] == "invocationresult"]) == 5001
    )  # one is that of its metadata call


async def test_what_is_called_inside_a_call_has_the_origin_of_that_call(bus_engine):
    client, origins = await bus_engine.connect(), []
    bus = bus_engine.engine.bus("test")

    async def inner() -> None:
        origins.append(current().origin)

    async def outer() -> None:
        origins.append(current().origin)
        await bus.trigger("test::inner")

    bus.register_function(Function("test::inner", inner))
    bus.register_function(Function("test::outer", outer))
    await client.call("test::outer")
    await bus.trigger("test::outer")
    assert origins == [client.worker_id] * 2 + [bus.record.id] * 2


async def test_registrations_that_waited_are_let_in_by_slices(bus_engine):
    worker, caller = await bus_engine.connect(metadata=False), await bus_engine.connect()
    count = 3 * LET_IN_AT_ONCE
    for number in range(count):
        await worker.send(type="registerfunction", id=f"many::f{number}")
    await worker.nothing_came()
    before = len(bus_engine.engine.tables.functions)
    peer = bus_engine.engine.peers[worker.worker_id]
    peer.fix_namespace("default")
    assert len(bus_engine.engine.tables.functions) == before + LET_IN_AT_ONCE
    invocation_id = await caller.start_call(f"many::f{count - 1}")
    await worker.serve_one(lambda _: {"result": "served"})
    answer = await caller.until("invocationresult", invocation_id=invocation_id)
    assert answer["result"] == "served"


@pytest.mark.parametrize("kind", ["functions", "triggers"])
async def test_a_connection_owns_a_bounded_number_of_things(bus_engine, kind):
    worker, other = await bus_engine.connect(), await bus_engine.connect()

    def registration(number):
        if kind == "functions":
            message = {"type": "registerfunction", "id": f"many::f{number}"}
        else:
            message = {"type": "registertrigger", "id": f"t{number}", "trigger_type": "none", "function_id": "f"}
        return frame(json.dumps(message).encode().ljust(130))

    worker.socket.transport.write(b"".join(registration(number) for number in range(OWNED_LIMIT + 1)))
    if kind == "functions":
        told = await worker.until("registrationrejected")
        assert (told["function_id"], told["code"]) == (f"many::f{OWNED_LIMIT}", "overloaded")
    else:
        told = await worker.until("triggerregistrationresult")
        assert (told["id"], told["error"]["code"]) == (f"t{OWNED_LIMIT}", "overloaded")
        assert str(OWNED_LIMIT) in told["error"]["message"]
    worker.seen.clear()
    await other.send(type="registerfunction", id="other::f")
    assert await other.nothing_came() == []
    assert bus_engine.engine.tables.functions.find("default", "other::f") is not None


async def test_what_is_taken_back_makes_room_again(bus_engine):
    worker = await bus_engine.connect()
    functions = [json.dumps({"type": "registerfunction", "id": f"many::f{number}"}) for number in range(OWNED_LIMIT)]
    worker.socket.transport.write(b"".join(frame(text.encode().ljust(130)) for text in functions))
    await worker.send(type="unregisterfunction", id="many::f0")
    await worker.send(type="registerfunction", id="many::new")
    assert await worker.nothing_came() == []
    assert bus_engine.engine.tables.functions.find("default", "many::new") is not None


async def test_a_flood_of_registrations_is_told_with_pauses(bus_engine, clock):
    watcher, worker = await bus_engine.connect(), await bus_engine.connect()
    await watcher.send(type="registerfunction", id="watch::on")
    await watcher.send(
        type="registertrigger", id="w", trigger_type="engine::functions-available", function_id="watch::on"
    )
    await watcher.nothing_came()
    events = []
    for number in range(10):
        await worker.send(type="registerfunction", id=f"new::f{number}")
        await worker.nothing_came()
        events += [each for each in await watcher.nothing_came() if each["type"] == "invokefunction"]
    assert len(events) <= 1
    await clock.advance(10)
    await asyncio.sleep(0)
    last = (await watcher.until("invokefunction"))["data"]["functions"]
    assert {f"new::f{number}" for number in range(10)} <= {row["function_id"] for row in last}
