"""An HTTP connection by hand: it sends what a client library would not, and shows the bytes that came."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

WAIT_S = 10


class RawHttp:
    """One connection.

    Attributes:
        transport: Of the connection.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.transport = writer.transport

    def send(self, data: bytes) -> None:
        """Write bytes."""
        self._writer.write(data)

    async def line(self) -> bytes:
        """Return the next line of what comes."""
        return await asyncio.wait_for(self._reader.readline(), WAIT_S)

    async def rest(self) -> bytes:
        """Return everything that comes until the end of the connection."""
        return await asyncio.wait_for(self._reader.read(), WAIT_S)


@asynccontextmanager
async def raw_http(url: httpx.URL | str, *, limit: int = 2**16) -> AsyncIterator[RawHttp]:
    """Connect to the server at a URL; `limit`: the bytes that are buffered before reading stops."""
    address = httpx.URL(url)
    reader, writer = await asyncio.open_connection(address.host, address.port, limit=limit)
    try:
        yield RawHttp(reader, writer)
    finally:
        writer.close()
