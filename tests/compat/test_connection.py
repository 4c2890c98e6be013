"""docs/protocol.md C01-C08: the connection."""

import asyncio
import json

import pytest

from linkly_engine.remote.server import WorkerServer


async def test_c01_first_frame_is_workerregistered_with_id_and_token(bus_engine):
    client = await bus_engine.connect(metadata=False)
    assert client.hello["type"] == "workerregistered"
    assert isinstance(client.hello["worker_id"], str)
    assert isinstance(client.hello["reattach_token"], str)
    assert "features" not in client.hello


async def test_c02_each_connection_gets_a_new_worker_id_also_after_a_reattach(bus_engine):
    first = await bus_engine.connect()
    second = await bus_engine.connect(metadata=False)
    await second.send(type="reattach", previous_worker_id=first.worker_id, reattach_token=first.hello["reattach_token"])
    assert await second.nothing_came() == []
    assert second.worker_id != first.worker_id


async def test_c03_the_telemetry_socket_never_becomes_a_worker(bus_engine):
    watcher = await bus_engine.connect()
    await watcher.send(
        type="registertrigger", id="w", trigger_type="engine::workers-available", function_id="x::on", config={}
    )
    await watcher.send(type="registerfunction", id="x::on")
    before = len(list(bus_engine.engine.tables.workers))
    telemetry = await bus_engine.socket("/otel")
    await telemetry.send(b'OTLP{"resourceSpans":[]}')
    await telemetry.send("text is ignored")
    pong = await telemetry.ping()
    await asyncio.wait_for(pong, 10)
    assert len(list(bus_engine.engine.tables.workers)) == before
    assert [frame for frame in await watcher.nothing_came() if frame["type"] == "invokefunction"] == []


async def test_c04_a_peer_that_sends_no_request_head_is_closed(bus_engine):
    server = WorkerServer(bus_engine.engine, port=0, handshake_timeout_s=0.05)
    await server.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
    finally:
        await server.stop()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "{",
        "[1]",
        "null",
        "7",
        '"x"',
        '{"type":"nonsense"}',
        '{"type":"invokefunction"}',
        '{"no":"type"}',
        '{"type":"registerfunction","id":5}',
    ],
)
async def test_c05_a_connection_survives_a_frame_that_is_no_message(bus_engine, text):
    client = await bus_engine.connect(metadata=False)
    await client.send_text(text)
    assert await client.nothing_came() == []


async def test_c06_a_binary_frame_with_json_is_a_protocol_frame(bus_engine):
    client = await bus_engine.connect(metadata=False)
    await client.socket.send(b'{"type":"ping"}')
    assert await client.receive() == {"type": "pong"}


async def test_c07_each_kind_of_ping_gets_its_pong(bus_engine):
    client = await bus_engine.connect(metadata=False)
    await client.send(type="ping")
    assert await client.receive() == {"type": "pong"}
    pong = await client.socket.ping(b"payload-1")
    await asyncio.wait_for(pong, 10)  # completes only for a pong with this payload


async def test_c08_messages_of_the_engine_are_ignored_when_a_worker_sends_them(bus_engine):
    client = await bus_engine.connect(metadata=False)
    await client.send(type="workerregistered", worker_id="forged", reattach_token="x")
    await client.send(type="registrationrejected", code="WORKER_NAMESPACE_CONFLICT", namespace="default")
    assert await client.nothing_came() == []


async def test_a_query_behind_the_base_url_leads_to_the_worker_socket(bus_engine):
    socket = await bus_engine.socket("/?token=abc")
    assert json.loads(await socket.recv())["type"] == "workerregistered"
