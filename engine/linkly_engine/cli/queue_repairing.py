"""`linkly queue redrive`, `discard`, `pause` and `resume`: a running engine changes what happens to its jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from linkly_engine.cli import command
from linkly_engine.cli.command import Failure, Target
from linkly_engine.cli.running_engine import RunningEngine
from linkly_engine.cli.show import data, done

ALL_MS = 3_600_000
"""How long a million dead letters may take."""


def _which(function: Callable[..., int]) -> Callable[..., int]:
    """Add the arguments that say which jobs are meant."""
    for option in (
        click.option("--waiting", is_flag=True, help="Also those that have not begun."),
        click.option("--before", "died_before", metavar="TIME", help="Dead before this time."),
        click.option("--after", "died_after", metavar="TIME", help="Dead since this time."),
        click.option("--reason", metavar="WORD", help="Dead for this reason."),
        click.option("--error", metavar="TEXT", help="With this text in its error."),
        click.option("--function", "function_id", metavar="ID", help="Of this function."),
        click.option("--queue", metavar="NAME", help="Of this queue."),
        click.argument("ids", nargs=-1, metavar="[ID]..."),
    ):
        function = option(function)
    return function


@click.command(
    cls=command.Command,
    example="""
    linkly queue redrive 6f1c1bd1-4e2b-4d7a-9f6d-0f5f5e8f7c11
    linkly queue redrive --queue default --error timeout
    linkly queue redrive --queue old --waiting --into default
    """,
)
@click.option("--into", metavar="NAME", help="Into this queue instead of their own.")
@_which
@command.json_option
@command.target_options
def redrive(as_json: bool, target: Target, **which: Any) -> int:
    """Let dead jobs begin anew, by id or by a filter."""
    return _change("queue::redrive", "redriven", which, as_json, target)


@click.command(
    cls=command.Command,
    example="""
    linkly queue discard 6f1c1bd1-4e2b-4d7a-9f6d-0f5f5e8f7c11
    linkly queue discard --queue default --before 2026-01-01T00:00:00Z
    """,
)
@_which
@command.json_option
@command.target_options
def discard(as_json: bool, target: Target, **which: Any) -> int:
    """Throw dead jobs away, by id or by a filter."""
    return _change("queue::discard", "discarded", which, as_json, target)


@click.command(cls=command.Command, example="linkly queue pause default")
@click.argument("queue")
@command.json_option
@command.target_options
def pause(queue: str, as_json: bool, target: Target) -> int:
    """Let a queue start nothing more; what runs goes on, what comes in is accepted."""
    return _pause("queue::pause", "paused", queue, as_json, target)


@click.command(cls=command.Command, example="linkly queue resume default")
@click.argument("queue")
@command.json_option
@command.target_options
def resume(queue: str, as_json: bool, target: Target) -> int:
    """Let a queue that was paused start jobs again."""
    return _pause("queue::resume", "resumed", queue, as_json, target)


def _change(function_id: str, what: str, which: dict[str, Any], as_json: bool, target: Target) -> int:
    request = {name: value for name, value in which.items() if value}
    if not request.keys() - {"into", "waiting"}:
        raise Failure("say which jobs: their ids, --queue, or another filter", exit_code=2)
    if "ids" in request:
        request["ids"] = list(request["ids"])
    answer = RunningEngine(target.where()).call(function_id, request, timeout_ms=ALL_MS)
    if as_json:
        data(answer)
    else:
        count = answer[what]
        done(f"{count} job{'' if count == 1 else 's'} {what}")
    return 0


def _pause(function_id: str, what: str, queue: str, as_json: bool, target: Target) -> int:
    answer = RunningEngine(target.where()).call(function_id, {"queue": queue})
    if as_json:
        data(answer)
    else:
        done(f"Queue {queue} {what}")
    return 0
