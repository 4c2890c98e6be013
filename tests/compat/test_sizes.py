"""docs/protocol.md C90, C94 and 1.7: large, deep and slow."""

import asyncio
import contextlib
import json

import websockets

from linkly.wire.messages import MAX_MESSAGE_BYTES


async def serving(bus_engine, **metadata):
    worker = await bus_engine.connect(**metadata)
    await worker.send(type="registerfunction", id="x::y")
    await worker.nothing_came()
    return worker


async def test_c90_a_result_an_old_python_client_cannot_take_becomes_an_error(bus_engine):
    worker = await serving(bus_engine)
    old = await bus_engine.connect(runtime="python", version="0.22.1")
    invocation_id = await old.start_call("x::y", {})
    await worker.serve_one(lambda message: {"result": "a" * (1024 * 1024 + 1)})
    answer = await old.until("invocationresult", invocation_id=invocation_id)
    assert answer["error"]["code"] == "payload_too_large"
    assert await old.nothing_came() == []


async def test_c90_a_call_an_old_python_client_cannot_take_fails_at_its_caller(bus_engine):
    old = await serving(bus_engine, runtime="python", version="0.22.1")
    caller = await bus_engine.connect()
    answer = await caller.call("x::y", {"text": "a" * (1024 * 1024)})
    assert answer["error"]["code"] == "payload_too_large"
    assert await old.nothing_came() == []


async def test_a_client_that_declares_large_messages_gets_them(bus_engine):
    worker = await serving(bus_engine)
    new = await bus_engine.connect(runtime="python", features=["large-messages.v1"])
    invocation_id = await new.start_call("x::y", {})
    await worker.serve_one(lambda message: {"result": "a" * 2_000_000})
    assert len((await new.until("invocationresult", invocation_id=invocation_id))["result"]) == 2_000_000


async def test_c94_a_message_of_20_mib_in_fragments_is_accepted(bus_engine):
    worker = await serving(bus_engine)
    caller = await bus_engine.connect()
    text = json.dumps(
        {"type": "invokefunction", "invocation_id": "i1", "function_id": "x::y", "data": {"t": "a" * 20 * 1024 * 1024}}
    )
    size = 1024 * 1024
    await caller.socket.send([text[start : start + size] for start in range(0, len(text), size)])
    call = await worker.serve_one(lambda message: {"result": len(message["data"]["t"])})
    assert call["function_id"] == "x::y"
    assert (await caller.until("invocationresult"))["result"] == 20 * 1024 * 1024


async def test_a_message_above_the_limit_ends_only_its_own_connection(bus_engine):
    other = await bus_engine.connect()
    hungry = await bus_engine.connect()
    half = "a" * (MAX_MESSAGE_BYTES // 2)
    with contextlib.suppress(websockets.ConnectionClosed):  # the engine may close before the last fragment is sent
        await hungry.socket.send(['{"type":"ping","x":"', half, half, half])
    await hungry.socket.wait_closed()
    assert hungry.socket.close_code not in (1000, 1001, 1005)
    assert await other.nothing_came() == []


async def test_a_call_nested_deeper_than_any_parser_follows_is_answered(bus_engine):
    client = await bus_engine.connect(metadata=False)
    deep = "[" * 200_000 + "]" * 200_000
    await client.send_text('{"type":"invokefunction","invocation_id":"i","function_id":"x::y","data":' + deep + "}")
    assert [frame["error"]["code"] for frame in await client.nothing_came()] == ["invalid_frame"]


async def test_a_peer_that_does_not_read_stalls_nobody_else(bus_engine):
    slow = await serving(bus_engine)
    slow.socket.transport.pause_reading()
    caller = await bus_engine.connect()
    big = "a" * (4 * 1024 * 1024)
    for _ in range(12):
        await caller.start_call("x::y", big)
    refused = await caller.until("invocationresult")
    assert refused["error"]["code"] == "overloaded"
    other = await bus_engine.connect()
    assert "result" in await other.call("engine::workers::list", {})
    statistics = (await other.call("engine::statistics", {}))["result"]["connections"]
    assert max(row["unsent_bytes"] for row in statistics) > 16 * 1024 * 1024
    slow.socket.transport.resume_reading()


async def test_a_half_open_socket_costs_nobody_anything(bus_engine):
    reader, writer = await asyncio.open_connection("127.0.0.1", bus_engine.server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
    await writer.drain()
    client = await bus_engine.connect()
    assert await client.nothing_came() == []
    writer.close()
    del reader


async def test_plain_http_and_garbage_on_the_worker_port_are_refused(bus_engine):
    for request in (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x00\xff garbage\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", bus_engine.server.port)
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 10)
        assert b" 101 " not in answer
        writer.close()
    assert await (await bus_engine.connect()).nothing_came() == []


async def test_a_reserved_bit_or_a_stray_continuation_is_a_protocol_error(bus_engine):
    for frame in (b"\xc1\x80\x00\x00\x00\x00", b"\x80\x80\x00\x00\x00\x00"):
        client = await bus_engine.connect(metadata=False)
        client.socket.transport.write(frame)
        await client.socket.wait_closed()
        assert client.socket.close_code == 1002


async def test_invalid_utf8_never_reaches_another_worker(bus_engine):
    worker = await serving(bus_engine)
    caller = await bus_engine.connect()
    text = b'{"type":"invokefunction","invocation_id":"i","function_id":"x::y","data":"\xff\xfe"}'
    await caller.socket.send(text)  # binary: the one way past a client's own check
    assert [frame["error"]["code"] for frame in await caller.nothing_came()] == ["invalid_frame"]
    assert await worker.nothing_came() == []


async def test_a_trigger_too_large_for_its_provider_is_refused_to_its_binder(bus_engine):
    provider, binder = await bus_engine.connect(runtime="python"), await bus_engine.connect()
    await provider.send(type="registertriggertype", id="t", description="")
    await provider.nothing_came()
    await binder.send(
        type="registertrigger", id="b", trigger_type="t", function_id="x::y", config={"a": "x" * 1_500_000}
    )
    refusal = await binder.until("triggerregistrationresult", id="b")
    assert "1048576" in refusal["error"]["message"]
    assert await provider.nothing_came() == []


async def test_a_durable_trigger_too_large_for_its_provider_is_refused_to_who_asked(bus_engine):
    provider, binder = await bus_engine.connect(runtime="python"), await bus_engine.connect()
    await provider.send(type="registertriggertype", id="t", description="")
    await provider.nothing_came()
    answer = await binder.call(
        "engine::register_trigger", {"trigger_type": "t", "function_id": "x::y", "config": {"a": "x" * 1_500_000}}
    )
    assert answer["error"]["code"] == "trigger_registration_failed"
    assert bus_engine.engine.tables.triggers.find_binding("b") is None


async def test_a_trigger_too_large_for_a_later_provider_does_not_cut_it(bus_engine):
    provider, binder = await bus_engine.connect(runtime="python"), await bus_engine.connect()
    for binding_id, size in (("large", 1_500_000), ("small", 1)):
        await binder.send(
            type="registertrigger", id=binding_id, trigger_type="t", function_id="x::y", config={"a": "x" * size}
        )
    await binder.nothing_came()
    await provider.send(type="registertriggertype", id="t", description="")
    assert [frame["id"] for frame in await provider.nothing_came()] == ["small"]
    await binder.until("triggerregistrationresult", id="large")
