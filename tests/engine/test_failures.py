"""A handler that fails is logged once, whole: by whom, for whom, where, under which ids."""

import asyncio
import logging
import os
import sys

import httpx
import pytest

from linkly import Function, HttpRequest, HttpResponse, LinklyError, Worker, function, http
from linkly.bus import Invocation, Void
from linkly.context import current_invocation
from linkly.testing import running_engine, settle, wired
from linkly_engine.engine import Engine
from linkly_engine.process.output import level_and_text
from linkly_engine.telemetry.capture import Capture
from linkly_workers.http import HttpWorker
from support.serving import engine_and_bus, serving

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Refused(LinklyError):
    """An answer."""

    code = "REFUSED"


class ShopWorker(Worker):
    """Fails in every way."""

    name = "shop"

    @function("shop::boom", triggers=[http("GET", "/boom/:way")])
    async def boom(self, request: HttpRequest) -> HttpResponse:
        """Fail."""
        if request.path_params.get("way") == "deep":
            await self.bus.trigger("shop::deep")
        if request.path_params.get("way") == "refused":
            raise Refused("not today")
        raise ValueError("a reason")

    @function("shop::deep")
    async def deep(self) -> None:
        """Fail further down."""
        raise KeyError("deeper")

    @function("shop::unusable")
    async def unusable(self) -> object:
        """Answer what has no JSON form."""
        return object()


@pytest.fixture
def lines():
    """What is logged as a worker's, or as the gateway's, by the time it is looked at."""
    found = []

    class Handler(logging.Handler):
        def emit(self, record):
            from linkly_engine.telemetry.lines import line_of

            found.append(line_of(record))

    handler, log = Handler(logging.WARNING), logging.getLogger("linkly")
    log.addHandler(handler)
    yield found
    log.removeHandler(handler)


async def test_it_is_logged_once_with_function_worker_trace_and_stack(lines):
    async with running_engine(ShopWorker()) as bus:
        token = current_invocation.set(Invocation(function_id="test", traceparent=f"00-{TRACE}-{SPAN}-01"))
        with pytest.raises(LinklyError, match="deeper") as caught:
            await bus.trigger("shop::deep")
        current_invocation.reset(token)
    (line,) = lines
    assert (line.level, line.worker, line.message) == ("ERROR", "shop", "`shop::deep` failed: 'deeper'")
    assert (line.trace_id, line.data["function"]) == (TRACE, "shop::deep")
    assert line.data["error_id"] == caught.value.error_id
    assert "Traceback" in line.trouble
    assert "KeyError: 'deeper'" in line.trouble


async def test_an_error_with_a_code_of_its_own_is_no_failure(lines):
    async with running_engine(ShopWorker()) as bus:
        with pytest.raises(Refused):
            await bus.trigger("shop::boom", {"path_params": {"way": "refused"}})
    assert lines == []


async def test_a_result_without_a_json_form_is_a_failure_too(lines):
    async with running_engine(ShopWorker()) as bus:
        with pytest.raises(LinklyError):
            await bus.trigger("shop::unusable")
    assert [line.data["function"] for line in lines] == ["shop::unusable"]


async def test_a_call_without_waiting_is_logged_as_any_other(lines):
    async with running_engine(ShopWorker()) as bus:
        await bus.trigger("shop::deep", action=Void())
        await settle()
    assert [line.message for line in lines] == ["`shop::deep` failed: 'deeper'"]


async def test_the_handler_of_a_remote_worker_is_logged_under_its_name(lines):
    async def boom() -> None:
        raise ValueError("remote")

    async with Engine() as engine, wired(engine, name="far") as far, wired(engine, name="near") as near:
        far.register_function(Function("far::boom", boom))
        await settle()
        for bus in (engine.bus("test"), near):
            with pytest.raises(LinklyError, match="remote"):
                await bus.trigger("far::boom")
        await near.trigger("far::boom", action=Void())
        await settle()
    assert [(line.worker, line.message) for line in lines] == [("far", "`far::boom` failed: remote")] * 3
    assert all("ValueError: remote" in line.trouble for line in lines)


async def test_a_handler_that_lets_the_failure_of_another_pass_is_not_logged_again(lines):
    async with Engine() as engine, wired(engine, name="far") as far, wired(engine, name="near") as near:

        async def boom() -> None:
            raise ValueError("remote")

        async def through() -> None:
            await near.trigger("far::boom")

        async def as_iii_does() -> None:
            try:
                await near.trigger("far::boom")
            except LinklyError as error:
                raise RuntimeError(f"{error.code}: {error.message}") from None

        far.register_function(Function("far::boom", boom))
        near.register_function(Function("near::through", through))
        near.register_function(Function("near::as_iii_does", as_iii_does))
        await settle()
        for function_id in ("near::through", "near::as_iii_does", "far::boom"):
            with pytest.raises(LinklyError, match="remote"):
                await engine.bus("test").trigger(function_id)
    assert [line.data["function"] for line in lines] == ["far::boom"] * 3


async def test_the_line_names_the_route_and_the_response_its_error_id(lines):
    gateway = HttpWorker.from_config({"port": 0}, "test")
    async with running_engine(gateway, ShopWorker()), httpx.AsyncClient(base_url=gateway.addresses()["http"]) as client:
        answer = (await client.get("/boom/now")).json()["error"]
    (line,) = lines
    assert (line.worker, line.data["route"]) == ("shop", "GET /boom/:way")
    assert (line.data["error_id"], answer["code"]) == (answer["error_id"], "invocation_failed")


async def test_a_failure_is_logged_under_the_error_id_of_its_route(lines):
    gateway = HttpWorker.from_config({"port": 0}, "test")
    async with running_engine(gateway, ShopWorker()), httpx.AsyncClient(base_url=gateway.addresses()["http"]) as client:
        answer = (await client.get("/boom/deep")).json()["error"]
    whole, route = lines
    assert (whole.worker, whole.data["function"]) == ("shop", "shop::deep")
    assert route.message == "GET /boom/:way runs `shop::boom`: 500, `shop::deep` failed"
    assert whole.data["error_id"] == route.data["error_id"] == answer["error_id"]


async def test_an_error_with_a_code_of_its_own_names_route_and_function(lines):
    gateway = HttpWorker.from_config({"port": 0}, "test")
    async with running_engine(gateway, ShopWorker()), httpx.AsyncClient(base_url=gateway.addresses()["http"]) as client:
        answer = (await client.get("/boom/refused")).json()["error"]
    (line,) = lines
    assert line.message == "GET /boom/:way runs `shop::boom`: 500, REFUSED: not today"
    assert line.data["error_id"] == answer["error_id"]


async def test_the_ids_in_a_line_find_its_record():
    capture, log = Capture(), logging.getLogger("linkly.worker")
    log.addHandler(capture)
    try:
        async with engine_and_bus(ShopWorker()) as (engine, bus):
            capture.bind(engine.telemetry)
            token = current_invocation.set(Invocation(function_id="test", traceparent=f"00-{TRACE}-{SPAN}-01"))
            with pytest.raises(LinklyError) as caught:
                await bus.trigger("shop::deep")
            current_invocation.reset(token)
            queries = [{"trace_id": TRACE[:8]}, {"trace_id": TRACE}, {"error_id": caught.value.error_id}]
            found = [(await bus.trigger("engine::logs::list", query))["logs"] for query in queries]
            others = [{"trace_id": TRACE[:7]}, {"trace_id": TRACE[1:9]}, {"error_id": "000000000000"}]
            missed = [(await bus.trigger("engine::logs::list", query))["logs"] for query in others]
            capture.unbind()
    finally:
        log.removeHandler(capture)
    assert [[row["body"] for row in rows] for rows in found] == [["`shop::deep` failed: 'deeper'"]] * 3
    assert missed == [[], [], []]


# --- lines of programs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line, level, text",
    [
        ("ERROR boom", logging.ERROR, "boom"),
        ("ERROR:root:boom", logging.ERROR, "root:boom"),
        ("[WARN] careful", logging.WARNING, "careful"),
        ("WARNING: careful", logging.WARNING, "careful"),
        ("CRITICAL end", logging.CRITICAL, "end"),
        ("DEBUG detail", logging.DEBUG, "detail"),
        ("2026-01-01 10:00:00,123 ERROR boom", logging.ERROR, "2026-01-01 10:00:00,123 ERROR boom"),
        ("[2026-01-01T10:00:00Z] [ERROR] boom", logging.ERROR, "[2026-01-01T10:00:00Z] [ERROR] boom"),
        ("ERRORS are none", logging.INFO, "ERRORS are none"),
        ("ERROR", logging.INFO, "ERROR"),
        ("no ERROR here", logging.INFO, "no ERROR here"),
        ("[REGISTERED] Function x", logging.INFO, "[REGISTERED] Function x"),
    ],
)
def test_a_line_of_a_program_has_the_level_that_it_begins_with(line, level, text):
    assert level_and_text(line) == (level, text)


PROGRAM = """
import asyncio, json, os, sys, websockets

async def main(port):
    async with websockets.connect(f"ws://127.0.0.1:{port}/") as worker, \\
            websockets.connect(f"ws://127.0.0.1:{port}/otel") as telemetry:
        await worker.send(json.dumps({"type": "invokefunction", "invocation_id": "1", "data": {"name": "billing",
            "pid": os.getpid()}, "function_id": "engine::workers::register"}))
        while json.loads(await worker.recv())["type"] != "invocationresult":
            pass
        record = {"timeUnixNano": "1", "severityNumber": 17, "body": {"stringValue": "from the program"}}
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "iii-node"}}]}
        logs = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]}
        await telemetry.send(b"LOGS" + json.dumps(logs).encode())
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main(int(sys.argv[1])))
"""


@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="only Linux tells whose a socket is")
async def test_a_record_of_an_sdk_is_shown_under_the_name_of_its_worker(lines):
    async with serving() as (_, server):
        port = str(server.port)
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, port, stdin=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(30):
                while not lines:
                    await settle()
        finally:
            program.stdin.close()
            await program.wait()
    assert [(line.worker, line.message) for line in lines] == [("billing", "from the program")]
