"""The gateway is made anew, or stopped, while requests are in flight: what they and their clients see of it."""

import asyncio
import contextlib
import importlib
import os

import httpx
import pytest

from linkly.testing import settle

WAIT_S = 30

GATES = '''
import asyncio
from linkly import HttpRequest, Worker, function, http
from linkly.http import StreamedResponse

started, gate = asyncio.Event(), asyncio.Event()

class Gates(Worker):
    """Functions that take their time."""
    name = "gates"

    @function("gates::restart", triggers=[http("POST", "/restart")])
    async def restart(self) -> dict:
        """Make the gateway anew that this came through."""
        row = await self.bus.trigger("worker::restart", {"name": "http"})
        return {"status_code": 201, "body": row["status"]}

    @function("gates::wait", triggers=[http("GET", "/wait")])
    async def wait(self) -> dict:
        """Answer when it may."""
        started.set()
        await gate.wait()
        return {"body": "waited"}

    @function("gates::stream", triggers=[http("GET", "/stream", stream=True)])
    async def stream(self, request: HttpRequest) -> None:
        """Never end."""
        async with StreamedResponse(self.bus, request) as out:
            await out.write("begun")
            await asyncio.Event().wait()

    @function("gates::hello", triggers=[http("GET", "/hello")])
    async def hello(self) -> dict:
        """Greet."""
        return {"body": "hello"}
'''


@pytest.fixture
def gateway(live, tmp_path, reserve_port, monkeypatch):
    """Run a gateway on a fixed port beside the gates; yields the project, the gates, a client and the file's text.

    A change that waits for a request which does not end waits longer than the test.
    """
    monkeypatch.setattr("linkly_workers.http.connections.CLOSE_S", 20 * WAIT_S)
    (tmp_path / "live_gates.py").write_text(GATES)
    port = reserve_port()

    def text(timeout_ms=30_000):
        block = f"{{port: {port}, default_timeout: {timeout_ms}}}"
        return f"  - name: http\n    config: {block}\n  - module: live_gates:Gates\n"

    @contextlib.asynccontextmanager
    async def run():
        async with live(text()) as project, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            gates = importlib.import_module("live_gates")
            gates.started, gates.gate = asyncio.Event(), asyncio.Event()
            yield project, gates, client, text
            gates.gate.set()

    return run


async def test_a_function_that_makes_its_own_gateway_anew_is_answered_at_once(gateway):
    async with gateway() as (_, _, client, _), asyncio.timeout(WAIT_S):
        answer = await client.post("/restart")
        assert (answer.status_code, answer.json()) == (201, "running")
        assert answer.headers["connection"] == "close"
        assert (await client.get("/hello")).json() == "hello"


async def test_an_endless_stream_is_broken_off_by_a_change(gateway):
    async with gateway() as (project, _, client, text), asyncio.timeout(WAIT_S):
        async with client.stream("GET", "/stream") as answer:
            parts = answer.aiter_text()
            assert await anext(parts) == "begun"
            assert (await project.change(text(20_000))).changed == ["http"]
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
                await anext(parts)
        assert (await client.get("/hello")).json() == "hello"


async def test_requests_are_finished_while_others_are_still_taken(gateway):
    async with gateway() as (project, gates, client, text), asyncio.timeout(WAIT_S):
        waiting = asyncio.create_task(client.get("/wait"))
        await gates.started.wait()
        changing = asyncio.create_task(project.change(text(20_000)))
        for _ in range(5):
            await settle()
            assert (await client.get("/hello")).json() == "hello"
        assert not changing.done()
        gates.gate.set()
        assert (await waiting).json() == "waited"
        assert (await changing).changed == ["http"]
        assert (await client.get("/hello")).json() == "hello"


async def test_a_change_to_a_busy_port_refuses_no_connection(gateway):
    async with gateway() as (project, _, client, text), asyncio.timeout(WAIT_S):
        http = project.project.members.find("http")
        before = os.fstat(http.worker.listener.socket.fileno()).st_ino
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            busy = server.sockets[0].getsockname()[1]
            applied = await project.change(text().replace(f"port: {client.base_url.port}", f"port: {busy}"))
        assert "cannot listen" in applied.problems[0]
        assert (
            os.fstat(http.worker.listener.socket.fileno()).st_ino == before
        )  # opened again, it would have been closed before
        assert (await client.get("/hello")).json() == "hello"


async def test_a_request_that_does_not_end_is_told_so(gateway, monkeypatch, caplog):
    monkeypatch.setattr("linkly_workers.http.connections.CLOSE_S", 0.05)
    async with gateway() as (project, gates, client, text), asyncio.timeout(WAIT_S):
        waiting = asyncio.create_task(client.get("/wait"))
        await gates.started.wait()
        await project.change(text(20_000))
        answer = await waiting
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "SHUTDOWN")
        assert "ask again" in answer.json()["error"]["message"]
        assert (answer.headers["retry-after"], answer.headers["connection"]) == ("1", "close")
        assert "ASGI" not in caplog.text
        assert (await client.get("/hello")).json() == "hello"


async def test_no_connection_is_refused_while_settings_of_the_gateway_change(gateway):
    async with gateway() as (project, _, client, text), asyncio.timeout(WAIT_S):
        port, done, answered = client.base_url.port, asyncio.Event(), 0

        async def ask():
            nonlocal answered
            while not done.is_set():
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                with contextlib.suppress(ConnectionResetError):  # accepted by a gateway that was about to end
                    answered += b"hello" in await reader.read()
                writer.close()

        asking = [asyncio.create_task(ask()) for _ in range(4)]
        for timeout_ms in range(20_000, 20_006):
            before = answered
            assert (await project.change(text(timeout_ms))).changed == ["http"]
            while answered == before and not any(task.done() for task in asking):  # noqa: ASYNC110
                await asyncio.sleep(0)
        done.set()
        await asyncio.gather(*asking)


async def test_a_gateway_that_cannot_start_leaves_its_address_to_the_earlier_one(gateway):
    async with gateway() as (project, _, client, text), asyncio.timeout(WAIT_S):
        applied = await project.change(text().replace("default_timeout: 30000", "host: 203.0.113.7"))
        assert "earlier settings" in applied.problems[0]
        assert (await client.get("/hello")).json() == "hello"
        assert (await project.change(text().replace("port: ", "host: 0.0.0.0, port: "))).problems == []
        assert (await client.get("/hello")).json() == "hello"
