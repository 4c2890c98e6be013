"""`linkly functions`, `linkly workers`, `linkly check`: what a running engine has; whether config.yaml can be used."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from linkly.errors import ConfigError
from linkly_engine.cli import command
from linkly_engine.cli.command import Target
from linkly_engine.cli.running_engine import CallFailed, RunningEngine
from linkly_engine.cli.show import data, note, table
from linkly_engine.cli.streams import say

ID_CHARACTERS = 8


@click.command(
    cls=command.Command,
    example="""
    linkly functions
    linkly functions state --json
    """,
)
@click.argument("search", required=False, default="")
@click.option("-a", "--all", "everything", is_flag=True, help="Also engine::* and functions marked internal.")
@command.json_option
@command.target_options
def functions(search: str, everything: bool, as_json: bool, target: Target) -> int:
    """List the functions of a running engine; SEARCH is looked for in ids and descriptions."""
    engine = RunningEngine(target.where())
    request: dict[str, Any] = {"include_internal": everything, **({"search": search} if search else {})}
    rows: list[dict[str, Any]] = engine.call("engine::functions::list", request).get("functions") or []
    if as_json:
        data({"functions": rows})
    elif not rows:
        note(f"No function matches `{search}`." if search else "No functions. `linkly worker add` adds workers.")
    else:
        table(
            ("function", "worker", "description"),
            [
                [_id(row), row.get("worker_name"), str(row.get("description") or "").strip().split("\n", 1)[0]]
                for row in rows
            ],
        )
        note("`linkly trigger FUNCTION --help` explains one.")
    return 0


@click.command(
    cls=command.Command,
    example="""
    linkly workers
    linkly workers --json
    """,
)
@command.json_option
@command.target_options
def workers(as_json: bool, target: Target) -> int:
    """List the workers of a running engine, also those that connect from elsewhere."""
    engine = RunningEngine(target.where())
    rows: list[dict[str, Any]] = engine.call("engine::workers::list", {}).get("workers") or []
    columns = ("name", "status", "runtime", "version", "functions", "namespace", "address", "id")
    _name_as_configured(engine, rows)
    if as_json:
        data({"workers": rows})
    elif not rows:
        note("No workers. Use `linkly worker add` to get started.")
    else:
        for row in rows:
            row["status"] = "running"
            row["id"] = str(row["id"])[:ID_CHARACTERS]
        keys = {"functions": "function_count", "address": "ip_address"}
        table(columns, [[row.get(keys.get(column, column)) for column in columns] for row in rows])
    return 0


@click.command(
    cls=command.Command,
    example="""
    linkly check
    linkly check -c other.yaml --json
    """,
)
@command.json_option
@command.config_option
def check(as_json: bool, config: Path | None) -> int:
    """Tell whether config.yaml can be used, as a running engine would; nothing is started."""
    from linkly_engine.project.loader import read
    from linkly_engine.yaml.problems import problems_of

    path = command.project_file(config)
    try:
        found, _ = read(path)
    except ConfigError as error:
        if as_json:
            shown = {"error": error.message, "problems": problems_of(error)}
            data({"config_path": str(path), "ok": False, **shown})
        else:
            for line in error.message.splitlines():
                note(f"Error: {line}")
        return 1
    names = [entry.name for entry in found.workers]
    if as_json:
        data({"config_path": str(path), "ok": True, "workers": names, "notes": found.notes})
        return 0
    for each in found.notes:
        note(f"note: {each}")
    say(f"{path}: fine, {len(names)} worker{'' if len(names) == 1 else 's'}")
    return 0


def _name_as_configured(engine: RunningEngine, rows: list[dict[str, Any]]) -> None:
    """Give workers the names that they have in `linkly worker list`; `worker_name` is what `linkly functions` says."""
    names: dict[str, str] = {}
    with contextlib.suppress(CallFailed):  # an engine without a project
        names = engine.call("worker::names", {})["names"]
    for row in rows:
        row["worker_name"] = row.get("name")
        row["name"] = names.get(row["id"], row["worker_name"])


def _id(row: dict[str, Any]) -> str:
    space = row.get("namespace")
    return str(row.get("function_id")) + (f" (in {space})" if space not in (None, "", "default") else "")
