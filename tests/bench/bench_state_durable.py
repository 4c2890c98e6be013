"""Durable `state::set` beside a key/value table written with aiosqlite, both with synchronous=FULL.

    python tests/bench/bench_state_durable.py [--rounds 9] [--writes 1500] [--callers 64] [--against CHECKOUT]

The same number of writes from the same number of concurrent callers, each answered when it is on disk: `state::set` in
process, through the whole bus, against one upsert and one commit a write on one aiosqlite connection (a lock keeps the
callers' transactions apart: without it they would share one, and one's rollback would drop the others' writes). Rounds
alternate, so that what else the machine does weighs on both alike. Prints medians, spread and their ratio, then what a
single call of `state::get` and `state::set` costs in process; exits with 1 when the ratio is below the goal.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiosqlite
import comparison
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


ADDRESS = {"scope": "s", "key": "k"}
SINGLE = {"state::set": {**ADDRESS, "value": VALUE}, "state::get": ADDRESS}


async def cost(bus: Bus, function_id: str, calls: int = 20_000) -> float:
    """Return what one call costs in process, in microseconds."""
    started = time.perf_counter()
    for _ in range(calls):
        await bus.trigger(function_id, SINGLE[function_id])
    return (time.perf_counter() - started) / calls * 1e6


def durable(folder: str) -> StateWorker:
    """Return a state worker that keeps its values in files."""
    kv = {"store_method": "file_based", "file_path": str(Path(folder) / "ours")}
    return StateWorker(read_settings(StateSettings, {"adapter": {"name": "kv", "config": kv}}, "$"))


async def measure_linkly(writes: int, callers: int) -> dict[str, float]:
    """Run one turn of linkly by itself, behind a shorter one that warms up."""
    with tempfile.TemporaryDirectory() as folder:
        async with running_engine(durable(folder)) as bus:

            async def write(key: str) -> None:
                await bus.trigger("state::set", {"scope": "s", "key": key, "value": VALUE})

            await rate(write, writes // 4, callers)
            figures = {"durable state::set/s": await rate(write, writes, callers)}
    async with running_engine(StateWorker()) as bus:
        for function_id in SINGLE:
            figures[f"{function_id} in memory, us"] = await cost(bus, function_id)
    return figures


async def beside_aiosqlite(rounds: int, writes: int, callers: int) -> int:
    """Run the benchmark; return its exit code."""
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        async with running_engine(durable(folder)) as bus, aiosqlite.connect(Path(folder) / "theirs.db") as connection:
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
        for function_id in SINGLE:
            show(f"{function_id}, in process, in memory", [await cost(bus, function_id) for _ in range(7)], "us/call ")
    return 0 if statistics.median(ratios) >= GOAL else 1


def main() -> int:
    """Run the benchmark."""
    parser = comparison.arguments(__doc__, rounds=9)
    parser.add_argument("--writes", type=int, default=1500)
    parser.add_argument("--callers", type=int, default=64)
    options = parser.parse_args()
    if options.against is not None:
        words = ("--writes", options.writes, "--callers", options.callers)
        return comparison.by_turns(
            lambda: comparison.in_a_process(__file__, comparison.THIS, *words),
            lambda: comparison.in_a_process(__file__, options.against, *words),
            options.rounds,
        )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if options.turn:
            print(json.dumps(runner.run(measure_linkly(options.writes, options.callers))))
            return 0
        return runner.run(beside_aiosqlite(options.rounds, options.writes, options.callers))


if __name__ == "__main__":
    sys.exit(main())
