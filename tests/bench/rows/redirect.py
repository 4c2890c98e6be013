"""The shortener over HTTP: a redirect that counts and is on disk, one that does not count, and a bare route."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench import peers
from tests.bench.load import CONNECTIONS, Load
from tests.bench.processes import PROGRAMS, Measured, cpu_s, engine
from tests.bench.row import Figures, Goal, Measure, Row

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
TARGET = "https://a.example"
SETTLE_S = 10.0


Started = AbstractContextManager[Measured]
"""A peer that runs until the block ends."""


class Counted:
    """A durable redirect under load, and its database.

    Args:
        name: For errors.
        load: Asks for redirects.
        server: The process that redirects.
        exact: Returns the rows and the sum of the counters in the database.
        database: The process of the database, if that is one of its own: its processor time is shown.

    The first turn waits for every answer: rows, counter and redirects must be equal. wrk drops what is under way when
    its time is over, at most one request a connection: those are counted, and nobody has seen the redirect.
    """

    def __init__(
        self, name: str, load: Load, server: int, exact: Callable[[], tuple[int, int]], database: int | None = None
    ) -> None:
        self._name, self._load, self._server, self._database = name, load, server, database
        self._rows_and_counter = exact
        self.port = load.port
        self._first, self._may_be_dropped = True, 0
        self._expected = self._exact() + 1
        load.check(302, location=TARGET)

    def __call__(self, seconds: float) -> Figures:
        if self._first:
            seconds = min(seconds, 1.0)
        before = 0.0 if self._database is None else cpu_s(self._database)
        redirects, figures = self._load.put(self._server, seconds, every_answer=self._first)
        if self._database is not None:
            figures = {**figures, "database CPU us": (cpu_s(self._database) - before) / max(redirects, 1) * 1e6}
        self._expected += redirects
        # Over all turns: what one has dropped may be on disk only after the next one has begun.
        self._may_be_dropped += 0 if self._first else self._load.connections
        self._first = False
        dropped = self._settled() - self._expected
        if not 0 <= dropped <= self._may_be_dropped:
            raise SystemExit(f"{self._name}: {self._expected} redirects, {dropped} rows more")
        return figures

    def _settled(self) -> int:
        """Return the number of rows when nothing is under way any more."""
        end, rows = time.monotonic() + SETTLE_S, -1
        while time.monotonic() < end:
            before, rows = rows, self._exact()
            if before == rows:
                return rows
            time.sleep(0.05)  # a server does not say when nothing is under way: two equal readings in a row do
        raise SystemExit(f"{self._name}: clicks come in long after the load has ended")

    def _exact(self) -> int:
        rows, counter = self._rows_and_counter()
        if rows != counter:
            raise SystemExit(f"{self._name}: {rows} rows, counter {counter}")
        return rows


def in_file(database: Path) -> tuple[int, int]:
    """Return the rows and the sum of the counters in a file of SQLite."""
    with contextlib.closing(sqlite3.connect(database)) as opened:
        rows, counter = opened.execute(
            "SELECT (SELECT COUNT(*) FROM clicks), (SELECT COALESCE(SUM(clicks), 0) FROM links)"
        ).fetchone()
    return int(rows), int(counter)


def add_link(http: str, code: str = "a") -> None:
    """Make a link in an engine."""
    body = json.dumps({"url": TARGET, "code": code}).encode()
    request = urllib.request.Request(f"{http}/links", body, {"content-type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=30) as made:
        assert made.status == 201


@dataclass(frozen=True)
class Setting:
    """Under what a redirect is measured.

    Attributes:
        connections: Which ask.
        links: In the database, all of which are asked for; none: one link.
        clicks: In the database, the same number for every link.
    """

    connections: int = CONNECTIONS
    links: int = 0
    clicks: int = 0

    def load(self, port: int) -> Load:
        """Return the load on a server."""
        return Load(port, "/s/l" if self.links else "/s/a", connections=self.connections, many=self.links)

    def fill(self, file: Path) -> None:
        """Write links and clicks into a database that has the tables and is not in use."""
        numbers = "WITH RECURSIVE numbers(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i < ? - 1)"
        with contextlib.closing(sqlite3.connect(file)) as database:
            database.execute("PRAGMA synchronous = OFF")
            database.execute(
                f"{numbers} INSERT INTO links (code, url, created_at, clicks) "
                "SELECT printf('l%07d', i), ?, '2026-01-01T00:00:00Z', ? FROM numbers",
                (self.links, TARGET, self.clicks // self.links),
            )
            for _ in range(self.clicks // self.links):
                database.execute(
                    f"{numbers} INSERT INTO clicks (code, clicked_at) "
                    "SELECT printf('l%07d', i), '2026-01-01T00:00:00Z' FROM numbers",
                    (self.links,),
                )
            database.commit()
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def linkly(checkout: Path, setting: Setting = Setting()) -> Iterator[Counted]:
    """Open the shortener of a checkout."""
    with engine(CONFIG, checkout) as running:
        database = running.folder / "data/iii.db"
        add_link(running.http)  # of which tables come
        if setting.links:
            running.end()
            setting.fill(database)
            running.start()
        yield Counted("linkly", setting.load(running.http_port), running.pid, partial(in_file, database))


@contextmanager
def by_hand(name: str, start: Callable[[Path], Started], setting: Setting = Setting()) -> Iterator[Counted]:
    """Open a peer on a database of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "hand.db"
        with contextlib.closing(sqlite3.connect(file)) as database:
            database.executescript((peers.PEERS / "redirect_tables.sql").read_text())
            database.execute("INSERT INTO links VALUES ('a', ?, '2026-01-01T00:00:00Z', 0)", (TARGET,))
            database.commit()
        if setting.links:
            setting.fill(file)
        with start(file) as server:
            port = int(server.hello["port"])  # type: ignore[call-overload]
            yield Counted(name, setting.load(port), server.pid, partial(in_file, file))


def fastapi(file: Path) -> Started:
    """Run FastAPI with aiosqlite."""
    return peers.python("fastapi_redirect.py", file)


def fastify(synchronous: str, file: Path) -> Started:
    """Run Fastify with better-sqlite3."""
    built = "better-sqlite3/build/Release/better_sqlite3.node"
    return peers.node("fastify_redirect.cjs", file, synchronous, needs=built)


FASTAPI, FULL, NORMAL = "FastAPI + aiosqlite FULL", "Fastify + better-sqlite3 FULL", "Fastify + better-sqlite3 NORMAL"
COUNTED = {FASTAPI: fastapi, FULL: partial(fastify, "FULL"), NORMAL: partial(fastify, "NORMAL")}


@contextmanager
def uncounted(path: str, method: str, status: int, checkout: Path) -> Iterator[Measure]:
    """Open the shortener and a bare route, and ask for what nobody counts."""
    config = f"{CONFIG}  - module: bare_worker:BareWorker\n"
    with engine(config, checkout, PROGRAMS / "bare_worker.py") as running:
        add_link(running.http)
        load = Load(running.http_port, path, method)
        load.check(status)
        yield lambda seconds: load.put(running.pid, seconds)[1]


@contextmanager
def bare(start: Callable[[], Started], path: str, method: str, status: int) -> Iterator[Measure]:
    """Open a peer that counts nothing."""
    with start() as server:
        load = Load(int(server.hello["port"]), path, method)  # type: ignore[call-overload]
        load.check(status)
        yield lambda seconds: load.put(server.pid, seconds)[1]


def _peers(path: str, method: str, status: int) -> dict[str, Callable[[], AbstractContextManager[Measure]]]:
    servers = {
        "node:http": partial(peers.node, "node_http.cjs"),
        "Starlette": partial(peers.python, "starlette_redirect.py"),
    }
    return {name: partial(bare, start, path, method, status) for name, start in servers.items()}


ROWS = (
    Row(
        name="redirect",
        title="GET /s/:code, a click's row and its counter in one fsynced transaction, 64 connections",
        ours={"linkly": linkly},
        peers={name: partial(by_hand, name, start) for name, start in COUNTED.items()},
        goals=(
            Goal("linkly", "requests/s", 16, FASTAPI),
            Goal("linkly", "requests/s", 5, FULL),
            Goal("linkly", "p99 ms", 1 / 40, FULL, at_most=True),
            Goal("linkly", "requests/s", 1.5, NORMAL),
            Goal("linkly", "CPU us", 55, at_most=True),
            Goal("linkly", "p99 / p50", 3, at_most=True),
        ),
    ),
    Row(
        name="route",
        title="GET of a route bound to a bare function, 64 connections",
        ours={"linkly": partial(uncounted, "/hello", "GET", 200)},
        peers=_peers("/hello", "GET", 200),
        goals=(Goal("linkly", "requests/s", 0.9, "node:http"),),
    ),
    Row(
        name="head",
        title="HEAD /s/:code, a redirect that is not counted (gateway, link, state), 64 connections",
        ours={"linkly": partial(uncounted, "/s/a", "HEAD", 302)},
        peers=_peers("/s/a", "HEAD", 302),
        goals=(Goal("linkly", "requests/s", 0.65, "node:http"), Goal("linkly", "requests/s", 1.6, "Starlette")),
    ),
)
