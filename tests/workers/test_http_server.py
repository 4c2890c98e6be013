"""What uvicorn's server asks of the gateway's protocol, and gets."""

import asyncio
import socket

import pytest
from starlette.applications import Starlette

from linkly_workers.http.connections import connections_of, server_of
from linkly_workers.http.protocol import Common
from linkly_workers.http.proxies import Proxies
from linkly_workers.http.response import Reply
from linkly_workers.http.states import ConnectionLimits
from linkly_workers.http.status_lines import StatusLines
from linkly_workers.http.writes import Writes


@pytest.fixture
async def server():
    """Yield a server that answers every request with 204, and its address; it is shut down as uvicorn does it."""
    common = Common(
        serve=lambda exchange: exchange.answer(Reply(204, [], b"")),
        limits=ConnectionLimits(head_bytes=1000, target_bytes=100, head_s=10, body_s=10, idle_s=10),
        proxies=Proxies([]),
        monotonic=asyncio.get_running_loop().time,
        lines=StatusLines(),
        writes=Writes(),
        changed=lambda: None,
    )
    made = server_of(common, Starlette())
    made.config.load()
    made.lifespan = made.config.lifespan_class(made.config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await made.startup(sockets=[listener])
        yield made, listener.getsockname()


async def test_the_server_makes_counts_and_shuts_down_the_gateways_connections(server):
    made, address = server
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 204 ")
    await reader.readuntil(b"\r\n\r\n")
    assert len(connections_of(made.server_state)) == 1
    await made.shutdown()
    assert await reader.read() == b""
    assert not made.server_state.connections
    writer.close()
