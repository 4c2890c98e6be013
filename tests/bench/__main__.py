"""The command: `python -m tests.bench [ROW ...]`; all rows without one, `--list` names them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tests.bench import report, rounds
from tests.bench.rows import ROWS


def main() -> int:
    """Measure rows and print what came out."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="default: all")
    parser.add_argument("--list", action="store_true", help="name the rows and their sides")
    parser.add_argument("--rounds", type=int, help="how often every side has its turn")
    parser.add_argument("--seconds", type=float, help="how long a turn is")
    parser.add_argument(
        "--against", type=Path, metavar="CHECKOUT", help="compare with another checkout, not with peers"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT", help="only sides whose name contains a text")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    asked = parser.parse_args()
    if asked.list:
        for row in ROWS.values():
            print(f"{row.name:10} {row.title}: {'; '.join([*row.ours, *row.peers])}")
        return 0
    unknown = [name for name in asked.rows if name not in ROWS]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    machine = report.machine()
    print("; ".join(f"{name}: {value}" for name, value in machine.items()))
    measured = []
    for name in asked.rows or [name for name, row in ROWS.items() if not row.only_named]:
        result = rounds.run(
            ROWS[name], rounds=asked.rounds, seconds=asked.seconds, against=asked.against, only=asked.only
        )
        print("\n".join(report.lines(result)), flush=True)
        measured.append(result.as_json())
        if asked.json:
            asked.json.write_text(json.dumps({"machine": machine, "rows": measured}, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
