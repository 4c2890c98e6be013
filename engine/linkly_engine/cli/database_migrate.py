"""`linkly database migrate`: a folder's files go to a running engine, whose database worker decides what is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from linkly_engine.cli import command
from linkly_engine.cli.command import Failure, Target
from linkly_engine.cli.running_engine import RunningEngine
from linkly_engine.cli.show import data, done, note
from linkly_engine.cli.streams import say

LOCK_TIMEOUT_S = 30.0
FILE_MS = 86_400_000
"""How long one file may take: an index of a large table takes hours."""


@click.command(
    cls=command.Command,
    example="""
    linkly database migrate migrations --dry-run
    linkly database migrate migrations --db primary
    """,
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--db", metavar="NAME", help="Which database of config.yaml (the only one, or `primary`).")
@click.option("--dry-run", is_flag=True, help="Run nothing; list what would be run.")
@click.option(
    "--lock-timeout",
    type=click.FloatRange(min=0.001),
    default=LOCK_TIMEOUT_S,
    metavar="SECONDS",
    help=f"How long to wait while somebody else migrates, or uses a table ({LOCK_TIMEOUT_S:g}).",
)
@command.json_option
@command.target_options
def migrate(folder: Path, db: str | None, dry_run: bool, lock_timeout: float, as_json: bool, target: Target) -> int:
    """Run the numbered .sql files of FOLDER, each once.

    Those that the database has not had yet run in order: 0001_links.sql, 0002_clicks.sql. Each file is one
    transaction; a running engine does it. If one fails, nothing of it has happened and
    those before it stay. `-- linkly: no-transaction` in its first lines is for what no transaction takes.
    """
    request: dict[str, Any] = {"migrations": files_of(folder), "lock_timeout_ms": max(1, int(lock_timeout * 1000))}
    if db is not None:
        request["db"] = db
    engine = RunningEngine(target.where())
    answer = engine.call("database::migrate", {**request, "dry_run": True}, timeout_ms=FILE_MS)
    pending: list[str] = answer["pending"]
    note(f"{folder}: {len(pending)} of {len(request['migrations'])} files to run on {answer['db']} ({answer['url']})")
    applied: list[dict[str, Any]] = []
    while pending and not dry_run:
        answer = engine.call("database::migrate", {**request, "steps": 1}, timeout_ms=FILE_MS)
        pending = answer["pending"]
        for each in answer["applied"]:
            done(f"{each['name']} ({each['took_ms']:.0f} ms)")
        applied += answer["applied"]
    if as_json:
        data({"db": answer["db"], "applied": applied, "pending": pending})
    else:
        for name in pending:
            say(name)
    return 0


def files_of(folder: Path) -> list[dict[str, str]]:
    """Return name and content of the .sql files of a folder.

    Raises:
        Failure: There are none, or one cannot be read.
    """
    if not folder.is_dir():
        raise Failure(f"there is no folder {folder}")
    files: list[dict[str, str]] = []
    for path in sorted(folder.glob("*.sql")):
        try:
            files.append({"name": path.name, "sql": path.read_bytes().decode()})
        except UnicodeDecodeError as error:
            raise Failure(f"{path} is no UTF-8: {error}") from None
    if not files:
        raise Failure(f"there is no .sql file in {folder}")
    return files
