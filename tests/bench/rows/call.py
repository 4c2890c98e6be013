"""Calls from one process to another: linkly's client natively and over JSON, NATS, Moleculer, and iii's own SDKs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from tests.bench import peers
from tests.bench.processes import Measured, cpu_s, engine, ours
from tests.bench.row import Figures, Goal, Measure, Row

from support.program import Program

CONFIG = "workers:\n  - name: iii-worker-manager\n    config: {port: 0}\n"
IN_FLIGHT = 64
PAYLOAD_BYTES = 100
START_S = 30.0


@contextmanager
def linkly(
    kind: str, in_flight: int, checkout: Path, *, functions: int = 1, payload_bytes: int = PAYLOAD_BYTES
) -> Iterator[Measure]:
    """Open an engine of a checkout between two clients of it."""
    with (
        engine(CONFIG, checkout) as running,
        ours("callee.py", checkout, running.url, kind, functions) as callee,
        ours("caller.py", checkout, running.url, kind, functions) as caller,
    ):
        yield _calls(caller, running.pid, callee.pid, in_flight, payload_bytes)


@contextmanager
def over_nats(
    start: Callable[..., AbstractContextManager[Measured]],
    programs: tuple[str, str],
    in_flight: int,
    *,
    payload_bytes: int = PAYLOAD_BYTES,
) -> Iterator[Measure]:
    """Open a NATS server between two programs."""
    callee_program, caller_program = programs
    with (
        nats() as (url, server),
        start(callee_program, url) as callee,
        start(caller_program, url) as caller,
    ):
        yield _calls(caller, server, callee.pid, in_flight, payload_bytes)


@contextmanager
def nats() -> Iterator[tuple[str, int]]:
    """Run a NATS server; yield its URL and process id."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nats.conf"
        config.write_text("max_payload: 64MB\n")  # linkly's own limit, where NATS' is 1 MB by default
        server = Program([peers.nats_server(), "--addr", "127.0.0.1", "--port", "-1", "--config", str(config)])
        try:
            said = server.until("Listening for client connections on")
            server.until("Server is ready")
            yield f"nats://{said.rpartition(' ')[2]}", server.process.pid
        finally:
            server.kill()


@contextmanager
def iii(
    start: Callable[..., AbstractContextManager[Measured]], programs: tuple[str, str], checkout: Path
) -> Iterator[Measure]:
    """Open an engine of a checkout between two workers on iii's own SDK."""
    callee_program, caller_program = programs
    with (
        engine(CONFIG, checkout) as running,
        start(callee_program, running.url) as callee,
    ):
        end = time.monotonic() + START_S
        while running.trigger("bench::echo0", "text=ready").returncode and time.monotonic() < end:
            pass  # iii's SDK connects in the background, and does not say when it has
        with start(caller_program, running.url) as caller:
            measure = _calls(caller, running.pid, callee.pid, IN_FLIGHT, PAYLOAD_BYTES)

            def with_share(seconds: float) -> Figures:
                figures = measure(seconds)
                all_us = sum(figures[name] for name in ("caller us", "engine us", "callee us"))
                return {**figures, "engine's share %": figures["engine us"] / all_us * 100}

            yield with_share


def _calls(caller: Measured, between: int, callee: int, in_flight: int, payload_bytes: int) -> Measure:
    def cpu() -> Mapping[str, float]:
        return {"caller us": cpu_s(caller.pid), "engine us": cpu_s(between), "callee us": cpu_s(callee)}

    def measure(seconds: float) -> Figures:
        before = cpu()
        figures = caller.turn(in_flight=in_flight, payload_bytes=payload_bytes, seconds=seconds)
        after = cpu()
        count, took = figures.pop("count"), figures.pop("seconds")
        costs = {name: (after[name] - before[name]) / count * 1e6 for name in before}
        return {"calls/s": count / took, **figures, **costs}

    return measure


NATS, MOLECULER = "nats-py on uvloop", "Moleculer over NATS"
NATS_PY: tuple[Callable[..., AbstractContextManager[Measured]], tuple[str, str]] = (
    peers.python,
    ("nats_callee.py", "nats_caller.py"),
)
MOLECULER_NATS: tuple[Callable[..., AbstractContextManager[Measured]], tuple[str, str]] = (
    peers.node,
    ("moleculer_callee.cjs", "moleculer_caller.cjs"),
)

ROWS = (
    Row(
        name="call",
        title="a call from one process to another, 100 B, 64 in flight, linkly's client natively",
        ours={"linkly native": partial(linkly, "native", IN_FLIGHT)},
        peers={
            NATS: partial(over_nats, *NATS_PY, IN_FLIGHT),
            MOLECULER: partial(over_nats, *MOLECULER_NATS, IN_FLIGHT),
        },
        goals=(
            Goal("linkly native", "calls/s", 3, NATS),
            Goal("linkly native", "calls/s", 2, MOLECULER),
            Goal("linkly native", "caller us", 6, at_most=True),
            Goal("linkly native", "engine us", 5, at_most=True),
            Goal("linkly native", "callee us", 7, at_most=True),
        ),
    ),
    Row(
        name="call-json",
        title="the same over JSON on a WebSocket",
        ours={"linkly JSON": partial(linkly, "json", IN_FLIGHT)},
        peers={NATS: partial(over_nats, *NATS_PY, IN_FLIGHT)},
        goals=(Goal("linkly JSON", "calls/s", 1.6, NATS),),
    ),
    Row(
        name="latency",
        title="a call from one process to another, 100 B, one in flight",
        ours={
            "linkly native": partial(linkly, "native", 1),
            "linkly JSON": partial(linkly, "json", 1),
        },
        peers={NATS: partial(over_nats, *NATS_PY, 1)},
        goals=(
            Goal("linkly native", "p50 ms", 0.6, NATS, at_most=True),
            Goal("linkly JSON", "p50 ms", 0.75, NATS, at_most=True),
        ),
    ),
    Row(
        name="iii",
        title="workers on iii's published SDKs, 100 B, 64 in flight: the engine's share of a call's processor time",
        ours={
            "iii-sdk 0.25.0, Python": partial(iii, peers.python, ("iii_callee.py", "iii_caller.py")),
            "iii-sdk 0.22.1, Node": partial(iii, peers.node, ("iii_callee.cjs", "iii_caller.cjs")),
        },
        goals=(
            Goal("iii-sdk 0.25.0, Python", "engine's share %", 15, at_most=True),
            Goal("iii-sdk 0.22.1, Node", "engine's share %", 20, at_most=True),
        ),
    ),
)
