"""What uvicorn's server asks of the gateway's protocol, and gets."""

import asyncio
import socket
from contextlib import asynccontextmanager

from starlette.applications import Starlette

from linkly.testing import running_engine
from linkly_workers.http import HttpSettings
from linkly_workers.http.asgi import answer_with
from linkly_workers.http.connections import connections_of, server_of
from linkly_workers.http.protocol import Common
from linkly_workers.http.proxies import Proxies
from linkly_workers.http.response import Reply
from linkly_workers.http.serving import Serving
from linkly_workers.http.states import ConnectionLimits
from linkly_workers.http.status_lines import StatusLines
from linkly_workers.http.writes import Writes


@asynccontextmanager
async def started(serve):
    """Start a server that answers with `serve`; yields it and its address."""
    common = Common(
        serve=serve,
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
        try:
            yield made, listener.getsockname()
        finally:
            await made.shutdown()


async def test_the_server_makes_counts_and_shuts_down_the_gateways_connections():
    async with started(lambda exchange: exchange.answer(Reply(204, [], b""))) as (made, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 204 ")
        await reader.readuntil(b"\r\n\r\n")
        assert len(connections_of(made.server_state)) == 1
        await made.shutdown()
        assert await reader.read() == b""
        assert not made.server_state.connections
        writer.close()


async def test_what_an_app_does_after_its_answer_cuts_nothing_off(caplog):
    async def page(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"whole"})
        raise RuntimeError("afterwards")

    async with running_engine() as bus:
        serving = Serving(bus, HttpSettings())

        def serve(exchange):
            async def answering():
                await answer_with(page, exchange)

            exchange.connection.run(serving.answer(exchange, answering))

        async with started(serve) as (_, address):
            reader, writer = await asyncio.open_connection(*address)
            for _ in range(2):
                writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
                assert (head[:15], await reader.readexactly(5)) == (b"HTTP/1.1 200 OK", b"whole")
            writer.close()
    assert "GET /: after the response" in caplog.text
    assert "cut off" not in caplog.text
