"""Counts what a connection receives while it receives it, so that a result can be stopped before it fills the memory.

The driver keeps all rows of a statement until the last one has come, and one value may have a gigabyte; a cursor would
bound the rows, not the value, and costs two more round trips. So the loop that is handed to the driver
(`connect(loop=)`) puts a counter between socket and protocol. A statement that receives too much is stopped as a
cancelled one is. Until the server has been told, which takes a connection of its own, the socket is left unread: on a
busy machine the rest would come first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from linkly_workers.database.postgres.beside import Beside

TURNS = 5
"""Turns of the loop in which the driver begins to tell the server, unless all of the result has come."""


class Meter:
    """What one connection has received.

    Attributes:
        received: Bytes so far.
        transport: Where they come from.
        connected: The connection is made: what is connected from now on tells the server to cancel its statement.
        telling: Such a connection is being made or open.
        beside: What goes over it besides.
    """

    __slots__ = ("_exceeded", "_limit", "beside", "connected", "received", "telling", "transport")

    def __init__(self) -> None:
        self.beside = Beside()
        self.received = 0
        self.transport: Any = None
        self.connected = self.telling = False
        self._limit: int | None = None
        self._exceeded: Callable[[], object] | None = None

    def watch(self, limit: int, exceeded: Callable[[], object]) -> None:
        """Call `exceeded` once when `limit` more bytes have come, unless `rest` is called before."""
        self._limit, self._exceeded = self.received + limit, exceeded

    def rest(self) -> None:
        """Watch no longer."""
        self._limit = self._exceeded = None

    def add(self, count: int) -> None:
        """Count bytes that have come."""
        self.received += count
        if self._limit is not None and self.received > self._limit and self._exceeded is not None:
            exceeded = self._exceeded
            self.rest()
            if not self.transport.is_closing():
                self.transport.pause_reading()
                self._look(TURNS)
            exceeded()

    def _look(self, turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(self._look, turns - 1)
        else:
            self.go_on()

    def came(self, transport: Any) -> None:
        """Note where the bytes come from."""
        if not self.connected:
            self.transport = transport

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """Note that the server is being told; one that cannot be reached is not."""
        self.telling = self.connected
        try:
            yield
        except BaseException:
            if self.telling:
                self.ended()
            raise

    def ended(self) -> None:
        """A connection has ended: the server has been told, so the rest may come."""
        self.telling = False
        self.go_on()

    def go_on(self) -> None:
        """Read again, unless the server is being told to stop."""
        if self.transport is not None and not self.telling and not self.transport.is_closing():
            self.transport.resume_reading()


def counting_loop(meter: Meter) -> asyncio.AbstractEventLoop:
    """Return the running loop, whose connections count what they receive."""
    return cast("asyncio.AbstractEventLoop", _CountingLoop(asyncio.get_running_loop(), meter))


class _CountingLoop:
    def __init__(self, loop: asyncio.AbstractEventLoop, meter: Meter) -> None:
        self._loop = loop
        self._meter = meter
        self.create_future = loop.create_future  # once for every statement

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(self, factory: Callable[[], Any], *args: Any, **options: Any) -> tuple[Any, Any]:
        counting = _CountingProtocol(factory(), self._meter)
        with self._meter.connecting():
            transport, _ = await self._loop.create_connection(
                lambda: cast("asyncio.Protocol", counting), *args, **options
            )
        return transport, counting.inner

    async def create_unix_connection(self, factory: Callable[[], Any], *args: Any, **options: Any) -> tuple[Any, Any]:
        counting = _CountingProtocol(factory(), self._meter)
        with self._meter.connecting():
            transport, _ = await self._loop.create_unix_connection(
                lambda: cast("asyncio.Protocol", counting), *args, **options
            )
        return transport, counting.inner

    async def start_tls(self, transport: Any, protocol: Any, *args: Any, **options: Any) -> Any:
        secured = await self._loop.start_tls(transport, protocol, *args, **options)
        self._meter.came(secured)
        return _CountingTransport(secured, self._meter)


class _CountingTransport:
    """The transport that the driver gets; over TLS it gets its protocol last."""

    def __init__(self, transport: Any, meter: Meter) -> None:
        self._transport = transport
        self._meter = meter
        self._write = transport.write
        self._written = meter.beside.written if not meter.connected else _as_it_is

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes | memoryview) -> None:
        self._write(self._written(data))

    def set_protocol(self, protocol: Any) -> None:
        self._transport.set_protocol(_CountingProtocol(protocol, self._meter))


class _CountingProtocol:
    def __init__(self, inner: Any, meter: Meter) -> None:
        self.inner = inner
        self._meter = meter
        self._is_first = not meter.connected  # those after it only say that a statement is to end
        self._received = inner.data_received if hasattr(inner, "data_received") else None
        self.eof_received = inner.eof_received
        self.pause_writing = inner.pause_writing
        self.resume_writing = inner.resume_writing

    def connection_made(self, transport: Any) -> None:
        self._meter.came(transport)
        self.inner.connection_made(_CountingTransport(transport, self._meter))

    def connection_lost(self, exc: Exception | None) -> None:
        self._meter.ended()
        self.inner.connection_lost(exc)
        if self._is_first:
            self._meter.beside.lost()

    def data_received(self, data: bytes) -> None:
        if self._received is not None:
            if self._is_first:
                self._meter.beside.received(data, self._received)
            else:
                self._received(data)
        self._meter.add(len(data))


def _as_it_is(data: bytes | memoryview) -> bytes | memoryview:
    return data
