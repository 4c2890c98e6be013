"""What connections write in one turn of the loop leaves at its end, together."""

import asyncio
import socket

import pytest

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
