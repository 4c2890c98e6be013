"""docs/protocol.md C61-C67, C95: channels."""

import asyncio

import pytest
import websockets

from linkly import Client
from linkly.channel import Channel
from linkly_engine.core.channels import SWEEP_S, UNOPENED_LIMIT, UNOPENED_S


async def create(client, **payload):
    return (await client.call("engine::channels::create", payload))["result"]


def path(reference, **changed):
    fields = {**reference, **changed}
    direction = {"read": "read", "write": "write"}.get(fields["direction"], fields["direction"])
    return f"/ws/channels/{fields['channel_id']}?key={fields['access_key']}&dir={direction}"


async def open_end(bus_engine, reference, **changed):
    return await bus_engine.socket(path(reference, **changed))


async def read_to_end(socket):
    messages = []
    try:
        async with asyncio.timeout(10):
            while True:
                messages.append(await socket.recv())
    except websockets.ConnectionClosed:
        return messages


@pytest.mark.parametrize("payload", [{}, {"buffer_size": None}, {"buffer_size": 3}])
async def test_c61_create_answers_both_ends_with_one_id_and_key(bus_engine, payload):
    channel = await create(await bus_engine.connect(), **payload)
    writer, reader = channel["writer"], channel["reader"]
    assert (writer["channel_id"], writer["access_key"]) == (reader["channel_id"], reader["access_key"])
    assert (writer["direction"], reader["direction"]) == ("write", "read")


async def test_c95_an_explicit_default_namespace_works(bus_engine):
    client = await bus_engine.connect()
    answer = await client.call("engine::channels::create", {}, namespace="default")
    assert "writer" in answer["result"]


@pytest.mark.parametrize(
    "changed, status", [({"access_key": "wrong"}, 404), ({"channel_id": "none"}, 404), ({"direction": "both"}, 400)]
)
async def test_c62_a_wrong_reference_is_refused_before_the_upgrade(bus_engine, changed, status):
    channel = await create(await bus_engine.connect())
    with pytest.raises(websockets.InvalidStatus) as refusal:
        await open_end(bus_engine, channel["reader"], **changed)
    assert refusal.value.response.status_code == status


async def test_c63_text_and_binary_arrive_unmodified_in_order(bus_engine):
    channel = await create(await bus_engine.connect())
    reader = await open_end(bus_engine, channel["reader"])
    writer = await open_end(bus_engine, channel["writer"])
    sent = [b"one", "two \u00fc", b"", b"\x00\xff" * 5000, "three"]
    for message in sent:
        await writer.send(message)
    await writer.close()
    assert await read_to_end(reader) == sent


async def test_c64_what_was_written_before_the_reader_came_is_delivered(bus_engine):
    channel = await create(await bus_engine.connect(), buffer_size=4)
    writer = await open_end(bus_engine, channel["writer"])
    sent = [f"message {n}" for n in range(64)]
    for message in sent:
        await writer.send(message)
    await writer.close()
    assert await read_to_end(await open_end(bus_engine, channel["reader"])) == sent


@pytest.mark.parametrize("end", ["reader", "writer"])
async def test_c65_the_second_opener_of_an_end_is_closed_at_once(bus_engine, end):
    channel = await create(await bus_engine.connect())
    await open_end(bus_engine, channel[end])
    second = await open_end(bus_engine, channel[end])
    assert await read_to_end(second) == []


async def test_c66_a_channel_survives_its_creator_for_five_minutes(bus_engine, clock):
    creator = await bus_engine.connect()
    used, unused = await create(creator), await create(creator)
    await bus_engine.gone(creator)
    reader = await open_end(bus_engine, used["reader"])
    writer = await open_end(bus_engine, used["writer"])
    await clock.advance(299)
    assert len(bus_engine.engine.channels) == 2
    await clock.advance(62)
    assert [pipe.id for pipe in bus_engine.engine.channels] == [used["reader"]["channel_id"]]
    await writer.send("still there")
    assert await reader.recv() == "still there"
    with pytest.raises(websockets.InvalidStatus):
        await open_end(bus_engine, unused["reader"])


async def test_only_a_worker_with_too_many_unopened_channels_is_refused(bus_engine):
    greedy, other = await bus_engine.connect(), await bus_engine.connect()
    channels = [await create(greedy) for _ in range(UNOPENED_LIMIT)]
    answer = await greedy.call("engine::channels::create", {})
    assert answer["error"]["code"] == "overloaded"
    assert "writer" in await create(other)
    await open_end(bus_engine, channels[0]["writer"])
    assert "writer" in await create(greedy)


async def test_channels_that_nobody_opened_stop_counting_when_they_are_swept(bus_engine, clock):
    client = await bus_engine.connect()
    for _ in range(UNOPENED_LIMIT):
        await create(client)
    await clock.advance(UNOPENED_S + SWEEP_S)
    assert "writer" in await create(client)


async def test_c67_an_idle_reader_gets_its_pings_answered(bus_engine):
    channel = await create(await bus_engine.connect())
    for end in ("reader", "writer"):
        socket = await open_end(bus_engine, channel[end])
        await asyncio.wait_for(await socket.ping(b"still there?"), 10)


async def test_a_writer_that_is_cut_ends_its_reader(bus_engine):
    channel = await create(await bus_engine.connect())
    reader = await open_end(bus_engine, channel["reader"])
    writer = await open_end(bus_engine, channel["writer"])
    await writer.send(b"partial")
    writer.transport.abort()
    assert await read_to_end(reader) == [b"partial"]


async def test_a_reader_that_leaves_ends_its_writer(bus_engine):
    channel = await create(await bus_engine.connect())
    reader = await open_end(bus_engine, channel["reader"])
    writer = await open_end(bus_engine, channel["writer"])
    await reader.close()
    assert await read_to_end(writer) == []
    assert len(bus_engine.engine.channels) == 0


async def test_binary_above_one_mebibyte_is_split_for_old_readers(bus_engine):
    channel = await create(await bus_engine.connect())
    reader = await open_end(bus_engine, channel["reader"])
    writer = await open_end(bus_engine, channel["writer"])
    data = bytes(range(256)) * 10_000
    await writer.send(data)
    await writer.close()
    chunks = await read_to_end(reader)
    assert max(map(len, chunks)) <= 1024 * 1024
    assert b"".join(chunks) == data


async def test_a_channel_behind_a_base_url_with_a_query_is_found(bus_engine):
    channel = await create(await bus_engine.connect())
    socket = await bus_engine.socket("/?token=x" + path(channel["writer"]))
    await socket.send(b"data")
    await socket.close()
    reader = await open_end(bus_engine, channel["reader"])
    assert await read_to_end(reader) == [b"data"]


@pytest.mark.parametrize("writer_in_engine", [False, True])
@pytest.mark.parametrize("reader_in_engine", [False, True])
async def test_our_own_ends_work_in_process_and_remote(bus_engine, writer_in_engine, reader_in_engine):
    local = bus_engine.engine.bus("local")
    async with Client(bus_engine.url, name="remote") as remote:
        channel: Channel = await remote.create_channel(2)
        writer = await (local if writer_in_engine else remote).open_writer(channel.writer)
        reader = await (local if reader_in_engine else remote).open_reader(channel.reader)
        data = bytes(range(256)) * 2000

        async def write():
            await writer.send_text('{"type":"note"}')
            await writer.write(data)
            await writer.close()

        writing = asyncio.create_task(write())
        got = [message async for message in reader]
        await writing
        assert got[0] == '{"type":"note"}'
        assert b"".join(got[1:]) == data


@pytest.mark.parametrize("reader_in_engine", [True, False])
@pytest.mark.parametrize("writer_in_engine", [True, False])
async def test_our_own_writer_hears_that_its_reader_has_gone(bus_engine, writer_in_engine, reader_in_engine):
    async with Client(bus_engine.url) as client:
        channel = await client.create_channel()
        local = bus_engine.engine.bus("local")
        writing = local if writer_in_engine else client
        reading = local if reader_in_engine else client
        writer, reader = await writing.open_writer(channel.writer), await reading.open_reader(channel.reader)
        gone = asyncio.ensure_future(writer.reader_gone())
        await writer.write(b"data")
        assert await reader.receive() == b"data"
        assert not gone.done()
        await reader.close()
        async with asyncio.timeout(10):
            await gone
