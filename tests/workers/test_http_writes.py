"""What connections write in one turn of the loop leaves at its end, together."""

import asyncio
import socket

import pytest
import uvloop

from linkly_workers.http.writes import GatheringTransport, Writes


@pytest.fixture
async def transport():
    """Yield a transport and its client's end, which does not wait for data."""
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    made, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near)
    with far:
        yield GatheringTransport(made, Writes()), far
        made.abort()


async def test_writes_of_one_turn_leave_together_at_its_end(transport):
    gathering, client = transport
    gathering.write(b"one")
    gathering.write(b"two")
    with pytest.raises(BlockingIOError):
        client.recv(100)
    assert await asyncio.get_running_loop().sock_recv(client, 100) == b"onetwo"


async def test_a_close_sends_what_was_written(transport):
    gathering, client = transport
    gathering.write(b"last words")
    gathering.close()
    loop = asyncio.get_running_loop()
    assert await loop.sock_recv(client, 100) == b"last words"
    assert await loop.sock_recv(client, 100) == b""


def test_a_connection_that_is_lost_meanwhile_takes_nothing_from_the_others():
    async def main():
        loop, writes = asyncio.get_running_loop(), Writes()
        pairs = [socket.socketpair() for _ in range(2)]
        for near, far in pairs:
            near.setblocking(False)
            far.setblocking(False)
        lost, kept = [(await loop.create_connection(asyncio.Protocol, sock=near))[0] for near, _ in pairs]
        gathering_lost, gathering_kept = GatheringTransport(lost, writes), GatheringTransport(kept, writes)
        lost.abort()
        gathering_lost.write(b"to nobody")
        gathering_kept.write(b"answer")
        with pairs[0][1], pairs[1][1]:
            assert await asyncio.wait_for(loop.sock_recv(pairs[1][1], 100), 10) == b"answer"
        kept.abort()

    uvloop.run(main())  # the engine's loop; asyncio's own ignores what is written to a closed transport


async def test_what_cannot_be_written_takes_nothing_from_the_others(caplog):
    loop, writes = asyncio.get_running_loop(), Writes()
    pairs = [socket.socketpair() for _ in range(2)]
    for near, far in pairs:
        near.setblocking(False)
        far.setblocking(False)
    faulty, kept = [
        GatheringTransport((await loop.create_connection(asyncio.Protocol, sock=near))[0], writes) for near, _ in pairs
    ]
    faulty.write("no bytes")
    kept.write(b"answer")
    with pairs[0][1] as ended, pairs[1][1] as client:
        assert await asyncio.wait_for(loop.sock_recv(client, 100), 10) == b"answer"
        assert await asyncio.wait_for(loop.sock_recv(ended, 100), 10) == b""
    kept.abort()
    assert "a response could not be sent" in caplog.text
