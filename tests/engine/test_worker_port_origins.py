"""Web pages and the worker port: a browser lets every page open a WebSocket anywhere, and says where it is from."""

import asyncio
from contextlib import asynccontextmanager

import pytest
import websockets

from linkly_engine.engine import Engine
from linkly_engine.project.listener import Listener
from linkly_engine.project.listeners import Listeners
from support.serving import serving

PAGE = "https://app.example"
FOREIGN = ["https://evil.example", "null", "", "http://localhost:5173", "https://app.example:444", "http://app.example"]


@asynccontextmanager
async def port(*allowed):
    """Yield the engine and the address of a worker port that these pages may use."""
    async with serving(allowed_origins=allowed) as (engine, server):
        yield engine, server.url


async def paths_of(engine):
    """Return everything the port serves: workers, telemetry, both ends of a channel."""
    bus = engine.bus("test")
    read, written = (await bus.create_channel()).reader, (await bus.create_channel()).writer
    ends = [
        f"/ws/channels/{end.channel_id}?key={end.access_key}&dir={direction}"
        for end, direction in ((read, "read"), (written, "write"))
    ]
    return ["/", "/?token=x", "/otel", *ends]


def connect(url, origin=None):
    headers = {} if origin is None else {"Origin": origin}
    return websockets.connect(url, additional_headers=headers, compression=None)


@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_page_from_elsewhere_is_refused_on_every_socket_of_the_port(origin):
    async with port(PAGE) as (engine, url):
        for path in await paths_of(engine):
            with pytest.raises(websockets.InvalidStatus) as refusal:
                await connect(url + path, origin)
            assert refusal.value.response.status_code == 403
            assert b"`allowed_origins` of `iii-worker-manager`" in refusal.value.response.body
        assert engine.peers == {}


async def test_no_page_may_connect_unless_it_is_listed():
    async with port() as (_, url):
        with pytest.raises(websockets.InvalidStatus):
            await connect(url, PAGE)


async def test_a_listed_page_may_use_every_socket_of_the_port():
    async with port("https://other.example", PAGE) as (engine, url):
        for path in await paths_of(engine):
            async with connect(url + path, PAGE):
                pass


async def test_a_program_without_an_origin_may_use_every_socket():
    async with port() as (engine, url):
        for path in await paths_of(engine):
            async with websockets.connect(f"ws://engine.internal{path}", host="127.0.0.1", port=int(url.split(":")[2])):
                pass


async def test_a_second_origin_line_does_not_hide_the_first():
    async with port(PAGE) as (_, url):
        both = [("Origin", PAGE), ("Origin", "https://evil.example")]
        for headers in (both, both[::-1]):
            with pytest.raises(websockets.InvalidStatus):
                await websockets.connect(url, additional_headers=headers)


async def test_the_log_says_once_why_a_page_was_refused(caplog):
    async with port() as (_, url):
        for _ in range(3):
            with pytest.raises(websockets.InvalidStatus):
                await connect(url, PAGE)
    lines = [record.getMessage() for record in caplog.records if PAGE in record.getMessage()]
    assert len(lines) == 1
    assert "allowed_origins" in lines[0]


async def test_an_origin_that_is_no_text_is_refused_like_every_other():
    async with port() as (_, url):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
        writer.write(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nOrigin: \xff\xfe\r\n\r\n"
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 403 ")
        writer.close()
        await writer.wait_closed()


async def test_the_log_does_not_recommend_to_list_what_the_setting_refuses(caplog):
    async with port() as (_, url):
        with pytest.raises(websockets.InvalidStatus):
            await connect(url, "null")
    (line,) = [record.getMessage() for record in caplog.records if "`null`" in record.getMessage()]
    assert "list it" not in line


async def test_a_change_of_the_setting_counts_from_the_next_handshake_on():
    async with Engine() as engine:
        listeners = Listeners(engine)
        await listeners.start([Listener(port=0)])
        try:
            with pytest.raises(websockets.InvalidStatus):
                await connect(listeners.url, PAGE)
            await listeners.change([Listener(port=0, allowed_origins=[PAGE])])
            async with connect(listeners.url, PAGE):
                pass
        finally:
            await listeners.stop()
