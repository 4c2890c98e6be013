"""Durable inserts per second: `database::execute` over the bus beside aiosqlite with one commit each.

    python tests/bench/bench_database_insert.py [--rounds 7] [--seconds 1.0] [--callers 64] [--against CHECKOUT]

Both write the same row into the same table of a file of their own, in WAL with synchronous=FULL, called by 64 callers
of one event loop that each wait for their answer before they insert again. With aiosqlite a caller runs `execute` and
`commit` under a lock: without the lock several callers share a transaction by accident, and one caller's rollback takes
the others' rows along. Autocommit (one hop to aiosqlite's thread in place of two) is measured beside it, as its
best case; the goal is about the first. Ours goes through the in-process bus, with
everything that a call costs. They take turns, so that what else the machine does weighs on both alike. After each
turn the rows in the file are counted, by a connection of its own: there must be exactly as many as were answered.

Prints medians, spread and their ratio; exits with 1 when the ratio is below the goal.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiosqlite
import comparison
import uvloop

from linkly.testing import running_engine
from linkly_workers.database import DatabaseWorker

GOAL = 15.0
CREATE = "CREATE TABLE clicks (id INTEGER PRIMARY KEY, code TEXT NOT NULL, at INTEGER NOT NULL)"
INSERT = "INSERT INTO clicks (code, at) VALUES (?, ?)"

Insert = Callable[[str, int], Awaitable[None]]


async def turn(insert: Insert, callers: int, seconds: float) -> tuple[int, float, list[float]]:
    """Let `callers` insert for some time.

    Returns:
        How many inserts were answered, in how many seconds, and how long each took.
    """
    started = time.perf_counter()
    end = started + seconds
    waits: list[float] = []

    async def caller(number: int) -> None:
        code = f"code{number}"
        while (before := time.perf_counter()) < end:
            await insert(code, number)
            waits.append(time.perf_counter() - before)

    await asyncio.gather(*(caller(number) for number in range(callers)))
    return len(waits), time.perf_counter() - started, waits


def rows_in(path: Path) -> int:
    """Count the rows of a file, as another process would."""
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT COUNT(*) FROM clicks").fetchone()[0])
    finally:
        connection.close()


NAMES = ("linkly", "aiosqlite", "aiosqlite, autocommit")


async def measure(folder: Path, rounds: int, seconds: float, callers: int) -> tuple[list[list[float]], ...]:
    """Run all by turns; return the rates and the waits of each."""
    ours, theirs, automatic = (folder / f"{number}.db" for number in range(3))
    worker = DatabaseWorker.from_config({"databases": {"primary": {"url": f"sqlite:{ours}", "durability": "power"}}})
    rates: list[list[float]] = [[], [], []]
    waits: list[list[float]] = [[], [], []]
    lock = asyncio.Lock()
    async with (
        running_engine(worker) as bus,
        aiosqlite.connect(theirs) as connection,
        aiosqlite.connect(automatic, isolation_level=None) as autocommit,
    ):
        await bus.trigger("database::execute", {"sql": CREATE})
        for each in (connection, autocommit):
            await each.execute("PRAGMA journal_mode = WAL")
            await each.execute("PRAGMA synchronous = FULL")
            await each.execute(CREATE)
            await each.commit()

        async def by_bus(code: str, at: int) -> None:
            await bus.trigger("database::execute", {"sql": INSERT, "params": [code, at]})

        async def by_aiosqlite(code: str, at: int) -> None:
            async with lock:
                await connection.execute(INSERT, (code, at))
                await connection.commit()

        async def by_autocommit(code: str, at: int) -> None:
            await autocommit.execute(INSERT, (code, at))

        variants = ((by_bus, ours), (by_aiosqlite, theirs), (by_autocommit, automatic))
        expected = [0, 0, 0]
        for number in range(rounds + 1):
            for which, (insert, path) in enumerate(variants):
                done, took, took_each = await turn(insert, callers, seconds if number else seconds / 4)
                expected[which] += done
                if rows_in(path) != expected[which]:
                    raise SystemExit(f"{path.name}: {expected[which]} inserts answered, {rows_in(path)} rows found")
                if number:  # the first round warms up
                    rates[which].append(done / took)
                    waits[which].extend(took_each)
        print("rows found in the files = inserts answered:", dict(zip(NAMES, expected, strict=True)))
    return rates, waits


async def measure_linkly(folder: Path, seconds: float, callers: int) -> dict[str, float]:
    """Run one turn of linkly by itself, behind a shorter one that warms up."""
    url = f"sqlite:{folder}/a.db"
    worker = DatabaseWorker.from_config({"databases": {"primary": {"url": url, "durability": "power"}}})
    async with running_engine(worker) as bus:
        await bus.trigger("database::execute", {"sql": CREATE})

        async def insert(code: str, at: int) -> None:
            await bus.trigger("database::execute", {"sql": INSERT, "params": [code, at]})

        await turn(insert, callers, seconds / 4)
        done, took, waits = await turn(insert, callers, seconds)
        return {"inserts/s": done / took, **comparison.percentiles(waits)}


def show(name: str, rates: list[float], waits: list[float]) -> None:
    """Print a rate with its spread, and how long a caller waited."""
    p50, p99 = statistics.median(waits) * 1e3, statistics.quantiles(waits, n=100)[-1] * 1e3
    print(
        f"{name:24} median {statistics.median(rates):9,.0f} inserts/s   [{min(rates):,.0f}..{max(rates):,.0f}]"
        f"   p50 {p50:.2f} ms  p99 {p99:.2f} ms"
    )


def main() -> int:
    """Run the benchmark."""
    parser = comparison.arguments(__doc__, rounds=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--callers", type=int, default=64)
    options = parser.parse_args()
    if options.against is not None:
        words = ("--seconds", options.seconds, "--callers", options.callers)
        return comparison.by_turns(
            lambda: comparison.in_a_process(__file__, comparison.THIS, *words),
            lambda: comparison.in_a_process(__file__, options.against, *words),
            options.rounds,
        )
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if options.turn:
            print(json.dumps(runner.run(measure_linkly(Path(folder), options.seconds, options.callers))))
            return 0
        rates, waits = runner.run(measure(Path(folder), options.rounds, options.seconds, options.callers))
    for name, rate, wait in zip(NAMES, rates, waits, strict=True):
        show(name, rate, wait)
    ratios = [one / other for one, other in zip(rates[0], rates[1], strict=True)]
    ratio = statistics.median(ratios)
    print(
        f"{'ratio':24} median {ratio:9.1f} x           [{min(ratios):.1f}..{max(ratios):.1f}]   goal: at least {GOAL} x"
    )
    return 0 if ratio >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
