"""The command: `python -m tests.bench [ROW ...]`; all rows without one, `--list` names them."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench import page, report, rounds
from tests.bench.growth import GROWTHS
from tests.bench.rows import ROWS


def main() -> int:
    """Measure rows and print what came out."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="default: all; `growth` is all whose names begin so")
    parser.add_argument("--list", action="store_true", help="name the rows and their sides")
    parser.add_argument("--rounds", type=int, help="how often every side has its turn")
    parser.add_argument("--seconds", type=float, help="how long a turn is")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare two checkouts, without peers")
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT", help="only sides whose name contains a text")
    parser.add_argument("--points", nargs="+", type=int, default=[], metavar="N", help="which points of growth")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add everything that was measured to a file")
    parser.add_argument(
        "--page",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="write docs/performance.md and its plots from a file; a second one has rows of an optimised Python",
    )
    asked = parser.parse_args()
    if len(asked.page or []) > 2:
        parser.error("--page takes one file, or two")
    if asked.list:
        for row in ROWS.values():
            print(f"{row.name:20} {row.title}: {'; '.join([*row.ours, *row.peers])}")
        for growth in GROWTHS.values():
            print(f"{growth.name:20} {growth.title}: {min(growth.points):,} to {max(growth.points):,} {growth.axis}")
        return 0
    if asked.page:
        page.write(*(json.loads(file.read_text()) for file in asked.page))
        return 0
    names = _named(asked.rows)
    unknown = [name for name in names if name not in ROWS and name not in GROWTHS]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join([*ROWS, *GROWTHS])}")
    print("; ".join(f"{name}: {value}" for name, value in report.machine().items()))
    measure = partial(rounds.run, rounds=asked.rounds, seconds=asked.seconds, against=asked.against, only=asked.only)
    for name in names:
        if name in ROWS:
            _keep(asked.json, name, _told(measure(ROWS[name])).as_json())
            continue
        growth = GROWTHS[name]
        told = {"title": growth.title, "axis": growth.axis, "plotted": growth.plotted}
        for point in asked.points or growth.points:
            row = _told(measure(growth.row_at(point))).as_json()
            _keep(asked.json, name, {**told, "points": {str(point): row}})
    return 0


def _keep(file: Path | None, name: str, measured: dict[str, Any]) -> None:
    """Add what was measured to a file; points of a growth that it has already stay."""
    if file is None:
        return
    kept = json.loads(file.read_text()) if file.exists() else {}
    if "points" in measured:
        measured["points"] = {**kept.get(name, {}).get("points", {}), **measured["points"]}
    file.write_text(json.dumps({**kept, name: {"machine": report.machine(), **measured}}, indent=1))


def _named(rows: list[str]) -> list[str]:
    """Return the names of rows; without any, of all that do not take long."""
    named = rows or [name for name, row in ROWS.items() if not row.only_named]
    return [each for name in named for each in (GROWTHS if name == "growth" else [name])]


def _told(result: rounds.Result) -> rounds.Result:
    print("\n".join(report.lines(result)), flush=True)
    return result


if __name__ == "__main__":
    raise SystemExit(main())
