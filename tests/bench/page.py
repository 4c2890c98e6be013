"""Writes docs/performance.md, what stands below its mark, and its plots from a file with what was measured.

The same file makes the same bytes. A second file, of an optimised build of Python, adds its table of goals.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench import peers
from tests.bench.processes import THIS
from tests.bench.report import number, spread
from tests.bench.row import Missing

PAGE = THIS / "docs" / "performance.md"
MARK = "<!-- Below: written by `python -m tests.bench --page FILE`. -->"


def write(measured: dict[str, Any], optimised: dict[str, Any] | None = None, *, page: Path = PAGE) -> None:
    """Write the tables and the plots of everything that a file of `--json` holds; goals of a second one as well."""
    plots = {name: _plots(name, each, page) for name, each in measured.items() if "points" in each}
    page.write_text(f"{page.read_text().partition(MARK)[0]}{MARK}\n{tables(measured, plots, optimised)}")


def tables(measured: dict[str, Any], plots: dict[str, str], optimised: dict[str, Any] | None = None) -> str:
    """Return goals, growth and rows as Markdown."""
    rows = [each for each in measured.values() if "row" in each]
    text = "\n".join(
        [
            "",
            *_machine(next(iter(measured.values()))["machine"]),
            "",
            *_goals(rows),
            "",
            "In bold: the goal is met.",
            "",
        ]
    )
    if optimised:
        text += "\n".join(["", *_with_optimised(measured, optimised), ""])
    for name, plot in plots.items():
        each = measured[name]
        text += f"\n## {each['title']}\n\n{plot}\n" + "\n".join(_growth(each)) + "\n"
    text += "\n## Every row\n"
    for row in rows:
        text += f"\n### {row['row']}\n\n" + "\n".join(_row(row)) + "\n"
    return text


def _machine(machine: dict[str, str]) -> Iterator[str]:
    told = "; ".join(f"{name}: {value}" for name, value in machine.items() if name not in ("load", "commit"))
    yield f"Measured with {told}. Commit and load (processes, last minute) stand beside each row."


def _when(measured: dict[str, Any]) -> str:
    machine = measured["machine"]
    clients = {row.get("client") for row in measured.get("points", {"": measured}).values()} - {None, ""}
    by = "".join(f", HTTP load from {client}" for client in sorted(clients))
    return f"Commit {machine['commit']}, load {machine['load'].split()[0]}{by}."


def _with_optimised(measured: dict[str, Any], optimised: dict[str, Any]) -> Iterator[str]:
    """Yield the goals once more, as an optimised build of Python reaches them."""
    (plain, _), (build, commits) = _origin(measured), _origin(optimised)
    yield "## The same with an optimised build of Python"
    yield ""
    yield (
        f"Everything else on this page is measured with {plain}, a build without profile-guided and link-time "
        f"optimisation, as pyenv makes it. Debian's, Docker's and uv's Python has both. With {build}, which has "
        f"them, for linkly and for every peer in Python (commit {commits}):"
    )
    yield ""
    yield from _goals([each for each in optimised.values() if "row" in each])


def _origin(measured: dict[str, Any]) -> tuple[str, str]:
    """Return interpreters and commits of everything in a file."""
    machines = [each["machine"] for each in measured.values()]
    interpreters, commits = (dict.fromkeys(machine[name] for machine in machines) for name in ("interpreter", "commit"))
    return " and ".join(interpreters), ", ".join(commits)


def _goals(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the table of goals: a figure of linkly, that of a peer, their ratio."""
    yield "| Row | Figure | linkly | Beside | Ratio | Goal |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        for goal in row["goals"]:
            if goal["reached"] is None or row["row"] == "flood":  # the row's own table says as much
                continue
            side, peer, figure = goal["side"], goal["peer"], goal["figure"]
            met = goal["reached"] <= goal["bound"] if goal["at_most"] else goal["reached"] >= goal["bound"]
            cells = [spread(row["figures"][side][figure]), "", ""]
            if peer is not None:
                ours, theirs = row["figures"][side][figure], row["figures"][peer][figure]
                ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
                cells = [cells[0], f"{peer}: {spread(theirs)}", f"{spread(ratios)}"]
            decisive = 0 if peer is None else 2
            cells[decisive] = f"**{cells[decisive]}**" if met else cells[decisive]
            bound = f"{'≤' if goal['at_most'] else '≥'} {number(goal['bound'])}{'' if peer is None else 'x'}"
            name = figure if side == "linkly" else f"{side}: {figure}"
            yield f"| {row['row']} | {name} | {' | '.join(cells)} | {bound} |"


def _row(row: dict[str, Any]) -> Iterator[str]:
    """Yield the table of one row: medians, with the smallest and largest of the rounds."""
    yield f"{row['title'][0].upper()}{row['title'][1:]}. {_when(row)}"
    yield ""
    names = list(dict.fromkeys(name for figures in row["figures"].values() for name in figures))
    yield f"| | {' | '.join(names)} |"
    yield f"|---|{'---|' * len(names)}"
    for side, figures in row["figures"].items():
        cells = (spread(figures[name]) if name in figures else "" for name in names)
        yield f"| {side} | {' | '.join(cells)} |"
    for pair, ratios in row["ratios"].items():
        cells = (number(ratios[name]) + "x" if name in ratios else "" for name in names)
        yield f"| {pair} | {' | '.join(cells)} |"
    if row["skipped"]:
        yield ""
        yield "Skipped: " + "; ".join(f"{side}: {reason}" for side, reason in row["skipped"].items()) + "."


def _growth(grown: dict[str, Any]) -> Iterator[str]:
    """Yield the table of medians by point."""
    points = sorted(map(int, grown["points"]))
    yield _when(grown)
    yield ""
    yield f"| | {' | '.join(f'{point:,}' for point in points)} |"
    yield f"|---|{'---|' * len(points)}"
    for figure in grown["plotted"]:
        for side, medians in _medians(grown, figure).items():
            cells = (number(medians[point]) if point in medians else "" for point in points)
            yield f"| {side}, {figure} | {' | '.join(cells)} |"


def _medians(grown: dict[str, Any], figure: str) -> dict[str, dict[int, float]]:
    lines: dict[str, dict[int, float]] = {}
    for point, row in sorted((int(point), row) for point, row in grown["points"].items()):
        for side, figures in row["figures"].items():
            if figure in figures:
                lines.setdefault(side, {})[point] = statistics.median(figures[figure])
    return lines


def _plots(name: str, grown: dict[str, Any], page: Path) -> str:
    """Draw the figures of one growth in one file, in a folder beside the page; return its Markdown."""
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.svg"
    plots = [{"figure": figure, "lines": _medians(grown, figure)} for figure in grown["plotted"]]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as told:
        json.dump({"axis": grown["axis"], "plots": plots}, told)
        told.flush()
        try:
            draw = [peers.python_path(), peers.PEERS / "draw.py", told.name, file]
        except Missing as reason:
            return f"(not drawn: {reason})\n"
        subprocess.run(draw, check=True)
    return f"![{grown['title']}]({folder.name}/{file.name})\n"
