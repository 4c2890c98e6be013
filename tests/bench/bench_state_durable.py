"""Durable `state::set` beside a key/value table written with aiosqlite, both with synchronous=FULL.

    python tests/bench/bench_state_durable.py [--rounds 9] [--writes 1500] [--callers 64]

The same number of writes from the same number of concurrent callers, each answered when it is on disk: `state::set` in
process, through the whole bus, against one upsert and one commit a write on one aiosqlite connection (a lock keeps the
callers' transactions apart: without it they would share one, and one's rollback would drop the others' writes). Rounds
alternate, so that what else the machine does weighs on both alike. Prints medians, spread and their ratio, then what a
single call of `state::get` and `state::set` costs in process; exits with 1 when the ratio is below the goal.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiosqlite
import uvloop

from linkly import Bus
from linkly.schema import read_settings
from linkly.testing import running_engine
from linkly_workers.state import StateSettings, StateWorker

GOAL = 5.0
VALUE = {"url": "https://example.com/some/longer/path?with=a&query=string", "clicks": 17, "by": "ann"}
VALUE_TEXT = '{"url":"https://example.com/some/longer/path?with=a&query=string","clicks":17,"by":"ann"}'

Write = Callable[[str], Awaitable[object]]


async def rate(write: Write, writes: int, callers: int) -> float:
    """Write from several callers at one time; return writes per second."""
    numbers = iter(range(writes))

    async def call() -> None:
        for number in numbers:
            await write(f"key {number % 1000}")

    started = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(callers)))
    return writes / (time.perf_counter() - started)


def show(name: str, figures: list[float], unit: str) -> None:
    """Print median and spread."""
    print(f"{name:34} median {statistics.median(figures):10.2f} {unit}   {min(figures):.2f}-{max(figures):.2f}")


async def single(bus: Bus, calls: int = 20_000) -> None:
    """Print what one call costs in process, with the store in memory."""
    address = {"scope": "s", "key": "k"}
    for name, payload in (("state::set", {**address, "value": VALUE}), ("state::get", address)):
        costs: list[float] = []
        for _ in range(7):
            started = time.perf_counter()
            for _ in range(calls):
                await bus.trigger(name, payload)
            costs.append((time.perf_counter() - started) / calls * 1e6)
        show(f"{name}, in process, in memory", costs, "us/call ")


async def main(rounds: int, writes: int, callers: int) -> int:
    """Run the benchmark."""
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        kv = {"store_method": "file_based", "file_path": str(Path(folder) / "ours")}
        worker = StateWorker(read_settings(StateSettings, {"adapter": {"name": "kv", "config": kv}}, "$"))
        async with running_engine(worker) as bus, aiosqlite.connect(Path(folder) / "theirs.db") as connection:
            await connection.execute("PRAGMA journal_mode = WAL")
            await connection.execute("PRAGMA synchronous = FULL")
            await connection.execute(
                "CREATE TABLE kv (scope TEXT, key TEXT, value TEXT, PRIMARY KEY (scope, key)) WITHOUT ROWID"
            )
            lock = asyncio.Lock()

            async def bare(key: str) -> None:
                async with lock:
                    await connection.execute(
                        "INSERT INTO kv VALUES ('s', ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                        (key, VALUE_TEXT),
                    )
                    await connection.commit()

            async def through_the_bus(key: str) -> None:
                await bus.trigger("state::set", {"scope": "s", "key": key, "value": VALUE})

            for warm_up in (True, *[False] * rounds):
                for write, figures in ((bare, theirs), (through_the_bus, ours)):
                    figure = await rate(write, writes, callers)
                    if not warm_up:
                        figures.append(figure)
    show("aiosqlite, one commit a write", theirs, "writes/s")
    show("state::set", ours, "writes/s")
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    show("ratio", ratios, "x       ")
    print(f"goal: at least {GOAL} x")
    async with running_engine(StateWorker()) as bus:
        await single(bus)
    return 0 if statistics.median(ratios) >= GOAL else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--writes", type=int, default=1500)
    parser.add_argument("--callers", type=int, default=64)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(main(options.rounds, options.writes, options.callers)))
