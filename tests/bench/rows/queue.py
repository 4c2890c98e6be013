"""Durable work beside Celery and Dramatiq on a Redis that is as durable: each write is on disk before its answer."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench import peers
from tests.bench.processes import Measured, cpu_s, engine, ours
from tests.bench.row import Figures, Goal, Measure, Missing, Row

from support.engine_process import EngineProcess
from support.ports import reserved_port
from support.program import Program

CONFIG = """workers:
  - name: iii-worker-manager
    config: {port: 0}
  - name: database
  - name: queue
    config:
      queue_configs:
        default: {concurrency: 16, max_jobs: 10000000, max_bytes: 100000000000}
"""
CALLERS = 64
PRELOADED_A_SECOND = 20_000
"""Jobs that wait before a turn begins, for each of its seconds: more than are done in it."""
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
BATCH, PRELOAD_S = 500, 600.0
WAIT_S = 60.0


# --- enqueues ----------------------------------------------------------------------------------------------


@contextmanager
def linkly_enqueues(connections: int, checkout: Path) -> Iterator[Measure]:
    """Open an engine and callers that enqueue; nobody serves the function."""
    with (
        engine(CONFIG, checkout) as running,
        ours("enqueuer.py", checkout, running.url, "native", CALLERS, connections) as program,
    ):

        def measure(seconds: float) -> Figures:
            own, between = cpu_s(program.pid), cpu_s(running.pid)
            figures = program.turn(seconds=seconds)
            own, between = cpu_s(program.pid) - own, cpu_s(running.pid) - between
            return _rate(figures, "enqueues/s", {"client us": own, "engine us": between})

        yield measure


@contextmanager
def redis(*settings: str) -> Iterator[tuple[str, Program]]:
    """Run a Redis; yield its url and its process."""
    path = shutil.which("redis-server")
    if path is None:
        raise Missing("there is no redis-server")
    with reserved_port() as port, tempfile.TemporaryDirectory() as folder:
        words = [path, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, *settings]
        server = Program(words)
        try:
            server.until("Ready to accept connections")
            yield f"redis://127.0.0.1:{port}/0", server
        finally:
            server.kill()


@contextmanager
def peer_enqueues(start: Callable[[str], AbstractContextManager[Measured]], *settings: str) -> Iterator[Measure]:
    """Open a Redis and threads that enqueue."""
    with redis(*settings) as (url, server), start(url) as program:

        def measure(seconds: float) -> Figures:
            own, between = cpu_s(program.pid), cpu_s(server.process.pid)
            figures = program.turn(threads=CALLERS, seconds=seconds)
            own, between = cpu_s(program.pid) - own, cpu_s(server.process.pid) - between
            return _rate(figures, "enqueues/s", {"client us": own, "server us": between})

        yield measure


def _rate(figures: dict[str, float], name: str, costs: dict[str, float]) -> Figures:
    count, took = figures.pop("count"), figures.pop("seconds")
    return {name: count / took, **figures, **{cost: value / count * 1e6 for cost, value in costs.items()}}


def celery(url: str) -> AbstractContextManager[Measured]:
    """Start what enqueues on Celery."""
    return peers.python("celery_enqueue.py", url)


def dramatiq(url: str) -> AbstractContextManager[Measured]:
    """Start what enqueues on Dramatiq."""
    os.environ["BENCH_REDIS"] = url
    return peers.python("dramatiq_jobs.py")


@contextmanager
def linkly_waits(checkout: Path) -> Iterator[Measure]:
    """Open an engine and a program that enqueues jobs and runs them."""
    with (
        engine(CONFIG, checkout) as running,
        ours("job_latency.py", checkout, running.url, "native") as program,
    ):
        yield lambda seconds: program.turn(seconds=seconds)


# --- jobs --------------------------------------------------------------------------------------------------


@contextmanager
def linkly_jobs(checkout: Path) -> Iterator[Measure]:
    """Open an engine; jobs wait in it, and a worker in a process of its own runs them."""
    with (
        engine(CONFIG, checkout) as running,
        ours("enqueuer.py", checkout, running.url, "native", CALLERS, 1) as program,
    ):

        def done() -> int:
            sql = "sql=SELECT COALESCE(SUM(done), 0) AS n FROM linkly_queue_counts"
            return int(_number(running, sql))

        def measure(seconds: float) -> Figures:
            _preload(program, int(PRELOADED_A_SECOND * seconds))
            with ours("jobs_worker.py", checkout, running.url, "native") as worker:
                return _while_jobs_run(done, seconds, {"engine us": running.pid, "worker us": worker.pid})

        yield measure


def _preload(program: Measured, count: int) -> None:
    program.turn(calls=count // BATCH, batch=BATCH, seconds=PRELOAD_S)


def _number(running: EngineProcess, sql: str) -> Any:
    ran = running.trigger("database::query", sql)
    return ran.stdout.rpartition('"n": ')[2].split("}")[0].split(",")[0].strip()


@contextmanager
def dramatiq_jobs(*settings: str) -> Iterator[Measure]:
    """Open a Redis; messages wait in it, and Dramatiq's worker, as it is by default, runs them."""
    with redis(*settings) as (url, server), dramatiq(url) as program:
        host, port = url.removeprefix("redis://").removesuffix("/0").split(":")

        def left() -> int:
            return _ask_redis(host, int(port), "HLEN", "dramatiq:default.msgs")

        def measure(seconds: float) -> Figures:
            program.turn(threads=CALLERS, calls=int(PRELOADED_A_SECOND * seconds))
            waiting = left()
            words = [str(peers.python_folder() / "bin" / "dramatiq"), "dramatiq_jobs"]
            folders = os.pathsep.join([str(Path(__file__).parents[1] / each) for each in ("peers", "programs")])
            worker = Program(words, environment={"PYTHONPATH": folders, "BENCH_REDIS": url})
            try:
                pids = {"server us": server.process.pid, "worker us": worker.process.pid}
                return _while_jobs_run(lambda: waiting - left(), seconds, pids)
            finally:
                worker.kill()

        yield measure


def _ask_redis(host: str, port: int, *words: str) -> int:
    with socket.create_connection((host, port)) as connection:
        asked = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        connection.sendall(f"*{len(words)}\r\n{asked}".encode())
        return int(connection.recv(64).strip().lstrip(b":"))


def _while_jobs_run(done: Callable[[], int], seconds: float, pids: dict[str, int]) -> Figures:
    """Measure from the first job that is done."""
    before, late = done(), time.monotonic() + WAIT_S
    while done() == before:
        if time.monotonic() > late:
            raise SystemExit("no job was done")
        time.sleep(0.02)  # neither side tells when its first job is done
    began, costs, first = time.monotonic(), {name: cpu_s(pid) for name, pid in pids.items()}, done()
    time.sleep(seconds)  # so long is a turn; the programs work by themselves
    count, took = done() - first, time.monotonic() - began
    costs = {name: (cpu_s(pid) - costs[name]) / count * 1e6 for name, pid in pids.items()}
    return {"jobs/s": count / took, **costs}


@contextmanager
def linkly_million(checkout: Path) -> Iterator[Measure]:
    """Open an engine and let many jobs through it, of which few are kept; `seconds` is not asked."""
    kept = CONFIG.replace("{concurrency", "{keep_done: 1000, concurrency")
    with (
        engine(kept, checkout) as running,
        ours("enqueuer.py", checkout, running.url, "native", CALLERS, 1) as program,
    ):

        def done() -> int:
            return int(_number(running, "sql=SELECT COALESCE(SUM(done), 0) AS n FROM linkly_queue_counts"))

        def measure(_: float) -> Figures:
            _preload(program, MILLION)
            waiting = _data_bytes(running)
            rates: list[float] = []
            with ours("jobs_worker.py", checkout, running.url, "native"):
                began, before = time.monotonic(), done()
                while before < MILLION:
                    while (now := done()) < min(before + MILLION // 10, MILLION):
                        time.sleep(1.0)  # asking for the count is work for what is measured
                    rates.append((now - before) / (time.monotonic() - began))
                    began, before = time.monotonic(), now
            return {
                "jobs/s, first tenth": rates[0],
                "jobs/s, last tenth": rates[-1],
                "last / first": rates[-1] / rates[0],
                "MB with all waiting": waiting / 1e6,
                "MB at the end": _data_bytes(running) / 1e6,
            }

        yield measure


def _data_bytes(running: EngineProcess) -> int:
    return sum(file.stat().st_size for file in (running.folder / "data").iterdir())


LINKLY = "linkly"
MILLION = 1_000_000
CELERY, DRAMATIQ = "Celery, as durable", "Dramatiq, as durable"

ROWS = (
    Row(
        name="enqueue",
        title=f"durable enqueues by {CALLERS} callers in a process, each on disk before its answer",
        ours={LINKLY: partial(linkly_enqueues, 1), "linkly, a connection each": partial(linkly_enqueues, CALLERS)},
        peers={
            CELERY: partial(peer_enqueues, celery, *DURABLE),
            DRAMATIQ: partial(peer_enqueues, dramatiq, *DURABLE),
            "Celery, Redis' default": partial(peer_enqueues, celery),
            "Dramatiq, Redis' default": partial(peer_enqueues, dramatiq),
        },
        goals=(Goal(LINKLY, "enqueues/s", 5, CELERY), Goal(LINKLY, "enqueues/s", 2, DRAMATIQ)),
    ),
    Row(
        name="jobs",
        title="durable jobs that do nothing, done by a worker in a process of its own",
        ours={LINKLY: linkly_jobs},
        peers={DRAMATIQ: partial(dramatiq_jobs, *DURABLE), "Dramatiq, Redis' default": dramatiq_jobs},
        goals=(Goal(LINKLY, "jobs/s", 2, DRAMATIQ),),
        rounds=3,
    ),
    Row(
        name="job-wait",
        title="from the enqueue of a durable job to its function, at half of saturation",
        ours={LINKLY: linkly_waits},
        goals=(Goal(LINKLY, "p50 ms", 5, at_most=True),),
        seconds=6.0,
    ),
    Row(
        name="million",
        title="10^6 jobs through a queue, all waiting at first",
        ours={LINKLY: linkly_million},
        goals=(Goal(LINKLY, "last / first", 0.8),),
        rounds=1,
        warm_up=False,
        only_named=True,
    ),
)
