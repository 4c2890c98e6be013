"""How cost grows: a row measured again and again, with more connections, routes, functions, links, clicks or bytes."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench import peers
from tests.bench.load import Load
from tests.bench.processes import PROGRAMS, engine
from tests.bench.row import Figures, Measure, Row
from tests.bench.rows import call, redirect
from tests.bench.rows.redirect import FASTAPI, FULL, Setting

ROUNDS, SECONDS = 3, 2.0
KIB, MIB = 1024, 1024 * 1024
LINKS = 1000
"""Links which share the clicks."""

PAYLOADS_IN_FLIGHT = 2
"""Calls under way with payloads of up to 16 MiB; a connection that has more than that to send refuses calls."""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """A row at several points.

    Attributes:
        name: For the command line.
        title: What is done.
        axis: What grows.
        points: How far.
        row_at: Returns the row at a point.
        plotted: The figures that are drawn.
    """

    name: str
    title: str
    axis: str
    points: tuple[int, ...]
    row_at: Callable[[int], Row]
    plotted: tuple[str, ...]


def _redirects(name: str, setting: Setting) -> Row:
    return Row(
        name=name,
        title="a durable redirect",
        ours={"linkly": partial(redirect.linkly, setting=setting)},
        peers={side: partial(redirect.by_hand, side, redirect.COUNTED[side], setting) for side in (FASTAPI, FULL)},
        rounds=ROUNDS,
        seconds=SECONDS,
    )


def _connections(point: int) -> Row:
    return _redirects(f"{point} connections", Setting(connections=point))


def _links(point: int) -> Row:
    return _redirects(f"{point} links", Setting(links=point))


def _clicks(point: int) -> Row:
    setting = Setting(links=LINKS, clicks=point)

    @contextmanager
    def with_stats(checkout: Path) -> Iterator[Measure]:
        with redirect.linkly(checkout, setting) as measure:

            def both(seconds: float) -> Figures:
                figures = measure(seconds)
                began = time.perf_counter()
                url = f"http://127.0.0.1:{measure.port}/links/l{0:07}/stats"
                urllib.request.urlopen(url, timeout=30).close()
                return {**figures, "stats ms": (time.perf_counter() - began) * 1e3}

            yield both

    return Row(
        name=f"{point} clicks",
        title="a durable redirect, and the statistics of one link",
        ours={"linkly": with_stats},
        peers={FULL: partial(redirect.by_hand, FULL, redirect.COUNTED[FULL], setting)},
        rounds=ROUNDS,
        seconds=SECONDS,
    )


def _routes(point: int) -> Row:
    config = f"{redirect.CONFIG}  - module: many_routes:ManyRoutes\n"

    def load(port: int) -> Load:
        return Load(port, "/r/", many=point, suffix="/ann")

    @contextmanager
    def linkly(checkout: Path) -> Iterator[Measure]:
        routes = {"BENCH_ROUTES": str(point)}
        with engine(config, checkout, PROGRAMS / "many_routes.py", env=routes) as running:
            load(running.http_port).check(200)
            yield lambda seconds: load(running.http_port).put(running.pid, seconds)[1]

    @contextmanager
    def peer(start: Callable[..., redirect.Started], program: str) -> Iterator[Measure]:
        with start(program, point) as server:
            port = int(server.hello["port"])  # type: ignore[call-overload]
            load(port).check(200)
            yield lambda seconds: load(port).put(server.pid, seconds)[1]

    return Row(
        name=f"{point} routes",
        title="GET of a random route with a parameter",
        ours={"linkly": linkly},
        peers={
            "Starlette": partial(peer, peers.python, "starlette_routes.py"),
            "Fastify": partial(peer, peers.node, "fastify_routes.cjs"),
        },
        rounds=ROUNDS,
        seconds=SECONDS,
    )


def _functions(point: int) -> Row:
    return Row(
        name=f"{point} functions",
        title="a native call of one of many functions in turn, 64 in flight",
        ours={
            f"linkly {kind}": partial(call.linkly, kind, call.IN_FLIGHT, functions=point) for kind in ("native", "json")
        },
        rounds=ROUNDS,
        seconds=SECONDS,
    )


def _payload(point: int) -> Row:
    return Row(
        name=f"{point} bytes",
        title=f"a call whose payload comes back, {PAYLOADS_IN_FLIGHT} in flight",
        ours={
            f"linkly {kind}": partial(call.linkly, kind, PAYLOADS_IN_FLIGHT, payload_bytes=point)
            for kind in ("native", "json")
        },
        peers={call.NATS: partial(call.over_nats, *call.NATS_PY, PAYLOADS_IN_FLIGHT, payload_bytes=point)},
        rounds=ROUNDS,
        seconds=SECONDS,
    )


GROWTHS = {
    growth.name: growth
    for growth in (
        Growth(
            name="growth-connections",
            title="Durable redirects",
            axis="connections",
            points=(1, 4, 16, 64, 256, 512),
            row_at=_connections,
            plotted=("requests/s", "p99 ms", "CPU us"),
        ),
        Growth(
            name="growth-routes",
            title="GET of a random route with a parameter, 64 connections",
            axis="routes",
            points=(10, 100, 1000, 10_000),
            row_at=_routes,
            plotted=("CPU us",),
        ),
        Growth(
            name="growth-functions",
            title="Calls of one of many functions, 64 in flight",
            axis="functions",
            points=(10, 100, 1000, 10_000),  # a connection owns at most so many
            row_at=_functions,
            plotted=("engine us",),
        ),
        Growth(
            name="growth-links",
            title="Durable redirects by a random one of many links, 64 connections",
            axis="links",
            points=(1000, 10_000, 100_000, 1_000_000, 10_000_000),
            row_at=_links,
            plotted=("requests/s", "CPU us"),
        ),
        Growth(
            name="growth-clicks",
            title=f"Durable redirects by {LINKS:,} links that have clicks already, 64 connections",
            axis="clicks",
            points=(1000, 10_000, 100_000, 1_000_000, 10_000_000),
            row_at=_clicks,
            plotted=("CPU us", "stats ms"),
        ),
        Growth(
            name="growth-payload",
            title=f"Calls whose payload comes back, {PAYLOADS_IN_FLIGHT} in flight",
            axis="bytes of payload",
            points=(100, KIB, 16 * KIB, 128 * KIB, MIB, 4 * MIB, 16 * MIB),
            row_at=_payload,
            plotted=("calls/s", "engine us"),
        ),
    )
}
"""By name."""
