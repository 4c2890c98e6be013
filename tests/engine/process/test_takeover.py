"""A new generation takes over: no call fails, what is on its way finishes, a bad one changes nothing."""

import asyncio
import os

import httpx
import pytest

from linkly import Client, Function, Worker, function
from linkly.errors import InvocationStopped
from linkly.testing import ManualClock, settle
from linkly_workers.http import HttpSettings, HttpWorker
from support.serving import until_served

RAW = """\
import json, os
from websockets.sync.client import connect

VERSION = "one"

with connect(os.environ["III_URL"]) as socket:
    def send(**message):
        socket.send(json.dumps(message))
    def trigger(path, function):
        config = {"api_path": path, "http_method": "GET"}
        send(type="registertrigger", id=VERSION + path, trigger_type="http", function_id=function, config=config)
    # As published clients do after a reconnect: everything first, then who it is, under one name of its own.
    send(type="registerfunction", id="w::version")
    send(type="registerfunction", id="w::page")
    trigger("/page/:PARAMETER", "w::page")
    metadata = {"runtime": "node", "name": f"host:{os.getpid()}", "pid": os.getpid()}
    send(type="invokefunction", function_id="engine::workers::register", data=metadata, action={"type": "void"})
    for text in socket:
        message = json.loads(text)
        if message["type"] == "invokefunction":
            data = message.get("data") or {}
            result = VERSION if message["function_id"] == "w::version" else {"body": {VERSION: data["path_params"]}}
            send(
                type="invocationresult",
                invocation_id=message["invocation_id"],
                function_id=message["function_id"],
                result=result,
            )
"""


class Gate(Worker):
    """Holds calls until it is opened."""

    name = "gate"

    def __init__(self) -> None:
        super().__init__()
        self.waiting, self.opened = asyncio.Event(), asyncio.Event()

    @function("gate::wait")
    async def wait(self) -> None:
        """Wait until it is open."""
        self.waiting.set()
        await self.opened.wait()


def gateway():
    return HttpWorker(HttpSettings(port=0))


async def said_line(said, text):
    with said("linkly.process") as lines:
        return await lines.line_with(text)


async def seen(call, wanted):
    """Call again and again until the answer is the one that is wanted; return how many other ones came before."""
    others = []
    while (answer := await call()) != wanted:
        others.append(answer)
    return others


async def test_a_slow_call_finishes_on_the_old_generation_while_others_flow(children, program, said):
    gate = Gate()
    async with children(gate) as run:
        run.manifest("exec python main.py")
        run.write("main.py", program())
        child = await run.started()
        first = child.status.pid
        slow = asyncio.create_task(run.bus.trigger("w::slow"))
        await gate.waiting.wait()
        run.write("main.py", program("two"))
        old_has_ended = asyncio.create_task(said_line(said, "has been replaced"))
        others = await seen(lambda: run.bus.trigger("w::version"), "two")
        assert others
        assert set(others) == {"one"}
        assert not slow.done()
        gate.opened.set()
        assert await slow == "one"
        assert await run.bus.trigger("w::slow") == "two"
        await child.status.outcome()
        assert (child.status.state, child.status.restarts, child.status.reason) == ("running", 1, None)
        assert child.status.pid != first
        await old_has_ended
        names = [row["name"] for row in (await run.bus.trigger("engine::workers::list"))["workers"]]
        assert names.count("w") == 1


@pytest.mark.parametrize("text", ["sdk", "raw"])
async def test_http_routes_with_renamed_parameters_move_to_the_new_generation(children, program, text):
    http = gateway()

    def source(version, parameter):
        if text == "sdk":
            return program(version, parameter)
        return RAW.replace('"one"', f'"{version}"').replace("PARAMETER", parameter)

    async with children(http) as run, httpx.AsyncClient(base_url=http.addresses()["http"]) as client:
        run.manifest("exec python main.py")
        run.write("main.py", source("one", "id"))
        child = await run.started()

        async def page():
            response = await client.get("/page/7")
            assert response.status_code == 200
            return response.json()

        assert await page() == {"one": {"id": "7"}}
        run.write("main.py", source("two", "code"))
        others = await seen(page, {"two": {"code": "7"}})
        # Between the turn of the functions and the gateway's own, a request may be of both.
        assert all(other in ({"one": {"id": "7"}}, {"two": {"id": "7"}}) for other in others)
        assert await run.bus.trigger("w::version") == "two"
        await child.restart()
        assert await page() == {"two": {"code": "7"}}


async def test_a_generation_that_cannot_start_leaves_the_old_one_in_service(children, program):
    async with children() as run:
        run.manifest("exec python main.py")
        run.write("main.py", program())
        child = await run.started()
        pid = child.status.pid
        run.write("main.py", "def broken(:\n")
        await child.restart()
        assert (child.status.state, child.status.pid) == ("running", pid)
        assert "SyntaxError" in child.status.reason
        assert await run.bus.trigger("w::version") == "one"
        run.write("main.py", program("two"))
        await seen(lambda: run.bus.trigger("w::version"), "two")
        await child.status.outcome()
        assert child.status.reason is None


async def test_a_generation_that_ends_after_it_has_connected_takes_nothing_over(children, program):
    async with children() as run:
        run.manifest("exec python main.py")
        run.write("main.py", program())
        child = await run.started()
        broken = program("two").replace("await asyncio.Event().wait()", "raise SystemExit('no such table')")
        run.write("main.py", broken)
        await child.restart()
        assert "no such table" in child.status.reason
        assert await run.bus.trigger("w::version") == "one"


async def test_a_crash_of_the_old_generation_while_the_new_one_fails_is_noticed(children, program):
    async with children() as run:
        run.manifest("exec python main.py")
        run.write("main.py", program())
        child = await run.started()
        run.write("main.py", "def broken(:\n")
        await child.restart()
        (peer,) = [peer for peer in run.engine.peers.values() if peer.record.name == "w"]
        os.kill(peer.record.pid, 9)
        assert "SIGKILL" in (await child.status.reaches("waiting")).reason


async def test_a_program_with_an_address_of_its_own_ends_before_its_successor_starts(children, program):
    async with children() as run:
        run.manifest("exec python main.py")
        server = (
            "import pathlib, socket\n"
            "chosen = pathlib.Path('../port')\n"
            "listening = socket.create_server(('127.0.0.1', int(chosen.read_text()) if chosen.exists() else 0))\n"
            "chosen.write_text(str(listening.getsockname()[1]))\n"
        )
        run.write("main.py", server + program())
        child = await run.started()
        run.write("main.py", server + program("two"))
        await child.restart()
        assert (child.status.state, child.status.reason) == ("running", None)
        assert await run.bus.trigger("w::version") == "two"


async def test_a_program_that_watches_its_sources_itself_is_left_alone(children, program, said):
    async with children() as run:
        run.write("package.json", "{}")
        run.manifest("exec python main.py", watch="self")
        run.write("main.py", program())
        child = await run.started()
        pid = child.status.pid
        with said("linkly.process") as lines:
            run.write("main.py", program("two"))
            await lines.line_with("main.py changed: left to its start command")
            assert child.status.pid == pid
            run.write("package.json", '{"x": "y"}')
            await lines.line_with("has been replaced")
        assert await run.bus.trigger("w::version") == "two"


async def test_a_name_that_another_program_has_is_said(children, program):
    async with children() as run, Client(run.url, name="w") as other:
        other.register_function(Function("other::f", len))
        run.manifest("exec python main.py")
        run.write("main.py", program())
        child = await run.started()
        assert "`w` is taken" in child.status.reason


async def test_a_worker_that_stops_only_finishes_its_calls(children, program):
    gate = Gate()
    async with children(gate) as run:
        run.manifest("exec python main.py")
        run.write("main.py", program())
        child = await run.started()
        slow = asyncio.create_task(run.bus.trigger("w::slow"))
        await gate.waiting.wait()
        stopping = asyncio.create_task(child.stop())
        await until_served(run.engine, "w::version", served=False)
        gate.opened.set()
        assert await slow == "one"
        await stopping
        assert child.status.state == "stopped"


async def test_a_worker_that_stops_is_not_kept_by_a_call_that_does_not_end(children, program):
    gate, clock = Gate(), ManualClock()
    async with children(gate, clock=clock) as run:
        run.manifest("exec python main.py")
        run.write("main.py", program())
        child = await run.spawned()
        arrival = run.engine.peers.arrivals[0]
        await arrival.came.wait()
        while sum(len(peer.waiting_registrations) for peer in arrival.peers) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0)
        while child.status.state != "running":
            await clock.advance(0.05)  # it counts as complete when it has said nothing for a moment
        slow = asyncio.create_task(run.bus.trigger("w::slow"))
        await gate.waiting.wait()
        stopping = asyncio.create_task(child.stop())
        await settle()
        await clock.advance(4.9)
        assert not slow.done()
        await clock.advance(0.1)
        await stopping
        with pytest.raises(InvocationStopped):
            await slow
