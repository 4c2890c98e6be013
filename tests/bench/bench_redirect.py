"""What a durable redirect costs beside the same thing written by hand with FastAPI and aiosqlite.

    python tests/bench/bench_redirect.py [--rounds 5] [--seconds 3] [--against CHECKOUT]

Both answer `GET /s/:code` with 302 after the click is committed with synchronous=FULL: a row in `clicks` and
`clicks = clicks + 1` in `links`, one transaction. Both are one process on uvicorn with uvloop and httptools; the load
comes from a third process over 64 keep-alive connections, by turns, so that what else the machine does weighs on both
alike. After every round the rows in each database must equal the redirects it answered. Prints requests per second,
p50 and p99 with their spread, and the ratio; exits with 1 when the ratio is below the goal.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import comparison

from support.program import Program

GOAL = 4.0
CONNECTIONS = 64
START_S = 30

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

BY_HAND = """
import asyncio, datetime
from contextlib import asynccontextmanager

import aiosqlite, uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, RedirectResponse

writing = asyncio.Lock()  # callers of one connection would share a transaction


@asynccontextmanager
async def lifespan(app):
    async with aiosqlite.connect("hand.db", isolation_level=None) as writer, aiosqlite.connect("hand.db") as reader:
        await writer.execute("PRAGMA journal_mode = WAL")
        await writer.execute("PRAGMA synchronous = FULL")
        await writer.execute("CREATE TABLE links (code TEXT PRIMARY KEY, url TEXT NOT NULL, created_at TEXT NOT NULL, "
                             "clicks INTEGER NOT NULL DEFAULT 0)")
        await writer.execute("CREATE TABLE clicks (id INTEGER PRIMARY KEY AUTOINCREMENT, code TEXT NOT NULL, "
                             "clicked_at TEXT NOT NULL)")
        await writer.execute("INSERT INTO links VALUES ('a', 'https://a.example', '2026-01-01', 0)")
        app.state.writer, app.state.reader = writer, reader
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/s/{code}")
async def redirect(code: str):
    async with app.state.reader.execute("SELECT url FROM links WHERE code = ?", (code,)) as found:
        row = await found.fetchone()
    if row is None:
        return JSONResponse({"error": "link not found"}, 404)
    now = datetime.datetime.now(datetime.UTC).isoformat()
    async with writing:
        await app.state.writer.execute("BEGIN IMMEDIATE")
        await app.state.writer.execute("INSERT INTO clicks (code, clicked_at) VALUES (?, ?)", (code, now))
        await app.state.writer.execute("UPDATE links SET clicks = clicks + 1 WHERE code = ?", (code,))
        await app.state.writer.execute("COMMIT")
    return RedirectResponse(row[0], 302, {"Cache-Control": "private, no-store"})


config = uvicorn.Config(app, port=0, loop="uvloop", http="httptools", access_log=False, log_level="error")
server = uvicorn.Server(config)


async def main():
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await serving


import uvloop
uvloop.run(main())
"""

REQUEST = b"GET /s/a HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench\r\n\r\n"


class Client(asyncio.Protocol):
    """One keep-alive connection that asks again as soon as it is answered."""

    def __init__(self, until: float, latencies: list[float], idle: asyncio.Event, open_clients: set[Client]) -> None:
        self._until = until
        self._latencies = latencies
        self._idle = idle
        self._open = open_clients
        self._open.add(self)
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask first."""
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Take an answer and ask again, until the time is over."""
        self._got += data
        if b"\r\n\r\n" not in self._got:
            return
        if not self._got.startswith(b"HTTP/1.1 302") or b"content-length: 0" not in self._got.lower():
            raise SystemExit(f"not a redirect: {self._got[:300]!r}")
        self._got = b""
        now = time.perf_counter()
        self._latencies.append(now - self._asked)
        if now < self._until:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Say so."""
        self._open.discard(self)
        if not self._open:
            self._idle.set()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(REQUEST)  # type: ignore[attr-defined]


async def load(port: int, seconds: float) -> list[float]:
    """Ask over all connections; return every answer's latency in seconds."""
    latencies: list[float] = []
    idle, clients = asyncio.Event(), set[Client]()
    until = time.perf_counter() + seconds
    loop = asyncio.get_running_loop()
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: Client(until, latencies, idle, clients), "127.0.0.1", port)
    await asyncio.wait_for(idle.wait(), seconds + START_S)
    return latencies


class Side:
    """One server under load."""

    def __init__(self, name: str, port: int, database: Path) -> None:
        self.name = name
        self.port = port
        self.database = database
        self.answered = 0

    def measure(self, seconds: float) -> Mapping[str, float]:
        """Load it for a while and check that every redirect is on disk."""
        command = [sys.executable, __file__, "--load", str(self.port), "--seconds", str(seconds)]
        figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        self.answered += figures.pop("count")
        with contextlib.closing(sqlite3.connect(self.database)) as database:
            rows = database.execute("SELECT COUNT(*) FROM clicks").fetchone()[0]
            counter = database.execute("SELECT clicks FROM links WHERE code = 'a'").fetchone()[0]
        if not rows == counter == self.answered:
            raise SystemExit(f"{self.name}: {self.answered} redirects, {rows} rows, counter {counter}")
        return dict(figures)


@contextlib.contextmanager
def by_hand() -> Iterator[Side]:
    """Run FastAPI with aiosqlite."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "hand.py").write_text(BY_HAND)
        server = Program([sys.executable, "hand.py"], folder=Path(folder), stream="stdout")
        try:
            yield Side("FastAPI + aiosqlite", int(server.until(str.isdigit)), Path(folder) / "hand.db")
        finally:
            server.kill()


@contextlib.contextmanager
def linkly(checkout: Path = comparison.THIS) -> Iterator[Side]:
    """Run the engine of a checkout with the link shortener."""
    with comparison.engine(CONFIG, checkout) as engine:
        body = json.dumps({"url": "https://a.example", "code": "a"}).encode()
        request = urllib.request.Request(
            f"{engine.http}/links", body, {"content-type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=START_S) as made:
            assert made.status == 201
        yield Side("linkly", engine.http_port, engine.folder / "data/iii.db")


def main() -> int:
    """Run the benchmark."""
    parser = comparison.arguments(__doc__, rounds=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--load", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.load is not None:
        import uvloop

        started = time.perf_counter()
        latencies = uvloop.run(load(asked.load, asked.seconds))
        rate = len(latencies) / (time.perf_counter() - started)
        print(json.dumps({"count": len(latencies), "redirects/s": rate, **comparison.percentiles(latencies)}))
        return 0
    if asked.against is not None:
        with linkly() as this, linkly(asked.against) as other:
            return comparison.by_turns(
                lambda: this.measure(asked.seconds), lambda: other.measure(asked.seconds), asked.rounds
            )
    with by_hand() as hand, linkly() as ours:
        kept: dict[str, list[Mapping[str, float]]] = {hand.name: [], ours.name: []}
        for number in range(asked.rounds + 1):
            for side in (hand, ours):
                figures = side.measure(asked.seconds if number else 1.0)
                if number:  # the first round warms up
                    kept[side.name].append(figures)
    for name, rounds in kept.items():
        told = (f"{figure} {comparison.spread([each[figure] for each in rounds])}" for figure in rounds[0])
        print(f"{name:22} {'   '.join(told)}")
    rates = ([each["redirects/s"] for each in rounds] for rounds in kept.values())
    ratios = [mine / theirs for theirs, mine in zip(*rates, strict=True)]
    print(f"ratio {comparison.spread(ratios, digits=1)}   goal {GOAL}")
    return 0 if statistics.median(ratios) >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
