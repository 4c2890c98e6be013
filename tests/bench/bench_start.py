"""What starting costs: a cold `linkly trigger`, an engine with the default config, and its memory when idle.

    python tests/bench/bench_start.py [--rounds 40] [--starts 7] [--against CHECKOUT]

Starts `linkly` with the default config.yaml (its two ports changed to free ones) and asks /healthz until it answers,
some times over; then `python -c pass` and `linkly trigger state::get` by turns, so that what else the machine does
weighs on both alike; then reads the engine's resident memory. Prints medians, spread and the goals; exits with 1 when
one is missed.
"""

from __future__ import annotations

import http.client
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import comparison

from support.ports import reserved_port

GOAL_RATIO = 2.5
GOAL_HTTP_S = 1.0
GOAL_IDLE_MB = 60.0

GIVE_UP_S = 30.0
TRIGGERS = 5
"""Cold triggers of one turn."""


def timed(command: list[str], checkout: Path) -> float:
    """Run a command with linkly of a checkout; return its wall time in seconds."""
    environment = {**os.environ, **comparison.environment(checkout)}
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - started


def show(name: str, seconds: list[float], end: str = "") -> None:
    """Print median and spread in milliseconds."""
    tenths = statistics.quantiles(seconds, n=10) if len(seconds) > 1 else seconds  # one figure has no spread
    print(
        f"{name:32} median {statistics.median(seconds) * 1e3:7.1f} ms   "
        f"p10-p90 {tenths[0] * 1e3:.1f}-{tenths[-1] * 1e3:.1f} ms{end}"
    )


@contextmanager
def engine(linkly: str, checkout: Path) -> Iterator[tuple[int, int]]:
    """Run an engine of a checkout with its default config; yield process id and worker port when HTTP answers."""
    with tempfile.TemporaryDirectory() as folder, reserved_port() as workers, reserved_port() as gateway:
        text = (checkout / "config.yaml").read_text().replace("49134", str(workers)).replace("3111", str(gateway))
        (Path(folder) / "config.yaml").write_text(text)
        environment = {**os.environ, **comparison.environment(checkout)}
        process = subprocess.Popen([linkly], cwd=folder, stderr=subprocess.DEVNULL, env=environment)
        try:
            wait_for_http(gateway)
            yield process.pid, workers
        finally:
            process.terminate()
            process.wait()


def start(linkly: str, checkout: Path) -> float:
    """Return the seconds until a new engine answers HTTP."""
    began = time.perf_counter()
    with engine(linkly, checkout):
        return time.perf_counter() - began


def trigger(linkly: str, port: int, checkout: Path) -> float:
    """Return the seconds that a cold `linkly trigger` takes."""
    return timed([linkly, "trigger", "--port", str(port), "state::get", "scope=a", "key=b"], checkout)


def compare(linkly: str, other: Path, rounds: int) -> int:
    """Compare this checkout with another one."""
    with engine(linkly, comparison.THIS) as ours, engine(linkly, other) as theirs:

        def turn(checkout: Path, running: tuple[int, int]) -> dict[str, float]:
            process_id, port = running
            triggers = [trigger(linkly, port, checkout) for _ in range(TRIGGERS)]
            return {
                "linkly trigger, ms": statistics.median(triggers) * 1e3,
                "linkly until HTTP answers, ms": start(linkly, checkout) * 1e3,
                "idle memory, MB": resident_mb(process_id),
            }

        return comparison.by_turns(lambda: turn(comparison.THIS, ours), lambda: turn(other, theirs), rounds)


def wait_for_http(port: int) -> None:
    """Ask until there is an answer: 5 ms between two attempts, so that asking costs the start little."""
    end = time.perf_counter() + GIVE_UP_S
    while time.perf_counter() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP_S)
        try:
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.005)
        finally:
            connection.close()
    raise SystemExit("the engine did not answer")


def resident_mb(process_id: int) -> float:
    """Return the resident memory of a process in MB (Linux)."""
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit("no VmRSS")


def main() -> int:
    """Run the benchmark."""
    parser = comparison.arguments(__doc__, rounds=40)
    parser.add_argument("--starts", type=int, default=7)
    options = parser.parse_args()
    linkly = shutil.which("linkly", path=str(Path(sys.executable).parent))
    if linkly is None:
        print("there is no `linkly` beside this Python: pip install -e '.[dev]'", file=sys.stderr)
        return 2
    if options.against is not None:
        return compare(linkly, options.against, options.rounds)
    starts = [start(linkly, comparison.THIS) for _ in range(options.starts + 1)][1:]  # the first one warms up
    times: tuple[list[float], list[float]] = ([], [])
    with engine(linkly, comparison.THIS) as (process_id, port):
        for number in range(options.rounds + 1):
            bare = timed([sys.executable, "-c", "pass"], comparison.THIS)
            ours = trigger(linkly, port, comparison.THIS)
            if number:  # the first round warms up
                times[0].append(bare)
                times[1].append(ours)
        idle_mb = resident_mb(process_id)
    ratio = statistics.median(ours / theirs for theirs, ours in zip(*times, strict=True))
    show("python -c pass", times[0])
    show("linkly trigger state::get", times[1])
    print(f"{'ratio':32} median {ratio:7.2f} x    goal: at most {GOAL_RATIO} x")
    show("linkly until HTTP answers", starts, f"   goal: at most {GOAL_HTTP_S * 1e3:.0f} ms")
    print(f"{'idle memory':32}        {idle_mb:7.1f} MB   goal: under {GOAL_IDLE_MB:.0f} MB")
    good = ratio <= GOAL_RATIO and statistics.median(starts) <= GOAL_HTTP_S and idle_mb < GOAL_IDLE_MB
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
