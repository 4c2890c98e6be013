"""What the benchmarks share: one checkout of linkly beside another, by turns, and an engine as a process.

Every benchmark takes `--against PATH`: it then measures linkly of this checkout and linkly of the checkout at PATH
by turns, with the code of this one, and prints medians, spread and the ratio of both. Which of the two is first changes
with every round, so that what else the machine does weighs on both alike.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # a benchmark is run as a file: only its own folder is searched

from support.engine_process import COMMAND, EngineProcess

THIS = Path(__file__).parents[2]

Turn = Callable[[], Mapping[str, float]]
"""Measures one side once: figures by name, the unit in the name."""


def arguments(description: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--against", type=Path, metavar="PATH", help="compare with another checkout")
    parser.add_argument("--turn", action="store_true", help=argparse.SUPPRESS)
    return parser


def environment(checkout: Path) -> dict[str, str]:
    """Return the variables with which a program imports linkly of a checkout."""
    folders = [checkout.resolve() / part for part in ("sdk", "engine", "workers")]
    if not all(folder.is_dir() for folder in folders):
        raise SystemExit(f"{checkout} is no checkout of linkly")
    # Without compiled files every start compiles everything again; that is not what is measured.
    return {"PYTHONPATH": ":".join(map(str, folders)), "PYTHONDONTWRITEBYTECODE": ""}


def in_a_process(script: str, checkout: Path, *words: object) -> Mapping[str, float]:
    """Run one turn of a benchmark, `--turn`, in a process of its own with linkly of a checkout."""
    command = [sys.executable, script, "--turn", *map(str, words)]
    run = subprocess.run(
        ["env", *(f"{name}={value}" for name, value in environment(checkout).items()), *command],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    figures: dict[str, float] = json.loads(run.stdout)
    return figures


@contextlib.contextmanager
def engine(config: str, checkout: Path = THIS) -> Iterator[EngineProcess]:
    """Run an engine of a checkout in a folder of its own, until the block ends; then it is killed."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_text(config)
        process = EngineProcess(Path(folder), command=COMMAND, environment=environment(checkout))
        try:
            process.start()
            yield process
        finally:
            process.kill()


def by_turns(this: Turn, other: Turn, rounds: int) -> int:
    """Measure both as often as there are rounds, once more to warm up, and print what came out; return 0."""
    kept: tuple[list[Mapping[str, float]], list[Mapping[str, float]]] = ([], [])
    for number in range(rounds + 1):
        for which in (0, 1) if number % 2 else (1, 0):
            figures = (this, other)[which]()
            if number:
                kept[which].append(figures)
    print(f"{'':32} {'this checkout':>30} {'the other one':>30}   ratio (this / other)")
    for name in kept[0][0]:
        ours, theirs = ([figures[name] for figures in side] for side in kept)
        ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
        print(f"{name:32} {spread(ours):>30} {spread(theirs):>30}   {spread(ratios, digits=3)}")
    return 0


def spread(figures: list[float], *, digits: int | None = None) -> str:
    """Return median and spread as text: `1,234 [1,100..1,400]`."""
    middle = statistics.median(figures)
    places = digits if digits is not None else 0 if middle >= 1000 else 2
    return f"{middle:,.{places}f} [{min(figures):,.{places}f}..{max(figures):,.{places}f}]"


def percentiles(seconds: list[float]) -> dict[str, Any]:
    """Return p50 and p99 of latencies, in milliseconds."""
    ordered = sorted(seconds)
    return {"p50 ms": ordered[len(ordered) // 2] * 1e3, "p99 ms": ordered[len(ordered) * 99 // 100] * 1e3}
