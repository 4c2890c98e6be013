"""Durable writes inside one process, beside aiosqlite: rows, and values of `state`."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.bench import peers
from tests.bench.processes import Measured, cpu_s, ours
from tests.bench.row import Figures, Goal, Measure, Row

CALLERS = 64


@contextmanager
def linkly_inserts(checkout: Path) -> Iterator[Measure]:
    """Open `database::execute`."""
    with tempfile.TemporaryDirectory() as folder, ours("insert.py", checkout, f"{folder}/a.db") as program:
        yield _writes(program, Path(folder) / "a.db")


@contextmanager
def linkly_values(checkout: Path) -> Iterator[Measure]:
    """Open `state::set`."""
    with tempfile.TemporaryDirectory() as folder, ours("state_set.py", checkout, folder) as program:
        yield _writes(program)


@contextmanager
def aiosqlite(kind: str) -> Iterator[Measure]:
    """Open aiosqlite."""
    with tempfile.TemporaryDirectory() as folder, peers.python("aiosqlite_write.py", f"{folder}/a.db", kind) as program:
        yield _writes(program, None if kind == "upsert" else Path(folder) / "a.db")


def _writes(program: Measured, rows_in: Path | None = None) -> Measure:
    expected = 0

    def measure(seconds: float) -> Figures:
        nonlocal expected
        before = cpu_s(program.pid)
        figures = program.turn(callers=CALLERS, seconds=seconds)
        cost = cpu_s(program.pid) - before
        count, took = int(figures.pop("count")), figures.pop("seconds")
        expected += count
        if rows_in is not None:
            with contextlib.closing(sqlite3.connect(rows_in)) as database:
                (rows,) = database.execute("SELECT COUNT(*) FROM clicks").fetchone()
            if rows != expected:
                raise SystemExit(f"{rows_in}: {expected} inserts answered, {rows} rows found")
        return {"writes/s": count / took, **figures, "CPU us": cost / count * 1e6}

    return measure


ROWS = (
    Row(
        name="insert",
        title="an INSERT on disk before its answer, synchronous=FULL, 64 callers in the process",
        ours={"linkly": linkly_inserts},
        peers={
            "aiosqlite, a commit each": partial(aiosqlite, "insert"),
            "aiosqlite, autocommit": partial(aiosqlite, "autocommit"),
        },
        goals=(Goal("linkly", "writes/s", 15, "aiosqlite, a commit each"),),
        seconds=1.0,
    ),
    Row(
        name="state",
        title="state::set on disk before its answer, synchronous=FULL, 64 callers in the process",
        ours={"linkly": linkly_values},
        peers={"aiosqlite, an upsert and a commit each": partial(aiosqlite, "upsert")},
        goals=(Goal("linkly", "writes/s", 5, "aiosqlite, an upsert and a commit each"),),
        seconds=1.0,
    ),
)
