"""Writes docs/performance.md, what stands below its mark, and its plots from a file with what was measured."""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

from tests.bench import peers
from tests.bench.processes import THIS
from tests.bench.report import number, spread
from tests.bench.row import Missing

PAGE = THIS / "docs" / "performance.md"
PLOTS = THIS / "docs" / "performance"
MARK = "<!-- Below: written by `python -m tests.bench --page FILE`. -->"


def write(measured: dict[str, Any]) -> None:
    """Write the tables and the plots of everything that a file of `--json` holds."""
    plots = {name: _plots(name, each) for name, each in measured.items() if "points" in each}
    PAGE.write_text(f"{PAGE.read_text().partition(MARK)[0]}{MARK}\n{tables(measured, plots)}")


def tables(measured: dict[str, Any], plots: dict[str, str]) -> str:
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
    return f"Commit {machine['commit']}, load {machine['load'].split()[0]}."


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


def _plots(name: str, grown: dict[str, Any]) -> str:
    """Draw the figures of one growth in one file; return its Markdown."""
    PLOTS.mkdir(exist_ok=True)
    file = PLOTS / f"{name}.svg"
    plots = [{"figure": figure, "lines": _medians(grown, figure)} for figure in grown["plotted"]]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as told:
        json.dump({"axis": grown["axis"], "plots": plots}, told)
        told.flush()
        try:
            draw = [peers.python_path(), peers.PEERS / "draw.py", told.name, file]
        except Missing as reason:
            return f"(not drawn: {reason})\n"
        subprocess.run(draw, check=True)
    return f"![{grown['title']}]({PLOTS.name}/{file.name})\n"
