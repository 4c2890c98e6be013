"""`linkly database copy`: the database worker of a running engine copies, a slice a call; this shows how far it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from linkly_engine.cli import command
from linkly_engine.cli.command import Target
from linkly_engine.cli.running_engine import RunningEngine
from linkly_engine.cli.show import data, done, note, table
from linkly_engine.cli.streams import say

SLICE_MS = 500
CALL_MS = 3_600_000
"""A slice is longer where a table without a key is copied at once, and where rows are counted."""

Answer = dict[str, Any]


@click.command(
    cls=command.Command,
    example="""
    linkly database copy --from old --to primary --dry-run
    linkly database copy --from old --to primary
    """,
)
@click.option("--from", "source", metavar="NAME", required=True, help="The database of config.yaml that has the rows.")
@click.option("--to", "target_db", metavar="NAME", required=True, help="The database of config.yaml that gets them.")
@click.option("--table", "tables", metavar="NAME", multiple=True, help="Only this table; may be repeated.")
@click.option("--replace", is_flag=True, help="Rows there with the same primary key get the values that are copied.")
@click.option("--dry-run", is_flag=True, help="Write nothing; list the tables and what would make them.")
@command.json_option
@command.target_options
def copy(
    source: str,
    target_db: str,
    tables: tuple[str, ...],
    replace: bool,
    dry_run: bool,
    as_json: bool,
    target: Target,
) -> int:
    """Copy tables with their rows from one database to another, of the same kind or not.

    Tables that are not there are made. A running engine does it, a batch a transaction, and counts the rows at the end;
    after an interruption run it again: it goes on where it was. Copy while nobody writes to either of the two.
    """
    request: dict[str, Any] = {"from": source, "to": target_db, "replace": replace}
    if tables:
        request["tables"] = list(tables)
    engine = RunningEngine(target.where())
    if dry_run:
        answer: Answer = engine.call("database::copy", {**request, "dry_run": True}, timeout_ms=CALL_MS)
    else:
        with _shown() as show:
            while True:
                answer = engine.call("database::copy", {**request, "for_ms": SLICE_MS}, timeout_ms=CALL_MS)
                show(answer)
                if answer["complete"]:
                    break
    for each in answer["left_out"]:
        note(f"left out: {each}")
    if as_json:
        data(answer)
    elif dry_run:
        table(("table", "rows", "copied"), [(each["name"], each["rows"], each["copied"]) for each in answer["tables"]])
        for text in answer["statements"]:
            say(f"{text};")
    else:
        rows = sum(each["copied"] for each in answer["tables"])
        done(f"{len(answer['tables'])} tables, {rows} rows; both databases have the same number of each")
    return 0


@contextmanager
def _shown() -> Iterator[Callable[[Answer], None]]:
    """Show how far a copy is: a bar on a terminal, else a line for each table that has all its rows."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("", total=None)

            def move(answer: Answer) -> None:
                tables = answer["tables"]
                now = next((each["name"] for each in tables if each["copied"] < each["rows"]), "")
                copied, rows = (sum(each[name] for each in tables) for name in ("copied", "rows"))
                progress.update(bar, description=now, completed=copied, total=max(copied, rows))

            yield move
        return
    told: set[str] = set()

    def tell(answer: Answer) -> None:
        for each in answer["tables"]:
            if each["copied"] >= each["rows"] and each["name"] not in told:
                told.add(each["name"])
                done(f"{each['name']} ({each['copied']} rows)")

    yield tell
