"""Ten minutes of everything at the same time: memory stays flat, and no request waits long."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.bench.load import Load
from tests.bench.processes import engine, ours, resident_bytes
from tests.bench.row import Figures, Goal, Measure, OfRounds, Row
from tests.bench.rows.call import PAYLOAD_BYTES
from tests.bench.rows.redirect import CONFIG, Counted, add_link, in_file

SETTLED = 10
"""Of so many parts of the soak memory settles in the first: caches fill, pools get their size."""

STRETCHES = 3
"""Parts of the rest, each with a growth of its own: their spread says how sure a growth is."""

CALLS_IN_FLIGHT = 8


@contextmanager
def linkly(checkout: Path) -> Iterator[Measure]:
    """Open an engine under durable redirects, and calls from one worker to another."""
    with (
        engine(CONFIG, checkout) as running,
        ours("callee.py", checkout, running.url, "native", 1),
        ours("caller.py", checkout, running.url, "native", 1) as caller,
    ):
        add_link(running.http)
        exact = partial(in_file, running.folder / "data/iii.db")
        redirects = Counted("linkly", Load(running.http_port, "/s/a"), running.pid, exact)
        began = time.monotonic()

        def measure(seconds: float) -> Figures:
            calls: dict[str, float] = {}

            def call() -> None:
                turn = caller.turn(in_flight=CALLS_IN_FLIGHT, payload_bytes=PAYLOAD_BYTES, seconds=seconds)
                calls.update({"calls/s": turn["count"] / turn["seconds"], "call p99 ms": turn["p99 ms"]})

            calling = threading.Thread(target=call)
            calling.start()
            figures = dict(redirects(seconds))
            calling.join()
            memory = resident_bytes(running.pid) / 1e6
            return {**figures, **calls, "minutes": (time.monotonic() - began) / 60, "memory MB": memory}

        yield measure


def growth(figures: OfRounds) -> OfRounds:
    """Return memory at both ends, against what it had settled at, and by how much it grew in an hour.

    That is the slope of the line through each stretch; too short a soak has none.
    """
    memory = figures["memory MB"]
    settled = len(memory) // SETTLED
    told = {"first MB": [memory[0]], "last MB": [memory[-1]], "last / settled": [memory[-1] / memory[settled]]}
    turns = (len(memory) - settled) // STRETCHES
    if turns > 1:
        stretches = [slice(settled + turns * number, settled + turns * (number + 1)) for number in range(STRETCHES)]
        lines = [statistics.linear_regression(figures["minutes"][part], memory[part]) for part in stretches]
        told["MB/h"] = [line.slope * 60 for line in lines]
    return told


ROWS = (
    Row(
        name="soak",
        title="durable redirects over 64 connections and, beside them, calls from one worker to another, for `minutes`",
        ours={"linkly": linkly},
        goals=(
            Goal("linkly", "p99 / p50", 3, at_most=True),
            Goal("linkly", "last / settled", 1.1, at_most=True),
        ),
        rounds=60,
        seconds=10.0,
        warm_up=False,
        only_named=True,
        over_rounds=growth,
    ),
)
