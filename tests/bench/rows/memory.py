"""What an idle worker takes in the engine, and a key in the state."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.bench.processes import engine, ours, resident_bytes
from tests.bench.row import Figures, Goal, Measure, Missing, Row

CONFIG = "workers:\n  - name: iii-worker-manager\n    config: {port: 0}\n"
WORKERS, KEYS = 10_000, 1_000_000
DESCRIPTORS_BESIDE = 100
"""Files that an engine has open beside its connections."""


@contextmanager
def workers(kind: str, functions: int, checkout: Path, *, number: int = WORKERS) -> Iterator[Measure]:
    """Open what measures an engine without and with so many idle workers; each time a new one."""
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors < number + DESCRIPTORS_BESIDE:
        raise Missing(
            f"a process may open {descriptors} files, {number + DESCRIPTORS_BESIDE} are needed (`ulimit -Hn`)"
        )

    def measure(seconds: float) -> Figures:
        del seconds
        with engine(CONFIG, checkout) as running:
            before = resident_bytes(running.pid)
            with ours("idle_workers.py", checkout, running.url, kind, number, functions):
                return {"KiB/worker": (resident_bytes(running.pid) - before) / number / 1024}

    yield measure


@contextmanager
def state(checkout: Path, *, durable: bool, number: int = KEYS) -> Iterator[Measure]:
    """Open what measures the state without and with so many keys; each time a new one."""

    def measure(seconds: float) -> Figures:
        del seconds
        with (
            tempfile.TemporaryDirectory() as folder,
            ours("state_keys.py", checkout, folder if durable else "memory") as program,
        ):
            return program.turn(keys=number)

    yield measure


ROWS = (
    Row(
        name="memory",
        title=f"what each of {WORKERS:,} idle workers takes in the engine, and each of {KEYS:,} keys of 117 bytes",
        ours={
            "JSON": partial(workers, "json", 0),
            "native": partial(workers, "native", 0),
            "JSON, 1 function": partial(workers, "json", 1),
            "native, 1 function": partial(workers, "native", 1),
            "state in memory": partial(state, durable=False),
            "state in a file": partial(state, durable=True),
        },
        goals=(
            Goal("JSON", "KiB/worker", 24, at_most=True),
            Goal("native", "KiB/worker", 8, at_most=True),
            Goal("state in memory", "bytes/key", 300, at_most=True),
        ),
        rounds=1,
        warm_up=False,
    ),
)
