"""A client that speaks the workers' protocol by hand, frame by frame.

It uses `websockets`, an implementation that shares nothing with ours.
"""

import asyncio
import itertools
import json
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import websockets

from linkly_engine.core.changes import WorkerGone
from linkly_engine.engine import Engine
from linkly_engine.remote.server import WorkerServer

WAIT_S = 10.0
"""How long a test waits for a frame that has to come."""


class RawClient:
    """One connection, frame by frame."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.hello: dict[str, Any] = {}
        self.seen: list[dict[str, Any]] = []
        self._markers = itertools.count()

    @property
    def worker_id(self) -> str:
        return str(self.hello["worker_id"])

    async def send(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def send_text(self, text: str) -> None:
        await self.socket.send(text)

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S):
            message: dict[str, Any] = json.loads(await self.socket.recv())
        self.seen.append(message)
        return message

    async def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Return the next message of a type whose fields have these values."""
        while True:
            message = await self.receive()
            if message["type"] == kind and all(message.get(name) == value for name, value in fields.items()):
                return message

    async def register_metadata(self, **metadata: Any) -> None:
        """Say who this is, and wait until the engine knows it."""
        await self.call("engine::workers::register", {"name": f"raw-{uuid.uuid4()}", "pid": 1, **metadata})

    async def start_call(self, function_id: str, data: Any = None, **fields: Any) -> str:
        invocation_id = str(uuid.uuid4())
        await self.send(
            type="invokefunction", invocation_id=invocation_id, function_id=function_id, data=data, **fields
        )
        return invocation_id

    async def call(self, function_id: str, data: Any = None, **fields: Any) -> dict[str, Any]:
        """Call and return the whole `invocationresult`."""
        invocation_id = await self.start_call(function_id, data, **fields)
        return await self.until("invocationresult", invocation_id=invocation_id)

    async def serve_one(self, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        """Take the next call and answer it; return the frame it came in."""
        message = await self.until("invokefunction")
        await self.send(
            type="invocationresult",
            invocation_id=message["invocation_id"],
            function_id=message["function_id"],
            **answer(message),
        )
        return message

    async def nothing_came(self) -> list[dict[str, Any]]:
        """Return every frame that the engine had for us: it deals with frames in order, so a pong is the end."""
        await self.send(type="ping")
        frames: list[dict[str, Any]] = []
        while (message := await self.receive())["type"] != "pong":
            frames.append(message)
        return frames

    async def close(self) -> None:
        await self.socket.close(1000)


class EngineUnderTest:
    """An engine, its port and a way to connect."""

    def __init__(self, engine: Engine, server: WorkerServer, stack: AsyncExitStack) -> None:
        self.engine = engine
        self.server = server
        self._stack = stack

    @property
    def url(self) -> str:
        return self.server.url

    async def socket(self, path: str = "/", **options: Any) -> Any:
        return await self._stack.enter_async_context(
            websockets.connect(self.url + path, compression=None, max_size=None, **options)
        )

    async def connect(self, *, metadata: bool = True, **fields: Any) -> RawClient:
        """Connect a worker; with metadata its registrations take effect at once."""
        client = RawClient(await self.socket("/"))
        client.hello = await client.receive()
        if metadata:
            await client.register_metadata(**fields)
        return client

    async def gone(self, client: RawClient) -> None:
        """Close a client and wait until the engine has forgotten it."""
        done = asyncio.Event()

        def note(change: WorkerGone) -> None:
            if change.worker.id == client.worker_id:
                done.set()

        self.engine.tables.observe(note, WorkerGone)
        await client.close()
        async with asyncio.timeout(WAIT_S):
            await done.wait()
