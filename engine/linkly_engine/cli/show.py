"""What commands print: data on stdout, everything a person should know on stderr.

On a terminal a table has colours and folds its last column; elsewhere it is aligned text that `awk` reads.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from linkly_engine.cli.streams import say, tell
from linkly_engine.cli.tinyjson import dumps
from linkly_engine.text import stripped

COLOURS = {
    "running": "green",
    "failed": "red",
    "waiting": "yellow",
    "installing": "yellow",
    "starting": "yellow",
    "stopped": "dim",
}


def note(text: str) -> None:
    """Tell a person something."""
    tell(stripped(text))


def done(text: str) -> None:
    """Tell a person that something was done."""
    mark = "✓ " if (sys.stderr.encoding or "").lower().startswith("utf") else ""
    note(mark + text)


def data(value: Any) -> None:
    """Print JSON."""
    say(dumps(value, indent=2))


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; what is empty shows as `-`."""
    shown = [["-" if cell is None or cell == "" else stripped(str(cell)) for cell in row] for row in rows]
    if sys.stdout is not None and sys.stdout.isatty():
        _rich_table(columns, shown)
        return
    for line in aligned([[column.upper() for column in columns], *shown]):
        say(line)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a line of text for each row, their cells in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def pairs(rows: Sequence[tuple[str, Any]]) -> None:
    """Print labels and what they say, one a line."""
    for line in aligned([(label, stripped(str(value))) for label, value in rows]):
        say(line)


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        made.add_column(column.upper(), no_wrap=index < len(columns) - 1, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    console = Console(highlight=False)
    with console.capture() as shown:
        console.print(made)
    say(shown.get(), end="")
