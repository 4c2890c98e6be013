"""A client that speaks native frames by hand, with a codec that shares nothing with ours."""

import asyncio
import itertools
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from support.raw_client import WAIT_S

MESSAGE, CALL, RESULT, ERROR, CANCEL, PING, PONG, CLOSE = range(8)
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: linkly-native/1\r\nConnection: Upgrade\r\n"


def frame(kind: int, body: bytes = b"") -> bytes:
    return struct.pack(">IB", 1 + len(body), kind) + body


def message(**fields: Any) -> bytes:
    return frame(MESSAGE, json.dumps(fields).encode())


def call(number: int, function_id: str, payload: bytes = b"null", *, left_ms: int = 2**32 - 1, hops: int = 0) -> bytes:
    route = b"\xff\xff" + function_id.encode()
    return frame(CALL, struct.pack(">QIBBHI", number, left_ms, hops, 0, len(route), 0) + route + payload)


def answer(kind: int, number: int, value: bytes = b"") -> bytes:
    return frame(kind, struct.pack(">Q", number) + value)


def parts_of_call(body: bytes) -> tuple[int, str, str, bytes]:
    """Return id, caller, function id and payload of a call without extras."""
    number, _, _, caller, route, extras = struct.unpack_from(">QIBBHI", body)
    assert extras == 0
    at = struct.calcsize(">QIBBHI")
    return (
        number,
        body[at : at + caller].decode(),
        body[at + caller + 2 : at + caller + route].decode(),
        body[at + caller + route :],
    )


class RawNative:
    """One connection, frame by frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.worker_id = ""
        self._numbers = itertools.count(1)

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def receive(self) -> tuple[int, bytes]:
        """Return kind and rest of the next frame."""
        async with asyncio.timeout(WAIT_S):
            (length,) = struct.unpack(">I", await self.reader.readexactly(4))
            data = await self.reader.readexactly(length)
        return data[0], data[1:]

    async def until(self, *kinds: int) -> tuple[int, bytes]:
        """Return the next frame of one of these kinds."""
        while True:
            kind, body = await self.receive()
            if kind in kinds:
                return kind, body

    async def call(self, function_id: str, payload: bytes = b"null", **fields: Any) -> tuple[int, Any]:
        """Call, and return kind and value of the answer."""
        number = 2**32 + next(self._numbers)
        self.write(call(number, function_id, payload, **fields))
        while True:
            kind, body = await self.until(RESULT, ERROR)
            if struct.unpack_from(">Q", body)[0] == number:
                return kind, json.loads(body[8:] or b"null")

    async def register(self, *function_ids: str, name: str = "raw") -> None:
        """Name this worker and serve these functions."""
        await self.call("engine::workers::register", json.dumps({"name": name, "pid": 1}).encode())
        for function_id in function_ids:
            self.write(message(type="registerfunction", id=function_id))
        await self.nothing_more()

    async def nothing_more(self) -> list[tuple[int, bytes]]:
        """Return the frames that came until the engine had dealt with everything sent so far."""
        self.write(message(type="ping"))
        frames: list[tuple[int, bytes]] = []
        while True:
            kind, body = await self.receive()
            if kind == MESSAGE and json.loads(body)["type"] == "pong":
                return frames
            frames.append((kind, body))

    async def end(self) -> bytes:
        """Return what comes until the connection ends."""
        try:
            async with asyncio.timeout(WAIT_S):
                return await self.reader.read()
        except ConnectionError:
            return b""
        finally:
            self.writer.close()


async def upgraded(port: int, request: bytes = REQUEST + b"\r\n") -> tuple[bytes, RawNative]:
    """Ask for native frames; return the head of the answer and the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(WAIT_S):
        head = await reader.readuntil(b"\r\n\r\n")
    return head, RawNative(reader, writer)


@asynccontextmanager
async def raw_native(port: int) -> AsyncIterator[RawNative]:
    """Connect."""
    head, client = await upgraded(port)
    try:
        assert head.startswith(b"HTTP/1.1 101"), head
        _, hello = await client.until(MESSAGE)
        client.worker_id = json.loads(hello)["worker_id"]
        yield client
    finally:
        client.writer.transport.abort()


class ForeignSocket:
    """One client's connection to an engine of another make: JSON messages as text."""

    def __init__(self, client: RawNative) -> None:
        self._client = client
        self._texts: asyncio.Queue[str] = asyncio.Queue()
        self.answers_pings = True

    async def recv(self) -> str:
        return await self._texts.get()

    async def send(self, text: str) -> None:
        self._client.write(frame(MESSAGE, text.encode()))

    async def ping(self) -> None:
        self._client.write(frame(PING))

    async def close(self, code: int = 1012) -> None:
        self._client.write(frame(CLOSE, struct.pack(">H", code) + b"the engine goes"))
        self._client.writer.close()

    async def send_in_pieces(self, text: str, size: int) -> None:
        """Send a message so that the network brings it in pieces."""
        data = frame(MESSAGE, text.encode())
        for start in range(0, len(data), size):
            self._client.write(data[start : start + size])
            await asyncio.sleep(0)

    async def read(self) -> None:
        """Take what the client sends until it goes."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, body = await self._client.receive()
                if kind == MESSAGE:
                    self._texts.put_nowait(body.decode())
                elif kind == PING and self.answers_pings:
                    self._client.write(frame(PONG))


@asynccontextmanager
async def foreign_engine(handler: Callable[[ForeignSocket], Awaitable[None]]) -> AsyncIterator[int]:
    """Run an engine of another make, `handler` for each connection; yield its port."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: linkly-native/1\r\nConnection: Upgrade\r\n\r\n")
        socket = ForeignSocket(RawNative(reader, writer))
        reading = asyncio.ensure_future(socket.read())
        handling = asyncio.ensure_future(handler(socket))
        await reading
        handling.cancel()
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        yield int(server.sockets[0].getsockname()[1])
