"""PostgreSQL beside asyncpg: one row by its key, from callers in the same process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from tests.bench import peers
from tests.bench.postgres import POOL, server, sql
from tests.bench.processes import Measured, cpu_s, ours
from tests.bench.row import Figures, Goal, Measure, Row

TABLE = """
CREATE TABLE links (id bigint PRIMARY KEY, code text NOT NULL, url text NOT NULL, clicks bigint NOT NULL);
INSERT INTO links SELECT i, 'code' || i, 'https://a.example/some/longer/path', 0 FROM generate_series(0, 999) AS i;
ANALYZE links;
"""

Start = Callable[[str], AbstractContextManager[Measured]]
"""Starts what queries the server of a url."""


@contextmanager
def queries(start: Start, callers: int) -> Iterator[Measure]:
    """Open a server and what queries it."""
    with server() as running:
        sql(running, TABLE)
        with start(running.url) as program:

            def measure(seconds: float) -> Figures:
                own, servers = cpu_s(program.pid), cpu_s(running.pid)
                figures = program.turn(callers=callers, seconds=seconds)
                own, servers = cpu_s(program.pid) - own, cpu_s(running.pid) - servers
                count, took = figures.pop("count"), figures.pop("seconds")
                return {
                    "us": took / count * 1e6,
                    **figures,
                    "CPU us": own / count * 1e6,
                    "server CPU us": servers / count * 1e6,
                }

            yield measure


@contextmanager
def linkly(callers: int, checkout: Path) -> Iterator[Measure]:
    """Open `database::query`."""
    with queries(lambda url: ours("postgres_query.py", checkout, url, POOL), callers) as measure:
        yield measure


@contextmanager
def asyncpg(callers: int) -> Iterator[Measure]:
    """Open a pool of asyncpg."""
    with queries(lambda url: peers.python("asyncpg_query.py", url, POOL), callers) as measure:
        yield measure


ASYNCPG = "asyncpg's pool"
GOALS = (Goal("linkly", "us", 1.3, ASYNCPG, at_most=True),)

ROWS = tuple(
    Row(
        name=name,
        title=f"database::query of one row by its key, {who} in the process, {POOL} connections to PostgreSQL",
        ours={"linkly": partial(linkly, callers)},
        peers={ASYNCPG: partial(asyncpg, callers)},
        goals=GOALS,
        seconds=2.0,
    )
    for name, callers, who in (("postgres-query", 64, "64 callers"), ("postgres-query-1", 1, "one caller"))
)
