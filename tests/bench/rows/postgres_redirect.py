"""The shortener on PostgreSQL beside FastAPI and asyncpg: each redirect is counted and on disk before its answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench import peers
from tests.bench.load import Load
from tests.bench.postgres import POOL, server, sql
from tests.bench.processes import engine
from tests.bench.row import Goal, Row
from tests.bench.rows.redirect import TARGET, Counted, add_link

from support.postgres_server import PostgresServer

CONFIG = """
workers:
  - name: iii-worker-manager
    config: {{port: 0}}
  - name: state
  - name: database
    config: {{databases: {{primary: {{url: "{url}", pool: {{max: {pool}}}}}}}}}
  - name: http
    config: {{port: 0}}
  - name: link
"""

TABLES = """
CREATE TABLE links (
    code text PRIMARY KEY, url text NOT NULL, created_at timestamptz NOT NULL, clicks bigint NOT NULL DEFAULT 0
);
CREATE TABLE clicks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code text NOT NULL, clicked_at timestamptz NOT NULL
);
"""
"""What the peer writes into: the columns that a click and a link need, and no index more."""

LINKS = 1000
EXACT = "SELECT (SELECT COUNT(*) FROM clicks), (SELECT COALESCE(SUM(clicks), 0) FROM links)"


@dataclass(frozen=True)
class Asked:
    """Which links are asked for.

    Attributes:
        links: How many; none: always the same one.
        exponent: The n-th is asked for as often as the first divided by n to this power; 0: all alike.
    """

    links: int = 0
    exponent: float = 0.0

    def fill(self, running: PostgresServer) -> None:
        """Write links into tables that are there."""
        sql(
            running,
            "INSERT INTO links (code, url, created_at, clicks) SELECT 'l' || lpad(i::text, 7, '0'), "
            f"'{TARGET}', '2026-01-01T00:00:00Z', 0 FROM generate_series(0, {self.links - 1}) AS i; ANALYZE links",
        )

    def counted(self, name: str, port: int, process_id: int, running: PostgresServer) -> Counted:
        """Return what loads a server and reads its database."""
        load = Load(port, "/s/l" if self.links else "/s/a", many=self.links, exponent=self.exponent)

        def exact() -> tuple[int, int]:
            rows, _, counter = sql(running, EXACT).partition("|")
            return int(rows), int(counter)

        return Counted(name, load, process_id, exact, database=running.pid)


@contextmanager
def linkly(asked: Asked, checkout: Path) -> Iterator[Counted]:
    """Open the shortener of a checkout."""
    with server() as running, engine(CONFIG.format(url=running.url, pool=POOL), checkout) as process:
        add_link(process.http)  # by which time the tables are there
        asked.fill(running)
        yield asked.counted("linkly", process.http_port, process.pid, running)


@contextmanager
def fastapi(asked: Asked) -> Iterator[Counted]:
    """Open the peer."""
    with server() as running:
        sql(running, TABLES)
        sql(running, f"INSERT INTO links (code, url, created_at) VALUES ('a', '{TARGET}', '2026-01-01T00:00:00Z')")
        asked.fill(running)
        with peers.python("fastapi_asyncpg_redirect.py", running.url, POOL) as process:
            yield asked.counted(FASTAPI, int(str(process.hello["port"])), process.pid, running)


FASTAPI = "FastAPI + asyncpg"
TITLE = (
    f"GET /s/:code on PostgreSQL, a click's row and its counter on disk before the answer, 64 connections, pool {POOL}"
)


def _row(name: str, which: str, asked: Asked, *goals: Goal) -> Row:
    return Row(
        name=name,
        title=f"{TITLE}: {which}",
        ours={"linkly": partial(linkly, asked)},
        peers={FASTAPI: partial(fastapi, asked)},
        goals=goals,
    )


ROWS = (
    _row("postgres-redirect", "1,000 links", Asked(LINKS), Goal("linkly", "requests/s", 3, FASTAPI)),
    _row("postgres-redirect-hot", "one link", Asked()),
    _row("postgres-redirect-zipf", "1,000 links by Zipf's law", Asked(LINKS, 1.0)),
)
