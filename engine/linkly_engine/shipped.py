"""The names of workers: which ship with this version, which of iii's do not yet, which older names mean the same.

A worker ships if its folder lies in `linkly_workers` and does not begin with `_`. The folder is not imported, and
nothing else in linkly lists the workers.
"""

from __future__ import annotations

import os
from importlib import import_module

PACKAGE = "linkly_workers"

IIIS = frozenset(
    {"state", "http", "database", "queue", "cron", "pubsub", "stream", "observability"}
    | {"console", "exec", "bridge", "sandbox"}
)
"""Workers that iii has (docs/workers.md): linkly may not have all of them yet."""

ALIASES = {f"iii-{name}": name for name in IIIS - {"observability"}}
"""Names of older configs -> names of today. `iii-observability` is a part of the engine, not a worker of its own."""


def shipped_names() -> list[str]:
    """Return the names of the workers that ship, sorted; looking costs 0.1 ms."""
    with os.scandir(_folder()) as entries:
        return sorted(
            entry.name.replace("_", "-")
            for entry in entries
            if entry.name[0] != "_" and os.path.isfile(os.path.join(entry.path, "__init__.py"))
        )


def package_of(name: str) -> str:
    """Return the package of a worker that ships: `linkly_workers.state` of `state`."""
    return f"{PACKAGE}.{name.replace('-', '_')}"


def starting_block(name: str) -> str | None:
    """Return the settings that `linkly worker add` writes out for a worker, YAML; `None`: it starts with its defaults.

    They stand in `added.yaml` in the worker's folder.
    """
    try:
        with open(os.path.join(_folder(), name.replace("-", "_"), "added.yaml"), encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def needed_by(name: str) -> list[str]:
    """Return the workers that `linkly worker add` adds beside a worker: they stand in `needs.txt`, one a line."""
    try:
        with open(os.path.join(_folder(), name.replace("-", "_"), "needs.txt"), encoding="utf-8") as file:
            return file.read().split()
    except FileNotFoundError:
        return []


def not_there_yet(name: str) -> str | None:
    """Return the sentence that one of iii's workers is not in linkly yet; `None` if linkly has it or iii has not."""
    today = name.removeprefix("iii-")
    if today not in IIIS or today in shipped_names():
        return None
    return (
        f"linkly has no `{today}` worker yet: a program that connects and registers the same "
        "functions and trigger types can stand in for it"
    )


def _folder() -> str:
    (folder,) = import_module(PACKAGE).__path__
    return folder
