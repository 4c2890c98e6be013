"""`linkly queue list`, `show`, `jobs` and `dead`: what a running engine says of its queues."""

from __future__ import annotations

from typing import Any

import click

from linkly_engine.cli import command
from linkly_engine.cli.command import Target
from linkly_engine.cli.running_engine import RunningEngine
from linkly_engine.cli.show import data, note, pairs, table

STATES = ("waiting", "delayed", "retrying", "active", "done", "dead", "cancelled", "discarded", "expired")
MOST = 1000
TEXT_CHARACTERS = 60


@click.command(
    "list",
    cls=command.Command,
    example="""
    linkly queue list
    linkly queue list --json
    """,
)
@command.json_option
@command.target_options
def list_queues(as_json: bool, target: Target) -> int:
    """List the queues and subscriptions of a running engine."""
    answer = RunningEngine(target.where()).call("queue::list", {})
    if as_json:
        data(answer)
        return 0
    columns = ("queue", "status", "waiting", "delayed", "retrying", "active", "dead", "done", "oldest")
    # Messages that nobody has subscribed to are shown where there are any.
    rows: list[dict[str, Any]] = [row for row in answer["queues"] if row["kind"] != "kept" or row["accepted"]]
    for row in rows:
        row["status"] = _status(row)
        row["oldest"] = _age(row["oldest_waiting_ms"])
    table(columns, [[row[column] for column in columns] for row in rows])
    for row in rows:
        for each in row["absent"]:
            note(f"{row['queue']}: {each['jobs']} jobs wait for `{each['function_id']}`, which nobody serves")
    return 0


@click.command(
    cls=command.Command,
    example="""
    linkly queue show default
    linkly queue show default --json
    """,
)
@click.argument("queue")
@command.json_option
@command.target_options
def show(queue: str, as_json: bool, target: Target) -> int:
    """Show what a queue has, what has become of its jobs, and its settings."""
    answer = RunningEngine(target.where()).call("queue::show", {"queue": queue})
    if as_json:
        data(answer)
        return 0
    settings = answer.pop("settings") or {}
    minute = answer.pop("last_minute")
    absent = answer.pop("absent")
    answer["oldest_waiting"] = _age(answer.pop("oldest_waiting_ms")) or "-"
    pairs(
        [
            *((name.replace("_", " "), _shown(value)) for name, value in answer.items()),
            *((f"{name} in the last minute", value) for name, value in minute.items()),
            *((f"nobody serves {each['function_id']}", f"{each['jobs']} jobs") for each in absent),
            *((name, _shown(value)) for name, value in settings.items()),
        ]
    )
    return 0


@click.command(
    cls=command.Command,
    example="""
    linkly queue jobs --queue default --state waiting
    linkly queue jobs --function mail::send --json
    """,
)
@click.option("--queue", metavar="NAME", help="Of this queue only.")
@click.option("--state", type=click.Choice(STATES), help="In this state only.")
@click.option("--function", "function_id", metavar="ID", help="Of this function only.")
@click.option("-n", "--lines", "limit", type=click.IntRange(1, MOST), default=100, help="So many at most (100).")
@click.option("--cursor", metavar="TEXT", help="Go on behind an earlier answer.")
@command.json_option
@command.target_options
def jobs(as_json: bool, target: Target, **which: Any) -> int:
    """List jobs in the order of their acceptance."""
    columns = ("id", "queue", "function", "state", "attempts", "enqueued", "error")
    return _list("queue::jobs", which, columns, "jobs", as_json, target)


@click.command(
    cls=command.Command,
    example="""
    linkly queue dead --queue default
    linkly queue dead --error refused --json
    """,
)
@click.option("--queue", metavar="NAME", help="Of this queue only.")
@click.option("--function", "function_id", metavar="ID", help="Of this function only.")
@click.option("--error", metavar="TEXT", help="With this text in its error.")
@click.option("--reason", metavar="WORD", help="Dead for this reason: failed, timed_out, worker_lost, no_function ...")
@click.option("--after", "died_after", metavar="TIME", help="Dead since this time, for example 2026-01-31T12:00:00Z.")
@click.option("--before", "died_before", metavar="TIME", help="Dead before this time.")
@click.option("-n", "--lines", "limit", type=click.IntRange(1, MOST), default=100, help="So many at most (100).")
@click.option("--cursor", metavar="TEXT", help="Go on behind an earlier answer.")
@command.json_option
@command.target_options
def dead(as_json: bool, target: Target, **which: Any) -> int:
    """List dead letters, those first that have died first."""
    columns = ("id", "queue", "function", "reason", "attempts", "died", "error")
    return _list("queue::dead", which, columns, "dead letters", as_json, target)


def _list(
    function_id: str, which: dict[str, Any], columns: tuple[str, ...], what: str, as_json: bool, target: Target
) -> int:
    answer = RunningEngine(target.where()).call(function_id, {k: v for k, v in which.items() if v is not None})
    rows: list[dict[str, Any]] = answer["jobs"]
    if as_json:
        data(answer)
        return 0
    if not rows:
        note(f"No {what}.")
        return 0
    for row in rows:
        row["function"], row["enqueued"], row["died"] = row["function_id"], row["enqueued_at"], row["finished_at"]
        row["error"] = str((row["error"] or {}).get("message", ""))[:TEXT_CHARACTERS]
    table(columns, [[row[column] for column in columns] for row in rows])
    if answer["next_cursor"] is not None:
        note(f"There are more: --cursor {answer['next_cursor']}")
    return 0


def _status(row: dict[str, Any]) -> str:
    if row["paused"]:
        return "paused"
    if row["kind"] == "kept":
        return "no subscriber"
    return "served" if row["configured"] else "not configured"


def _age(milliseconds: int | None) -> str:
    if milliseconds is None:
        return ""
    seconds = milliseconds / 1000
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _shown(value: Any) -> Any:
    return (
        {True: "yes", False: "no", None: "-"}.get(value, value) if value is None or isinstance(value, bool) else value
    )
