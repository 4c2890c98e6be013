"""Counts what a connection receives while it receives it, so that a result can be stopped before it fills the memory.

The driver keeps all rows of a statement until the last one has come, and one value may have a gigabyte; a cursor would
bound the rows, not the value, and costs two more round trips. So the loop that is handed to the driver
(`connect(loop=)`) puts a counter between socket and protocol. A statement that receives too much is stopped as a
cancelled one is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast


class Meter:
    """What one connection has received.

    Attributes:
        received: Bytes so far.
    """

    __slots__ = ("_exceeded", "_limit", "received")

    def __init__(self) -> None:
        self.received = 0
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
            exceeded()


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
        transport, _ = await self._loop.create_connection(lambda: cast("asyncio.Protocol", counting), *args, **options)
        return transport, counting.inner

    async def create_unix_connection(self, factory: Callable[[], Any], *args: Any, **options: Any) -> tuple[Any, Any]:
        counting = _CountingProtocol(factory(), self._meter)
        transport, _ = await self._loop.create_unix_connection(
            lambda: cast("asyncio.Protocol", counting), *args, **options
        )
        return transport, counting.inner

    async def start_tls(self, transport: Any, protocol: Any, *args: Any, **options: Any) -> Any:
        return _CountingTransport(await self._loop.start_tls(transport, protocol, *args, **options), self._meter)


class _CountingTransport:
    """The transport over TLS, which gets its protocol last."""

    def __init__(self, transport: Any, meter: Meter) -> None:
        self._transport = transport
        self._meter = meter
        self.write = transport.write  # once for every statement

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def set_protocol(self, protocol: Any) -> None:
        self._transport.set_protocol(_CountingProtocol(protocol, self._meter))


class _CountingProtocol:
    def __init__(self, inner: Any, meter: Meter) -> None:
        self.inner = inner
        self._meter = meter
        self._received = inner.data_received if hasattr(inner, "data_received") else None
        self.connection_made = inner.connection_made
        self.connection_lost = inner.connection_lost
        self.eof_received = inner.eof_received
        self.pause_writing = inner.pause_writing
        self.resume_writing = inner.resume_writing

    def data_received(self, data: bytes) -> None:
        if self._received is not None:
            self._received(data)
        self._meter.add(len(data))
