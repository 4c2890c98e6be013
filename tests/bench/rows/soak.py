"""Ten minutes of everything at the same time: memory stays flat, and no request waits long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.load import Load
from tests.bench.processes import engine, ours, resident_bytes
from tests.bench.row import Figures, Goal, Measure, Row
from tests.bench.rows.call import PAYLOAD_BYTES
from tests.bench.rows.redirect import CONFIG, Counted, add_link

SETTLED = 6
"""Turns after which memory is compared with what it was: caches are full, pools have their size."""

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
        redirects = Counted("linkly", Load(running.http_port, "/s/a"), running.pid, running.folder / "data/iii.db")
        memory: list[float] = []

        def measure(seconds: float) -> Figures:
            calls: dict[str, float] = {}

            def call() -> None:
                turn = caller.turn(in_flight=CALLS_IN_FLIGHT, payload_bytes=PAYLOAD_BYTES, seconds=seconds)
                calls.update({"calls/s": turn["count"] / turn["seconds"], "call p99 ms": turn["p99 ms"]})

            calling = threading.Thread(target=call)
            calling.start()
            figures = dict(redirects(seconds))
            calling.join()
            memory.append(resident_bytes(running.pid) / 1e6)
            settled = memory[min(SETTLED, len(memory)) - 1]
            return {**figures, **calls, "memory MB": memory[-1], "memory / a minute's": memory[-1] / settled}

        yield measure


ROWS = (
    Row(
        name="soak",
        title="ten minutes of durable redirects over 64 connections, and calls from one worker to another",
        ours={"linkly": linkly},
        goals=(
            Goal("linkly", "p99 / p50", 3, at_most=True),
            Goal("linkly", "memory / a minute's", 1.1, at_most=True),
        ),
        rounds=60,
        seconds=10.0,
        warm_up=False,
        only_named=True,
    ),
)
