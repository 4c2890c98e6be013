"""`linkly worker list`, `status`, `start`, `stop`, `restart`: how the workers of config.yaml are.

Without an engine the file says what there would be; what changes a running worker needs one.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import click

from linkly_engine import LISTENER
from linkly_engine.cli import command
from linkly_engine.cli.command import Failure, Target
from linkly_engine.cli.entries import folder_of, kind_of_entry, names_of
from linkly_engine.cli.running_engine import CallFailed, RunningEngine, find_engine, wait_until_running
from linkly_engine.cli.show import data, done, note, pairs, table
from linkly_engine.cli.streams import say
from linkly_engine.project.built_in import BUILT_IN
from linkly_engine.project.edit.file import open_layout
from linkly_engine.project.entry import unnumbered
from linkly_engine.shipped import ALIASES
from linkly_engine.text import stripped

CHANGE_MS = 60_000
COLUMNS = ("name", "kind", "status", "pid", "functions", "restarts", "reason")


@click.command(
    "list",
    cls=command.Command,
    example="""
    linkly worker list
    linkly worker list --json
    """,
)
@command.json_option
@command.target_options
def list_workers(as_json: bool, target: Target) -> int:
    """List the workers of config.yaml and how they are."""
    return _show_list(target, as_json)


@click.command(
    cls=command.Command,
    example="""
    linkly worker status
    linkly worker status link
    """,
)
@click.argument("worker", required=False)
@command.json_option
@command.target_options
def status(worker: str | None, as_json: bool, target: Target) -> int:
    """Say how the workers are, or all about one WORKER: process, functions, what it wrote last."""
    if worker is None:
        return _show_list(target, as_json)
    engine, why = find_engine(target)
    if engine is None:
        note(why)
        row = configured_row(target.path, worker)
    else:
        row = _named(engine, "worker::status", worker)
    if as_json:
        data(row)
    else:
        _show_status(row, running=engine is not None)
    return 0


@click.command(cls=command.Command, example="linkly worker start link")
@click.argument("worker")
@click.option("--no-wait", is_flag=True, help="Do not wait until it runs.")
@command.target_options
def start(worker: str, no_wait: bool, target: Target) -> int:
    """Start a worker that does not run; the engine has to."""
    return _change("start", worker, no_wait, target)


@click.command(cls=command.Command, example="linkly worker stop link")
@click.argument("worker")
@click.option("-y", "--yes", is_flag=True, help="Accepted; nothing is asked.")
@command.target_options
def stop(worker: str, yes: bool, target: Target) -> int:
    """Stop a worker until it is started by name or its entry changes; calls in flight finish."""
    return _change("stop", worker, True, target)


@click.command(cls=command.Command, example="linkly worker restart link")
@click.argument("worker")
@click.option("-y", "--yes", is_flag=True, help="Accepted; nothing is asked.")
@click.option("--no-wait", is_flag=True, help="Do not wait until it runs.")
@command.target_options
def restart(worker: str, yes: bool, no_wait: bool, target: Target) -> int:
    """Make a worker anew, or start it; calls in flight finish, others wait."""
    return _change("restart", worker, no_wait, target)


def configured(path: Path) -> list[dict[str, Any]]:
    """Return the rows that config.yaml alone can tell, in its order.

    Raises:
        ConfigError: It cannot be used.
    """
    layout, project = open_layout(path), path.resolve().parent
    rows: list[dict[str, Any]] = []
    for entry, name in zip(layout.entries, names_of(layout.entries, project), strict=True):
        if unnumbered(name) == LISTENER or name in BUILT_IN:
            continue
        folder = folder_of(entry, project)
        rows.append(
            {
                "name": name,
                "kind": kind_of_entry(entry),
                "running": False,
                "status": "stopped",
                "pid": None,
                "functions": 0,
                "restarts": 0,
                **({} if folder is None else {"path": str(folder)}),
            }
        )
    return rows


def configured_row(path: Path, worker: str) -> dict[str, Any]:
    """Return the row of one worker from `configured`, by its name or its old name.

    Raises:
        Failure: config.yaml has no such worker.
    """
    rows = configured(path)
    names = [row["name"] for row in rows]
    name = worker if worker in names else ALIASES.get(worker, worker)
    if name not in names:
        raise Failure(f"there is no worker `{worker}` in {path}; there: {', '.join(names) or 'none'}")
    return rows[names.index(name)]


def _show_list(target: Target, as_json: bool) -> int:
    engine, why = find_engine(target)
    rows: list[dict[str, Any]]
    if engine is None:
        rows = configured(target.path)
        note(why)
    else:
        listing = engine.listing()
        rows = list(listing.get("workers") or [])
        if listing.get("config_error"):
            note(f"warning: the engine keeps the earlier configuration: {listing['config_error']}")
    if as_json:
        data({"config_path": str(target.path.absolute()), "engine": engine is not None, "workers": rows})
    elif not rows:
        note("No workers. Use `linkly worker add` to get started.")
    else:
        table(COLUMNS, [[row.get(column) for column in COLUMNS] for row in rows])
    return 0


def _show_status(row: dict[str, Any], *, running: bool) -> None:
    started = row.get("started_at_ms")
    when = None if started is None else datetime.datetime.fromtimestamp(started / 1000).strftime("%Y-%m-%d %H:%M:%S")
    lines = [
        ("worker", row.get("name")),
        ("status", row.get("status") if running else "engine not running"),
        ("reason", row.get("reason")),
        ("kind", row.get("kind")),
        ("path", row.get("path")),
        ("pid", row.get("pid")),
        ("started", when),
        ("restarts", row.get("restarts")),
        ("functions", ", ".join(row.get("function_ids") or [])),
        ("logs", row.get("logs_dir")),
        ("next", row.get("hint")),
    ]
    pairs([line for line in lines if line[1] not in (None, "")])
    for stream in ("stdout", "stderr"):
        written = row.get(f"{stream}_tail") or []
        if written:
            say(f"last lines of {stream}")
        for line in written:
            say("  " + stripped(line))


def _change(verb: str, worker: str, no_wait: bool, target: Target) -> int:
    engine, why = find_engine(target)
    if engine is None:
        raise Failure(f"cannot {verb} `{worker}`: {why}")
    row = _named(engine, f"worker::{verb}", worker)
    name = str(row.get("name"))
    if verb != "stop" and not no_wait and row.get("status") != "running":
        code = wait_until_running(engine, [name])
        if code:
            return code
        row = engine.call("worker::status", {"name": name})
    pid = f" (pid {row['pid']})" if row.get("pid") else ""
    done(f"Worker {name}: {row.get('status')}{pid}")
    if verb == "restart" and row.get("kind") == "module":
        note("its code was not loaded again: Python keeps a module once imported; for new code, restart the engine")
    return 0


def _named(engine: RunningEngine, function_id: str, worker: str) -> dict[str, Any]:
    try:
        return dict(engine.call(function_id, {"name": worker}, timeout_ms=CHANGE_MS))
    except CallFailed as error:
        raise Failure(str(error)) from None
