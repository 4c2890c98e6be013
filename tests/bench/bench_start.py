"""What starting costs: a cold `linkly trigger`, an engine with the default config, and its memory when idle.

    python tests/bench/bench_start.py [--rounds 40] [--starts 7]

Starts `linkly` with the default config.yaml (its two ports changed to free ones) and asks /healthz until it answers,
some times over; then `python -c pass` and `linkly trigger state::get` by turns, so that what else the machine does
weighs on both alike; then reads the engine's resident memory. Prints medians, spread and the goals; exits with 1 when
one is missed.
"""

from __future__ import annotations

import argparse
import http.client
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GOAL_RATIO = 2.5
GOAL_HTTP_S = 1.0
GOAL_IDLE_MB = 60.0

DEFAULT_CONFIG = Path(__file__).parents[2] / "config.yaml"
GIVE_UP_S = 30.0


def timed(command: list[str], environment: dict[str, str]) -> float:
    """Run a command; return its wall time in seconds."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - started


def show(name: str, seconds: list[float], end: str = "") -> None:
    """Print median and spread in milliseconds."""
    low, high = statistics.quantiles(seconds, n=10)[0], statistics.quantiles(seconds, n=10)[-1]
    print(
        f"{name:32} median {statistics.median(seconds) * 1e3:7.1f} ms   "
        f"p10-p90 {low * 1e3:.1f}-{high * 1e3:.1f} ms{end}"
    )


def free_ports(count: int) -> list[int]:
    """Find ports nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def engine(linkly: str, folder: str, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run an engine with the default config in `folder`; yield it and its worker port when HTTP answers."""
    workers, gateway = free_ports(2)
    text = DEFAULT_CONFIG.read_text().replace("49134", str(workers)).replace("3111", str(gateway))
    (Path(folder) / "config.yaml").write_text(text)
    process = subprocess.Popen([linkly], cwd=folder, stderr=subprocess.DEVNULL, env=environment)
    try:
        wait_for_http(gateway)
        yield process, workers
    finally:
        process.terminate()
        process.wait()


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--starts", type=int, default=7)
    options = parser.parse_args()
    # Without compiled files every start compiles everything again; that is not what is measured.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    linkly = shutil.which("linkly", path=str(Path(sys.executable).parent))
    if linkly is None:
        print("there is no `linkly` beside this Python: pip install -e '.[dev]'", file=sys.stderr)
        return 2
    starts: list[float] = []
    for warm_up in (True, *[False] * options.starts):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            with engine(linkly, folder, environment):
                if not warm_up:
                    starts.append(time.perf_counter() - began)
    times: tuple[list[float], list[float]] = ([], [])
    with tempfile.TemporaryDirectory() as folder, engine(linkly, folder, environment) as (process, port):
        commands = (
            [sys.executable, "-c", "pass"],
            [linkly, "trigger", "--port", str(port), "state::get", "scope=a", "key=b"],
        )
        for warm_up in (True, *[False] * options.rounds):
            for command, taken in zip(commands, times, strict=True):
                seconds = timed(command, environment)
                if not warm_up:
                    taken.append(seconds)
        idle_mb = resident_mb(process.pid)
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
