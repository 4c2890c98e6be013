"""A client that floods an engine: `flooder.py KIND WORKER_PORT HTTP_PORT SECONDS`; prints how much it got done.

A raw socket sends what was prepared as fast as it is taken, with at most `WINDOW` calls unanswered:

* `selects`: different slow SELECTs, none of which was seen before;
* `calls`: `state::get` of a key that is not there, over one connection;
* `inserts`: `database::execute` of one INSERT, over one connection;
* `functions`, `triggers`: registrations of functions and of HTTP routes, all with ids of their own;
* `logs`: telemetry frames of one log line each; `bulk-logs`: of 1,000 lines each;
* `log-calls`: `engine::log::info`;
* `http`: redirects asked for over one keep-alive socket, without waiting for answers.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

WINDOW = 20_000
"""Calls that may be unanswered."""

PART = 256
"""Frames that are sent at a time."""

SLOW = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT max(i), {} FROM n"

Frame = Callable[[int], bytes]


def _call(function_id: str, data: Callable[[int], Any]) -> Frame:
    def frame(number: int) -> bytes:
        call = {"type": "invokefunction", "invocation_id": f"f{number}", "function_id": function_id}
        return _text(json.dumps({**call, "data": data(number)}).encode())

    return frame


def _register_function(number: int) -> bytes:
    return _text(json.dumps({"type": "registerfunction", "id": f"flood::f{number}"}).encode())


def _register_trigger(number: int) -> bytes:
    trigger = {"type": "registertrigger", "id": f"t{number}", "trigger_type": "http", "function_id": "flood::f"}
    return _text(json.dumps({**trigger, "config": {"api_path": f"/flood/{number}"}}).encode())


def _logs(lines: int) -> Frame:
    def frame(number: int) -> bytes:
        record = {"severityNumber": 9, "body": {"stringValue": f"line {number}"}, "timeUnixNano": str(time.time_ns())}
        export = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record] * lines}]}]}
        return _masked(0x82, b"LOGS" + json.dumps(export).encode())

    return frame


def _text(payload: bytes) -> bytes:
    return _masked(0x81, payload)


def _masked(first: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        head = bytes((first, 0x80 | length))
    elif length < 65536:
        head = bytes((first, 0xFE)) + length.to_bytes(2, "big")
    else:
        head = bytes((first, 0xFF)) + length.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload  # masked with zeros: nothing to work out


def _insert(number: int) -> Any:
    return {"sql": "INSERT INTO flood (number) VALUES (?)", "params": [number]}


KINDS: dict[str, Frame] = {
    "selects": _call("database::query", lambda number: {"sql": SLOW.format(number)}),
    "calls": _call("state::get", lambda _: {"scope": "flood", "key": "none"}),
    "inserts": _call("database::execute", _insert),
    "functions": _register_function,
    "triggers": _register_trigger,
    "logs": _logs(1),
    "bulk-logs": _logs(1000),
    "log-calls": _call("engine::log::info", lambda number: {"message": f"line {number}"}),
    "http": lambda _: b"GET /s/flood HTTP/1.1\r\nHost: localhost\r\n\r\n",
}
ANSWERED = {"selects", "calls", "inserts", "log-calls", "http"}
"""Kinds whose frames are answered one by one."""


async def flood(kind: str, worker_port: int, http_port: int, seconds: float) -> int:
    """Send frames of a kind until the time is over; return how many were answered, or sent where none is."""
    frame = KINDS[kind]
    reader, writer = await asyncio.open_connection("127.0.0.1", http_port if kind == "http" else worker_port)
    if kind != "http":
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        hello = {"type": "invokefunction", "function_id": "engine::workers::register", "invocation_id": "hello"}
        writer.write(_text(json.dumps({**hello, "data": {"name": "flooder", "pid": os.getpid()}}).encode()))
    mark = b"HTTP/1.1 302" if kind == "http" else b'"invocationresult"'
    answered, sent = 0, 0
    room = asyncio.Event()

    async def read() -> None:
        nonlocal answered
        rest = b""
        while data := await reader.read(1 << 18):
            rest += data
            answered += rest.count(mark)
            rest = rest[max(rest.rfind(mark) + len(mark), len(rest) - len(mark)) :]
            room.set()

    reading = asyncio.ensure_future(read())
    end = time.monotonic() + seconds
    prepared: list[bytes] = []
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < end and not reading.done():
            if kind in ANSWERED and sent - answered > WINDOW:
                room.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(room.wait(), max(0.0, end - time.monotonic()))
                continue
            if kind in ("logs", "bulk-logs") and prepared:  # to make them takes longer than to take them
                part = prepared[0]
            else:
                part = b"".join(frame(sent + number) for number in range(PART if kind != "bulk-logs" else 4))
                prepared = [part]
            writer.write(part)
            sent += PART if kind != "bulk-logs" else 4000
            try:
                await asyncio.wait_for(writer.drain(), max(0.01, end - time.monotonic()))
            except TimeoutError:
                break
    reading.cancel()
    writer.transport.abort()
    return answered if kind in ANSWERED else sent


print(asyncio.run(flood(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))))
