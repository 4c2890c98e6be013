"""A proxy that loses connections at the worst moment."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class CuttingProxy:
    """Between a worker and a server.

    Attributes:
        cut_at: A connection is cut when this text has passed on to the server and been carried out.
        cuts: How many are cut.
        keep_at: This text does not pass on; `kept` tells that it has come, and `kept_of` goes to its client.
        hold_at: This text waits until `goes_on`; `held` tells that it has come.
        answers: While it is not set, nothing passes from the server.
        ports: Of the server's clients.
        passed: How often something has passed on to the server.
    """

    kept_of: asyncio.StreamWriter

    def __init__(self, port: int) -> None:
        self.target = port
        self.cut_at: bytes | None = None
        self.cuts = math.inf
        self.keep_at: bytes | None = None
        self.kept = asyncio.Event()
        self.hold_at: bytes | None = None
        self.held = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.answers = asyncio.Event()
        self.answers.set()
        self.writers: set[asyncio.StreamWriter] = set()
        self.ports: list[int] = []
        self.passed = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator["CuttingProxy"]:
        """Listen until the block ends."""
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self.writers:
                writer.close()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self.writers |= {writer, far_writer}
        self.ports.append(far_writer.get_extra_info("sockname")[1])
        back = asyncio.ensure_future(self._pump(far_reader, writer))
        while data := await reader.read(65536):
            if self.cut_at is not None and self.cuts and self.cut_at in data:
                self.cuts -= 1
                back.cancel()
                await asyncio.wait([back])
                far_writer.write(data)
                await far_writer.drain()
                await far_reader.read(1)  # it has been carried out, and nobody hears of it
                writer.transport.abort()
                far_writer.close()
                return
            if self.keep_at is not None and self.keep_at in data:
                self.kept.set()
                self.kept_of = writer
                continue
            if self.hold_at is not None and self.hold_at in data:
                self.held.set()
                await self.goes_on.wait()
            self.passed += 1
            far_writer.write(data)
        far_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self.answers.wait()
            writer.write(data)
        writer.close()
