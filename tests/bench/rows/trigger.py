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


KINDS = {
    "frozen Struct in and out": "struct",
    "dict in and out": "dict",
    "state::get": "get",
    "state::set": "set",
    "dict in, frozen Struct out": "mixed",
    "suspends once": "suspends",
    "three calls, nested": "nested",
    "started by a connection": "started",
    "the same, suspends once": "started-suspends",
    "registered and taken back": "registered",
}

ROWS = (
    Row(
        name="trigger",
        title="a call inside one process, metrics on",
        ours={name: partial(calls, kind) for name, kind in KINDS.items()},
        goals=(
            Goal("frozen Struct in and out", "us", 1.8, at_most=True),
            Goal("dict in and out", "us", 2.3, at_most=True),
            Goal("state::get", "us", 2.5, at_most=True),
        ),
        rounds=5,
        seconds=0.5,
    ),
)
