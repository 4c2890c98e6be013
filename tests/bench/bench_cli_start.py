"""What a cold `linkly trigger` costs beside starting Python and nothing else.

    python tests/bench/bench_cli_start.py [--rounds 40]

Starts an engine on a free port, then runs `python -c pass` and `linkly trigger state::get` by turns, so that what
else the machine does weighs on both alike. Prints medians, spread and their ratio; exits with 1 when the ratio is above
the goal.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOAL = 2.5

CONFIG = """
workers:
  - name: iii-worker-manager
    config: {port: 0}
  - name: state
"""


def timed(command: list[str], environment: dict[str, str]) -> float:
    """Run a command; return its wall time in seconds."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - started


def show(name: str, seconds: list[float]) -> None:
    """Print median and spread in milliseconds."""
    low, high = statistics.quantiles(seconds, n=10)[0], statistics.quantiles(seconds, n=10)[-1]
    print(f"{name:32} median {statistics.median(seconds) * 1e3:7.1f} ms   p10-p90 {low * 1e3:.1f}-{high * 1e3:.1f} ms")


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    rounds: int = parser.parse_args().rounds
    # Without compiled files every start compiles everything again; that is not what is measured.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    linkly = shutil.which("linkly", path=str(Path(sys.executable).parent))
    if linkly is None:
        print("there is no `linkly` beside this Python: pip install -e '.[dev]'", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_text(CONFIG)
        engine = subprocess.Popen([linkly], cwd=folder, stderr=subprocess.PIPE, text=True, env=environment)
        try:
            port = listening_port(engine)
            bare = [sys.executable, "-c", "pass"]
            trigger = [linkly, "trigger", "--port", port, "state::get", "scope=a", "key=b"]
            times: tuple[list[float], list[float]] = ([], [])
            for warm_up in (True, *[False] * rounds):
                for command, taken in zip((bare, trigger), times, strict=True):
                    seconds = timed(command, environment)
                    if not warm_up:
                        taken.append(seconds)
        finally:
            engine.terminate()
            engine.communicate()
    show("python -c pass", times[0])
    show("linkly trigger state::get", times[1])
    ratios = [ours / theirs for theirs, ours in zip(*times, strict=True)]
    ratio = statistics.median(ratios)
    print(f"{'ratio':32} median {ratio:7.2f} x    goal: at most {GOAL} x")
    return 0 if ratio <= GOAL else 1


def listening_port(engine: subprocess.Popen[str]) -> str:
    """Read the worker port from what the engine says at its start."""
    assert engine.stderr is not None
    for line in engine.stderr:
        if "ws://" in line:
            return line.split("ws://", 1)[1].split()[0].rstrip("/").rpartition(":")[2]
    raise SystemExit("the engine did not start")


if __name__ == "__main__":
    sys.exit(main())
