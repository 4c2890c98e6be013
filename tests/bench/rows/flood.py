"""What everybody else notices while one client floods the engine."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.bench.processes import PROGRAMS, engine, measured
from tests.bench.row import Figures, Goal, Measure, Row
from tests.bench.rows.redirect import CONFIG, add_link

BEFORE_S, AFTER_S = 0.5, 1.5
"""The flood is under way when the first click is measured, and outlasts the last one."""

KINDS = ("selects", "calls", "inserts", "functions", "triggers", "logs", "bulk-logs", "log-calls", "http")


@contextmanager
def flooded(kind: str | None, checkout: Path) -> Iterator[Measure]:
    """Open nothing: every flood begins on a new engine with empty databases."""

    def measure(seconds: float) -> Figures:
        with engine(CONFIG, checkout) as running:
            for code in ("a", "flood"):
                add_link(running.http, code)
            made = running.trigger(
                "database::execute", "sql=CREATE TABLE flood (id INTEGER PRIMARY KEY, number INTEGER)"
            )
            assert made.returncode == 0, made.stderr
            with measured(sys.executable, PROGRAMS / "bystanders.py", running.http_port) as bystanders:
                if kind is None:
                    return bystanders.turn(seconds=seconds)
                took = BEFORE_S + seconds + AFTER_S
                words = [PROGRAMS / "flooder.py", kind, running.worker_port, running.http_port, took]
                flooder = subprocess.Popen([sys.executable, *map(str, words)], stdout=subprocess.PIPE, text=True)
                time.sleep(BEFORE_S)  # what is measured is a flood that has gone on for a while
                figures = bystanders.turn(seconds=seconds)
                done = int(flooder.communicate(timeout=60)[0])
                return {**figures, "flooder/s": done / took}

    yield measure


SIDES = {"nobody": None, **{f"flooded by {kind}": kind for kind in KINDS}}

ROWS = (
    Row(
        name="flood",
        title="durable clicks of four clients and /healthz while one client floods the engine",
        ours={name: partial(flooded, kind) for name, kind in SIDES.items()},
        goals=tuple(
            Goal(side, f"{what} p99 ms", bound, at_most=True)
            for side in SIDES
            for what, bound in (("click", 100), ("healthz", 50))
        ),
        rounds=1,
        seconds=4.0,
        warm_up=False,
    ),
)
