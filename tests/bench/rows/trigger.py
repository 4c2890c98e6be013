"""A call inside one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.bench.processes import ours
from tests.bench.row import Goal, Measure, Row


@contextmanager
def calls(kind: str, checkout: Path) -> Iterator[Measure]:
    """Open a process that calls inside itself."""
    with ours("trigger.py", checkout, kind) as program:
        yield lambda seconds: program.turn(seconds=seconds)


ROWS = (
    Row(
        name="trigger",
        title="a call inside one process, metrics on",
        ours={
            "frozen Struct in and out": partial(calls, "struct"),
            "dict in and out": partial(calls, "dict"),
            "state::get": partial(calls, "state"),
            "state::set": partial(calls, "state-set"),
        },
        goals=(
            Goal("frozen Struct in and out", "us", 1.8, at_most=True),
            Goal("dict in and out", "us", 2.3, at_most=True),
            Goal("state::get", "us", 2.5, at_most=True),
        ),
        rounds=7,
        seconds=1.0,
    ),
)
