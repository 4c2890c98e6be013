"""Published iii clients against a running engine, unchanged (also docs/protocol.md C89)."""

import asyncio
import hashlib
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from linkly import Function, Void, Worker, function, trigger
from linkly.errors import LinklyError
from linkly_engine.engine import Engine
from linkly_engine.remote.server import WorkerServer
from linkly_workers.http import HttpSettings, HttpWorker
from linkly_workers.state import StateWorker
from support.serving import serving

pytestmark = pytest.mark.compat

VERSIONS = ["0.16.1", "0.19.7", "0.22.1", "0.25.0", "node"]
WAIT_S = 60.0


class Host(Worker):
    """What the engine's side serves to the client."""

    name = "host"

    def __init__(self) -> None:
        super().__init__()
        self.noted = asyncio.Event()

    @function("host::double")
    async def double(self, n: int) -> int:
        return 2 * n

    @function("host::note")
    async def note(self, n: int) -> None:
        self.noted.set()


class Project:
    """A running engine that can be stopped and started again on its port."""

    def __init__(self, engine: Engine, server: WorkerServer, gateway: HttpWorker, host: Host) -> None:
        self.engine, self.server, self.gateway, self.host = engine, server, gateway, host
        self.bus = engine.bus("test")

    async def until_ready(self) -> None:
        """Wait until the client has registered its last function, and its triggers are bound."""
        arrived = asyncio.Event()

        async def check(payload: Any) -> None:
            if self.engine.tables.functions.find("default", "client::ready") is not None:
                arrived.set()

        self.bus.register_function(Function("test::check", check))
        registration = self.bus.register_trigger("test::check", trigger("engine::functions-available"))
        await check(None)
        async with asyncio.timeout(WAIT_S):
            await arrived.wait()
        registration.unregister()
        await self.engine.acknowledged()


@asynccontextmanager
async def project(port: int = 0) -> AsyncIterator[Project]:
    gateway, host = HttpWorker(HttpSettings(port=0)), Host()
    async with serving(StateWorker(), gateway, host, port=port) as (engine, server):
        yield Project(engine, server, gateway, host)


@asynccontextmanager
async def running_client(command: list[str], url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {**os.environ, "OTEL_ENABLED": "false", "III_URL": url}
    process = await asyncio.create_subprocess_exec(
        *command, url, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                async with asyncio.timeout(20):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
                raise


async def line(process: asyncio.subprocess.Process, start: str) -> str:
    """Return the client's next line that starts like this."""
    assert process.stdout is not None
    async with asyncio.timeout(WAIT_S):
        while True:
            text = (await process.stdout.readline()).decode()
            assert text, "the client has ended"
            if text.startswith(start):
                return text.strip()


async def everything_works(under_test: Project, process: asyncio.subprocess.Process) -> None:
    bus = under_test.bus
    assert await bus.trigger("client::echo", {"value": [1, "zwei", None]}) == {"got": [1, "zwei", None]}
    assert await bus.trigger("client::call_back", {"n": 21}) == 42
    assert await bus.trigger("client::call_back_sync", {"n": 4}) == 8
    with pytest.raises(LinklyError, match="on purpose") as caught:
        await bus.trigger("client::fail", {})
    assert caught.value.code == "invocation_failed"
    assert await bus.trigger("client::missing", {}) == {"code": "function_not_found"}
    assert await bus.trigger("client::no_value", {}) == {"nothing": True}
    assert await bus.trigger("client::nothing", {}) is None
    await bus.trigger("client::on_void", {"n": 7}, action=Void())
    assert await line(process, "void") == "void 7"
    under_test.host.noted.clear()
    await bus.trigger("client::send_void", {})
    async with asyncio.timeout(WAIT_S):
        await under_test.host.noted.wait()
    await bus.trigger("state::set", {"scope": "compat", "key": "k", "value": 1})
    assert await line(process, "state") == "state state:created k"
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{under_test.gateway.url}/client/anna?x=1")
    assert (answer.status_code, answer.headers["x-from"]) == (201, "client")
    assert answer.json() == {"name": "anna", "query": {"x": "1"}}


async def works_and_comes_back(version, command):
    async with project() as first:
        port, url = first.server.port, first.server.url
        async with running_client(command(version, "client"), url) as process:
            await first.until_ready()
            await everything_works(first, process)
            await first.server.stop()
            await first.engine.stop()
            async with project(port) as second:
                await second.until_ready()
                await everything_works(second, process)


@pytest.fixture(scope="module")
async def runs(command):
    """All versions at the same time: most of it is waiting until a client tries to connect again."""
    tasks = {version: asyncio.ensure_future(works_and_comes_back(version, command)) for version in VERSIONS}
    yield tasks
    await asyncio.gather(*tasks.values(), return_exceptions=True)


@pytest.mark.parametrize("version", VERSIONS)
async def test_c89_a_published_client_comes_back_after_an_engine_restart(version, runs):
    await runs[version]


async def test_c92_observers_are_unsupported(command):
    async with project() as under_test, running_client(command("0.25.0", "observer"), under_test.server.url):
        await under_test.until_ready()
        assert await under_test.bus.trigger("client::observed", {}) == "UNSUPPORTED"


async def test_c93_a_call_of_a_clients_own_function_reaches_the_engine(command):
    async with project() as under_test, running_client(command("0.25.0", "observer"), under_test.server.url):
        await under_test.until_ready()
        bus = under_test.bus

        async def frames():
            rows = (await bus.trigger("engine::statistics"))["connections"]
            return next(row["frames_received"] for row in rows if row["name"] == "observer")

        before = await frames()
        assert await bus.trigger("client::call_own", {"value": 1}) == {"got": 1}
        assert await frames() == before + 3  # its call, and the results of both


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_http_helper_of_a_published_client_streams_both_ways(version, command):
    async with project() as under_test, running_client(command(version, "gateway"), under_test.server.url):
        await under_test.until_ready()
        async with httpx.AsyncClient(base_url=under_test.gateway.url, timeout=WAIT_S) as http:
            streamed = await http.get("/gw/stream?parts=30")
            assert (streamed.status_code, streamed.headers["x-from"]) == (203, "client")
            assert streamed.headers["content-type"] == "application/pdf"
            assert streamed.content == b"%PDF" * 300_000
            events = await http.get("/gw/events")
            assert events.headers["content-type"] == "text/event-stream"
            assert events.text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
            for content, kind, parsed in (
                (b'{ "a" : [1,2.50] }', "application/json", {"a": [1, 2.5]}),
                (b"%PDF" * 100_000, "application/octet-stream", None),
                (b"a=1&b=%20", "application/x-www-form-urlencoded", None),
            ):
                sent = await http.post("/gw/upload", content=content, headers={"content-type": kind})
                digest = hashlib.sha256(content).hexdigest()
                assert sent.status_code == 201
                assert sent.json() == {"size": len(content), "sha256": digest, "parsed": parsed}
            text = await http.get("/gw/text")
            assert (text.text, text.headers["content-type"]) == ("<a>é</a>", "text/xml")
            failed = await http.get("/gw/fail")
            assert (failed.status_code, failed.json()["error"]["code"]) == (500, "invocation_failed")
            assert "on purpose" not in failed.text
