"""Telemetry on both sockets that take it, as clients send it: one of their own, and binary frames on a worker's."""

import asyncio
import json
import logging
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import websockets

from linkly.testing import ManualClock
from support.serving import serving

PATHS = ["/otel", "/"]


def value(given):
    kind = {str: "stringValue", bool: "boolValue", int: "intValue", float: "doubleValue"}[type(given)]
    return {kind: given}


def pairs(given):
    return [{"key": key, "value": value(each)} for key, each in given.items()]


def log_frame(body, service="iii-node", **attributes):
    records = [{"body": {"stringValue": body}, "severityNumber": 9, "attributes": pairs(attributes)}]
    resource = {"attributes": pairs({"service.name": service})}
    export = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]}
    return b"LOGS" + json.dumps(export).encode()


def gauge_frame(worker_id, at_s, **gauges):
    points = {
        name: [{"asDouble": each, "attributes": pairs({"worker.id": worker_id}), "timeUnixNano": f"{at_s}000000000"}]
        for name, each in gauges.items()
    }
    metrics = [{"name": f"iii.worker.{name}", "gauge": {"dataPoints": each}} for name, each in points.items()]
    return b"MTRC" + json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}).encode()


class Sender:
    """A socket that telemetry is sent on."""

    def __init__(self, socket, engine):
        self._socket = socket
        self._engine = engine
        self.worker_id = ""

    async def send(self, *frames):
        """Send frames, and return when the engine has dealt with them: it takes a socket's frames in order."""
        for frame in frames:
            await self._socket.send(frame)
        await (await self._socket.ping())

    async def name_it(self, name):
        """Send the metadata call, as a client does when it has connected."""
        self.worker_id = json.loads(await self._socket.recv())["worker_id"]
        data = {"name": name, "pid": 1, "runtime": "node"}
        call = {"type": "invokefunction", "function_id": "engine::workers::register", "data": data}
        await self.send(json.dumps({**call, "invocation_id": "00000000-0000-4000-8000-000000000001"}))
        await self._socket.recv()


@asynccontextmanager
async def running(clock=None):
    """Yield an engine, a bus, and what connects to a path of its port."""
    async with serving(clock=clock) as (engine, server), AsyncExitStack() as stack:

        async def connect(path):
            socket = await stack.enter_async_context(websockets.connect(server.url + path, compression=None))
            return Sender(socket, engine)

        async with asyncio.timeout(30):
            yield engine, engine.bus("test"), connect


@pytest.mark.parametrize("path", PATHS)
async def test_log_lines_are_kept_and_listed(path):
    async with running() as (_, bus, connect):
        socket = await connect(path)
        await socket.send(log_frame("one"), log_frame("two", code="iii"))
        rows = (await bus.trigger("engine::logs::list"))["logs"]
    assert [(row["body"], row["service_name"]) for row in rows] == [("two", "iii-node"), ("one", "iii-node")]
    assert rows[0]["attributes"] == {"code": "iii", "service.name": "iii-node"}


@pytest.mark.parametrize("path", PATHS)
async def test_c87_a_telemetry_socket_survives_a_bad_frame(path):
    async with running() as (_, bus, connect):
        socket = await connect(path)
        await socket.send(b"LOGS{", b"MTRC\xff", b'OTLP{"resourceSpans":1}', log_frame("still here"))
        counts = (await bus.trigger("engine::statistics"))["telemetry"]
        listed = (await bus.trigger("engine::logs::list"))["total"]
    assert listed == 1
    assert counts["logs"] == {"frames": 2, "records": 1, "dropped": 1}
    assert counts["metrics"] == counts["spans"] == {"frames": 1, "records": 0, "dropped": 1}


async def test_a_telemetry_socket_ignores_text_and_unknown_frames():
    async with running() as (engine, bus, connect):
        socket = await connect("/otel")
        await socket.send('{"type":"registerfunction","id":"a::b"}', b"what", b"", log_frame("still here"))
        assert engine.peers == {}
        assert (await bus.trigger("engine::logs::list"))["total"] == 1
        assert (await bus.trigger("engine::statistics"))["telemetry"]["unknown"]["dropped"] == 2


async def test_spans_are_counted():
    frame = b'OTLP{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":0},{"kind":1,"droppedLinksCount":0}]}]}]}'
    async with running() as (_, bus, connect):
        socket = await connect("/otel")
        await socket.send(frame, frame)
        counts = (await bus.trigger("engine::statistics"))["telemetry"]["spans"]
    assert counts == {"frames": 2, "records": 4, "dropped": 0}


async def test_a_worker_s_gauges_are_its_latest_metrics_until_they_are_old():
    clock = ManualClock()
    async with running(clock) as (_, bus, connect):
        worker = await connect("/")
        await worker.name_it("link")
        telemetry = await connect("/otel")
        at = int(clock.time())
        numbers = {"memory.heap_used": 4096.0, "cpu.percent": 1.5, "event_loop.lag_ms": 0.25, "uptime_seconds": 9.0}
        await telemetry.send(gauge_frame(worker.worker_id, at, **numbers), gauge_frame("nobody", at, **numbers))
        shown = (await bus.trigger("engine::workers::info", {"name": "link"}))["worker"]
        counts = (await bus.trigger("engine::statistics"))["telemetry"]
        await clock.advance(121)
        later = (await bus.trigger("engine::workers::info", {"name": "link"}))["worker"]
    assert shown["latest_metrics"] == {
        "memory_heap_used": 4096,
        "cpu_percent": 1.5,
        "event_loop_lag_ms": 0.25,
        "uptime_seconds": 9,
        "timestamp_ms": at * 1000,
        "runtime": "node",
    }
    assert counts["workers_with_gauges"] == 1
    assert "latest_metrics" not in later


async def test_a_line_is_shown_under_the_most_exact_name_that_is_known(caplog):
    caplog.set_level(logging.INFO, "linkly.worker")
    async with running() as (_, _, connect):
        worker, telemetry = await connect("/"), await connect("/otel")
        await worker.name_it("link")
        await worker.send(log_frame("own socket"))
        await telemetry.send(log_frame("logger", **{"service.name": "billing"}), log_frame("service"))
    shown = [record.linkly_line for record in caplog.records if record.name == "linkly.worker"]
    assert [(line.worker, line.message) for line in shown] == [
        ("link", "own socket"),
        ("billing", "logger"),
        ("iii-node", "service"),
    ]
