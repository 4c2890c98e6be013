"""What was measured, for people: a table of each row, its ratios and goals, and the machine."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.processes import THIS
from tests.bench.rounds import Result
from tests.bench.row import Goal


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    model = next(
        (line.partition(":")[2].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),  # noqa: SIM115
        platform.machine(),
    )
    return {
        "commit": _said("git", "-C", str(THIS), "describe", "--always", "--dirty"),
        "processor": f"{os.cpu_count()} x {model}",
        "system": f"{platform.system()} {platform.release()}",
        "interpreter": _interpreter(),
        "node": _said("node", "--version"),
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def _interpreter() -> str:
    """Return version and origin: builds of one version differ by a tenth, and cannot tell how they were optimised."""
    version = f"{platform.python_implementation()} {platform.python_version()}"
    origin = Path(sys.base_prefix)
    if origin.is_relative_to(Path.home()):
        origin = "~" / origin.relative_to(Path.home())
    return f"{version} in {origin}"


def _said(*words: str) -> str:
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip() or "none"
    except OSError:
        return "none"


def spread(figures: Sequence[float]) -> str:
    """Return median and spread as text: `1,234 [1,100..1,400]`."""
    middle, low, high = statistics.median(figures), min(figures), max(figures)
    return number(middle) if len(figures) == 1 else f"{number(middle)} [{number(low)}..{number(high)}]"


def number(figure: float) -> str:
    """Return a figure with three or more digits that mean something."""
    places = 0 if abs(figure) >= 1000 else 1 if abs(figure) >= 100 else 2 if abs(figure) >= 1 else 3
    return f"{figure:,.{places}f}"


def lines(result: Result) -> list[str]:
    """Return the table of one row."""
    written = [f"== {result.row}: {result.title}"]
    names = list(dict.fromkeys(figure for figures in result.figures.values() for figure in figures))
    cells = [["", *names]]
    cells += [
        [side, *(spread(figures[name]) if name in figures else "" for name in names)]
        for side, figures in result.figures.items()
    ]
    for side, peer in result.pairs:
        shared = [name for name in names if name in result.figures[side] and name in result.figures[peer]]
        ratios = {name: spread(result.ratios(side, peer, name)) for name in shared}
        cells.append([f"{side} / {peer}", *(ratios.get(name, "") for name in names)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        name, *values = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        written.append("  ".join([name, *(value.strip().rjust(len(value)) for value in values)]).rstrip())
    written += [f"HTTP load: {result.client}"] if result.client else []
    written += [f"{side}: skipped, {reason}" for side, reason in result.skipped.items()]
    written += [told(goal, result.reached(goal)) for goal in result.goals]
    return written


def told(goal: Goal, reached: float | None) -> str:
    """Return a goal and whether it is met."""
    bound = f"{'at most' if goal.at_most else 'at least'} {number(goal.bound)}"
    what = f"{goal.side}, {goal.figure}" + (f" / {goal.peer}" if goal.peer else "")
    if reached is None:
        return f"goal: {what} {bound}: not measured"
    met = reached <= goal.bound if goal.at_most else reached >= goal.bound
    return f"goal: {what} {bound}: {number(reached)}, {'met' if met else 'missed'}"
