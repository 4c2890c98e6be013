"""What a person sees when the engine is up: workers, functions, addresses and what to try next.

In JSON output the same facts are one event. Workers that connect later are lines of their own in the log.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from typing import Any

import msgspec

from linkly_engine import __version__
from linkly_engine.cli.output import BOLD, DIM, Output, painter
from linkly_engine.engine import Engine
from linkly_engine.project.member import Member
from linkly_engine.project.project import Project
from linkly_engine.text import one_line

NAME_WIDTH = 12
LABEL_WIDTH = 20
DEFAULT_WIDTH = 100
NO_BREAK = "\0"

SUGGESTIONS = (
    ("link::create", "linkly trigger link::create url=https://example.com code=demo"),
    ("state::set", "linkly trigger state::set scope=greetings key=hello value=world"),
    ("", "linkly trigger engine::functions::list"),
)
"""The first whose function is there is what to try."""


class WorkerShown(msgspec.Struct, kw_only=True):
    """One worker of config.yaml: its ids are sorted, `path` is the folder of a program in a process of its own."""

    name: str
    status: str
    functions: list[str] = []
    trigger_types: list[str] = []
    path: str | None = None
    reason: str | None = None


class Shown(msgspec.Struct, kw_only=True):
    """Everything the welcome says.

    Attributes:
        workers: In the order of config.yaml.
        addresses: What it is for, and where.
        suggestion: A command to try.
    """

    workers: list[WorkerShown]
    addresses: list[tuple[str, str]]
    suggestion: str


def welcome(project: Project, output: Output) -> None:
    """Say it on stderr: stdout belongs to results."""
    shown = collect(project)
    data: dict[str, Any] = {
        "version": __version__,
        "config": None if (file := project.members.config.file) is None else str(file),
        "workers": [msgspec.to_builtins(worker) for worker in shown.workers],
        "addresses": [{"what": label, "url": url} for label, url in shown.addresses],
        "try": shown.suggestion,
    }
    output.say(as_text(shown, width=_width(), colour=output.colour), message=f"linkly {__version__} is up", data=data)


def collect(project: Project) -> Shown:
    """Gather what runs now."""
    engine = project.engine
    addresses = [("workers connect to", server.url) for server in project.listeners.servers]
    for worker in engine.host.running:
        addresses += [(f"{label} at", address) for label, address in worker.addresses().items()]
    find = engine.tables.functions.find
    suggestion = next(command for needed, command in SUGGESTIONS if not needed or find("default", needed) is not None)
    workers = [_shown(engine, member) for member in project.members.all]
    return Shown(workers=workers, addresses=addresses, suggestion=suggestion)


def as_text(shown: Shown, *, width: int, colour: bool) -> str:
    """Return the welcome as it is printed on a terminal of `width` columns."""
    paint = painter(colour)
    lines = ["", paint(f"linkly {__version__} is up", BOLD), ""]
    for worker in shown.workers:
        name = f"{one_line(worker.name):<{NAME_WIDTH}}"
        first, *rest = _wrapped(f"  {name} {_what(worker)}", width)
        lines.append(first.replace(name, paint(name, "\x1b[36m"), 1))
        lines += rest
    if not shown.workers:
        lines.append("  no workers yet: `linkly worker add state` adds one")
    lines.append("")
    lines += [f"  {paint(f'{label:<{LABEL_WIDTH}}', DIM)} {paint(url, BOLD)}" for label, url in shown.addresses]
    lines += ["", f"  try: {paint(shown.suggestion, BOLD)}", "  stop: Ctrl-C", ""]
    return "\n".join(lines).replace(NO_BREAK, " ")


def _what(worker: WorkerShown) -> str:
    """Say what a worker serves, or how it is while it serves nothing."""
    ids = [*worker.functions, *(f"trigger type {each}" for each in worker.trigger_types)]
    # A line of the terminal breaks between two ids, never inside one.
    text = ", ".join(one_line(each).replace(" ", NO_BREAK) for each in ids)
    if worker.status == "running" and worker.path is None:
        return text or "running, serves no function"
    state = f"{worker.status}, in {worker.path}" if worker.path is not None else worker.status
    if worker.reason:
        state += f": {one_line(worker.reason)}"
    return f"({state}) {text}".rstrip()


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        subsequent_indent=" " * (NAME_WIDTH + 3),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _shown(engine: Engine, member: Member) -> WorkerShown:
    owner = engine.host.record_of(member.worker) if member.worker is not None else None
    return WorkerShown(
        name=member.name,
        status=member.state,
        functions=sorted(each.id for each in engine.tables.functions if each.owner is owner and not each.internal),
        trigger_types=sorted(kind.id for kind in engine.tables.triggers.types if kind.owner is owner),
        path=str(member.entry.folder) if member.entry.folder is not None else None,
        reason=member.reason,
    )


def _width() -> int:
    """Return the columns of the terminal behind stderr; COLUMNS comes first, as everywhere."""
    if os.environ.get("COLUMNS", "").isdecimal():
        return shutil.get_terminal_size().columns
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or DEFAULT_WIDTH
    except OSError:
        return DEFAULT_WIDTH
