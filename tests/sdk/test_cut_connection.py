"""A cut connection that its proxy goes on holding: the client comes back, and the engine knows which one counts."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from linkly import Client, Function
from linkly.wire.dialer import PortDialer
from support.serving import serving

CUTS = 5


class HoldingProxy:
    """A TCP proxy that holds the engine's side of a cut connection open, as load balancers do for seconds.

    What the engine says first travels in one piece with its handshake, as it may on any network.
    """

    def __init__(self, port: int) -> None:
        self._engine_port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: list[asyncio.StreamWriter] = []
        self._held: list[asyncio.StreamWriter] = []
        self.cut_the_next_one_at_once = False

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in (*self._clients, *self._held):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def cut(self) -> None:
        """End the clients' side of every connection; the engine's side stays."""
        clients, self._clients = self._clients, []
        for writer in clients:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._engine_port)
        self._held.append(up_writer)
        self._clients.append(writer)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._pass_on(reader, up_writer))
            both.create_task(self._answer(up_reader, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readuntil(b"\r\n\r\n") + await reader.read(65536)
        writer.write(first)
        if self.cut_the_next_one_at_once:
            self.cut_the_next_one_at_once = False
            await writer.drain()
            self._clients.remove(writer)
            writer.close()
        while data := await reader.read(65536):
            if not writer.transport.is_closing():
                writer.write(data)


class Counting(PortDialer):
    """Says when a connection has been made."""

    def __init__(self, url: str, *, native: bool) -> None:
        super().__init__(url, native=native)
        self.connections: asyncio.Queue[None] = asyncio.Queue()

    async def connect(self, attach):
        await super().connect(attach)
        self.connections.put_nowait(None)


@asynccontextmanager
async def behind_a_proxy(*, native):
    async with serving() as (engine, server), asyncio.timeout(60), AsyncExitStack() as stack:
        proxy = HoldingProxy(server.port)
        url = await proxy.start()
        stack.push_async_callback(proxy.stop)
        dialer = Counting(url, native=native)
        client = Client(url, name="w", dialer=dialer)
        client.register_function(Function("w::who", lambda payload: client.worker_id))
        await stack.enter_async_context(client)
        await dialer.connections.get()
        yield engine, proxy, client, dialer


@pytest.mark.parametrize("native", [True, False], ids=["native", "json"])
async def test_after_every_cut_calls_reach_the_connection_that_lives(native):
    async with behind_a_proxy(native=native) as (engine, proxy, client, dialer):
        bus = engine.bus("test")
        assert await client.trigger("w::who") == client.worker_id
        for _ in range(CUTS):
            proxy.cut()
            await dialer.connections.get()
            await client.trigger("engine::functions::list")  # the answer says that what came before has been dealt with
            assert await bus.trigger("w::who", timeout_s=5) == client.worker_id
            assert len(engine.peers) == 1


@pytest.mark.parametrize("native", [True, False], ids=["native", "json"])
async def test_a_cut_during_the_return_leaves_no_earlier_connection_behind(native):
    async with behind_a_proxy(native=native) as (engine, proxy, client, dialer):
        bus = engine.bus("test")
        assert await client.trigger("w::who") == client.worker_id
        proxy.cut_the_next_one_at_once = True
        proxy.cut()
        for _ in range(2):
            await dialer.connections.get()
        await client.trigger("engine::functions::list")
        assert await bus.trigger("w::who", timeout_s=5) == client.worker_id
        assert len(engine.peers) == 1
