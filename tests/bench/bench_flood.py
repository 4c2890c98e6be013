"""What everybody else notices while one client floods the engine.

    python tests/bench/bench_flood.py [--seconds 4] [--rounds 1] [--kinds calls inserts ...] [--against CHECKOUT]

One engine with the link shortener; a process that floods it, one kind after another; a process that clicks on
`GET /s/:code` (each click durable) and asks for `/healthz` meanwhile, at a pace that an idle engine does not notice.
The flooder is a raw socket that sends what it has prepared as fast as it is taken, with at most `WINDOW` calls
unanswered:

* `selects`: different slow SELECTs, none of which was seen before;
* `calls`: `state::get` of a key that is not there, over one connection;
* `inserts`: `database::execute` of one INSERT, over one connection;
* `functions`, `triggers`: registrations of functions and of HTTP routes, all with ids of their own;
* `logs`: telemetry frames of one log line each; `bulk-logs`: of 1,000 lines each;
* `log-calls`: `engine::log::info`;
* `http`: redirects asked for over one keep-alive socket, without waiting for answers.

Every flood begins on a new engine with empty databases. Prints p50, p99 and the maximum of clicks and of `/healthz`,
and what the flooder got done (it goes on for some seconds after the others have ended); exits with 1 when a
p99 is above its goal.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import functools
import json
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import comparison

GOAL_CLICK_S = 0.100
GOAL_HEALTH_S = 0.050
START_S = 30
WINDOW = 20_000
"""Calls of the flooder that may be unanswered."""

PART = 256
"""Frames that are sent at a time."""

CLICKERS = 4
BEYOND_S = 2
"""How long the flood outlasts the others, so that they see none of its end."""

PAUSE_S = 0.010
"""Between an answer and the next click of the same client."""

CONFIG = """
workers:
  - name: iii-worker-manager
    config: {port: 0}
  - name: state
  - name: database
  - name: http
    config: {port: 0}
  - name: link
"""

SLOW = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT max(i), {} FROM n"

Frame = Callable[[int], bytes]


# --- the flooder -------------------------------------------------------------------------------------------------


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


KINDS: dict[str, Frame | None] = {
    "none": None,
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
    assert frame is not None
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


# --- everybody else ----------------------------------------------------------------------------------------------


async def ask(port: int, path: str, wanted: bytes, seconds: float) -> list[float]:
    """Ask again and again over one connection; return the latencies in seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    latencies: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 " + wanted):
            raise SystemExit(f"{path}: {head[:200]!r}")
        found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        await reader.readexactly(int(found[1]) if found else 0)
        latencies.append(time.perf_counter() - began)
        await asyncio.sleep(PAUSE_S)
    writer.close()
    return latencies


async def others(port: int, seconds: float) -> dict[str, list[float]]:
    """Click and ask for health."""
    clicks = [ask(port, "/s/a", b"302", seconds) for _ in range(CLICKERS)]
    *clicked, health = await asyncio.gather(*clicks, ask(port, "/healthz", b"200", seconds))
    return {"click": [latency for each in clicked for latency in each], "health": health}


# --- the engine --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def engine(checkout: Path) -> Iterator[tuple[int, int]]:
    """Run an engine with two links and a table; yield the ports for workers and for HTTP."""
    with comparison.engine(CONFIG, checkout) as process:
        for code in ("a", "flood"):
            body = json.dumps({"url": "https://a.example", "code": code}).encode()
            headers = {"content-type": "application/json"}
            request = urllib.request.Request(f"{process.http}/links", body, headers, method="POST")
            urllib.request.urlopen(request, timeout=START_S).close()
        create = "CREATE TABLE flood (id INTEGER PRIMARY KEY, number INTEGER)"
        made = process.trigger("database::execute", f"sql={create}")
        assert made.returncode == 0, made.stderr
        yield process.worker_port, process.http_port


def measure(kind: str, seconds: float, checkout: Path = comparison.THIS) -> tuple[dict[str, list[float]], float]:
    """Flood a new engine; return the latencies of the others and what the flooder got done in a second."""
    me = [sys.executable, __file__, "--seconds", str(seconds)]
    with engine(checkout) as (worker_port, http_port):
        flooder = None
        if KINDS[kind] is not None:
            ports = ["--ports", str(worker_port), str(http_port)]
            flooder = subprocess.Popen(
                [*me[:-1], str(seconds + BEYOND_S), "--flood", kind, *ports], stdout=subprocess.PIPE, text=True
            )
            time.sleep(0.5)  # the flood is under way when the first click is measured
        asked = [*me[:-1], str(seconds - 0.5), "--others", "--ports", str(worker_port), str(http_port)]
        figures = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True, timeout=120).stdout)
        done = 0
        if flooder is not None:
            done = int(flooder.communicate(timeout=60)[0])
    return figures, done / (seconds + BEYOND_S)


def figures_of(kind: str, seconds: float, checkout: Path) -> dict[str, float]:
    """Return what one turn of a comparison measures."""
    latencies, rate = measure(kind, seconds, checkout)
    figures = {
        f"{name} {percentile}": value
        for name, each in latencies.items()
        for percentile, value in comparison.percentiles(each).items()
    }
    return figures if kind == "none" else {**figures, "flooder/s": rate}


def p99(latencies: list[float]) -> float:
    """Return the 99th percentile."""
    return sorted(latencies)[len(latencies) * 99 // 100]


def main() -> int:
    """Run the benchmark."""
    parser = comparison.arguments(__doc__, rounds=1)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--flood", help=argparse.SUPPRESS)
    parser.add_argument("--others", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--ports", nargs=2, type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.flood:
        print(asyncio.run(flood(asked.flood, *asked.ports, asked.seconds)))
        return 0
    if asked.others:
        print(json.dumps(asyncio.run(others(asked.ports[1], asked.seconds))))
        return 0
    if asked.against is not None:
        for kind in asked.kinds:
            print(f"-- {kind}")
            comparison.by_turns(
                functools.partial(figures_of, kind, asked.seconds, comparison.THIS),
                functools.partial(figures_of, kind, asked.seconds, asked.against),
                asked.rounds,
            )
        return 0
    print("all in ms, medians of the rounds; goals: click p99 under 100, healthz p99 under 50")
    titles = f"{'kind':11}{'flooder/s':>10}{'clicks':>8}{'p50':>8}{'p99':>9}{'max':>9}"
    print(f"{titles}   {'healthz p50':>11}{'p99':>9}{'max':>9}")
    missed = False
    for kind in asked.kinds:
        rounds = [measure(kind, asked.seconds) for _ in range(asked.rounds)]
        line = f"{kind:11}{statistics.median(rate for _, rate in rounds):10.0f}"
        line += f"{statistics.median(len(figures['click']) for figures, _ in rounds):8.0f}"
        for name, goal, width in (("click", GOAL_CLICK_S, 8), ("health", GOAL_HEALTH_S, 14)):
            of_all = [
                (statistics.median(each), p99(each), max(each)) for figures, _ in rounds for each in [figures[name]]
            ]
            middle = [statistics.median(figures) for figures in zip(*of_all, strict=True)]
            missed = missed or middle[1] > goal
            line += f"{middle[0] * 1e3:{width}.1f}{middle[1] * 1e3:9.1f}{middle[2] * 1e3:9.1f}"
        print(line, flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
