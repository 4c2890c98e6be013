"""What starting costs: a cold `linkly trigger`, an engine with the default config, and its memory when idle."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.processes import environment, resident_bytes
from tests.bench.row import Figures, Goal, Measure, Row

from support.ports import reserved_port

COLD = 5
"""Cold commands of one turn."""

GIVE_UP_S = 30.0


def _linkly() -> str:
    found = shutil.which("linkly", path=str(Path(sys.executable).parent))
    if found is None:
        raise SystemExit("there is no `linkly` beside this Python: pip install -e '.[dev]'")
    return found


def _cold_ms(words: list[str], env: dict[str, str]) -> float:
    started = time.perf_counter()
    for _ in range(COLD):
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **env})
    return (time.perf_counter() - started) / COLD * 1e3


@contextmanager
def _default_engine(checkout: Path) -> Iterator[tuple[int, int]]:
    """Run the default config on free ports; yield process id and worker port when HTTP answers."""
    with tempfile.TemporaryDirectory() as folder, reserved_port() as workers, reserved_port() as gateway:
        text = (checkout / "config.yaml").read_text().replace("49134", str(workers)).replace("3111", str(gateway))
        (Path(folder) / "config.yaml").write_text(text)
        env = {**os.environ, **environment(checkout)}
        process = subprocess.Popen([_linkly()], cwd=folder, stderr=subprocess.DEVNULL, env=env)
        try:
            _wait_for_http(gateway)
            yield process.pid, workers
        finally:
            process.terminate()
            process.wait()


def _wait_for_http(port: int) -> None:
    """Ask until there is an answer: 5 ms between two attempts, so that asking costs the start little."""
    end = time.perf_counter() + GIVE_UP_S
    while time.perf_counter() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP_S)
        try:
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.005)  # a port that is not open yet tells nobody when it opens
        finally:
            connection.close()
    raise SystemExit("the engine did not answer")


@contextmanager
def linkly(checkout: Path) -> Iterator[Measure]:
    """Open an engine that is asked; a second one is started in every turn."""
    with _default_engine(checkout) as (process_id, port):
        cold = [_linkly(), "trigger", "--port", str(port), "state::get", "scope=a", "key=b"]

        def measure(_: float) -> Figures:
            began = time.perf_counter()
            with _default_engine(checkout):
                up_ms = (time.perf_counter() - began) * 1e3
            return {
                "cold command ms": _cold_ms(cold, environment(checkout)),
                "until HTTP answers ms": up_ms,
                "idle memory MB": resident_bytes(process_id) / 1e6,
            }

        yield measure


@contextmanager
def python() -> Iterator[Measure]:
    """Start Python and do nothing."""
    yield lambda _: {"cold command ms": _cold_ms([sys.executable, "-c", "pass"], {})}


ROWS = (
    Row(
        name="start",
        title="a cold `linkly trigger`, an engine with the default config until HTTP answers, its memory when idle",
        ours={"linkly": linkly},
        peers={"python -c pass": python},
        goals=(
            Goal("linkly", "cold command ms", 2.5, "python -c pass", at_most=True),
            Goal("linkly", "until HTTP answers ms", 1000, at_most=True),
            Goal("linkly", "idle memory MB", 60, at_most=True),
        ),
        rounds=7,
    ),
)
