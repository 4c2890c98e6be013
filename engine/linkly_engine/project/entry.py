"""One entry of `workers:` in config.yaml, and the names that entries go by.

It knows what is written; `linkly_engine.project.loader` looks for the worker of that name or in that folder.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from linkly.errors import ConfigError
from linkly_engine.yaml.problems import Problems
from linkly_engine.yaml.tree import Tree

NAME_OF_FOLDER = re.compile(r"(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,64}")
"""Names of workers in processes of their own: their logs lie in a folder of this name."""

LOGS = (".linkly", "logs")
"""Where those folders are, below the folder of config.yaml."""


class WorkerEntry(msgspec.Struct, kw_only=True):
    """One entry of `workers:`.

    Attributes:
        name: As linkly spells it (`http`, where `iii-http` is written), with `#1`, `#2` behind a name that stands more
            than once; `""` for a module or a folder that has not been looked at yet (`linkly_engine.project.loader`).
        module: `package.module:Class` of a worker that does not ship with linkly.
        folder: Where a program with a manifest lies that runs in a process of its own; absolute after `load`.
        config: Its `config:` block, plain data.
        place: Where it stands in its file: `$.workers[2]`.
        tree: The file.
        base: The file's folder, where relative paths of its block begin.
    """

    name: str
    module: str | None = None
    folder: Path | None = None
    config: Any = None
    place: str = ""
    tree: Tree | None = None
    base: Path = Path()

    @property
    def path(self) -> str:
        """Its place for error messages: `config.yaml:7: $.workers[2]`."""
        return self.place if self.tree is None else self.tree.where(self.place)

    def error(self, key: str, reason: str) -> ConfigError:
        """Make the error for one of its keys: `.config.port`, or `""`."""
        if self.tree is None:
            return ConfigError(f"{self.place}{key}: {reason}")
        return self.tree.error(self.place + key, reason)


def check_names(workers: list[WorkerEntry], problems: Problems) -> None:
    """Add an error for each program in a process of its own whose name is not allowed or not its own."""
    for worker in workers:
        if worker.folder is None or not worker.name:
            continue
        if not NAME_OF_FOLDER.fullmatch(worker.name):
            reason = f"`{worker.name}`: letters, digits and `-_.` are allowed, 64 at most, no leading dot, no `..`"
            problems.add(worker.error(".name", reason))
        other = next((each for each in workers if each is not worker and each.name == worker.name), None)
        if other is not None:
            reason = f"`{worker.name}` is the name of another worker too ({other.path}); give this one another `name:`"
            problems.add(worker.error(".name", reason))


def numbered(names: list[str]) -> list[str]:
    """Return the names with `#1`, `#2` behind one that stands more than once; an empty name stays empty."""
    numbers: Counter[str] = Counter()
    found: list[str] = []
    for name in names:
        numbers[name] += 1
        found.append(f"{name}#{numbers[name]}" if name and names.count(name) > 1 else name)
    return found


def unnumbered(name: str) -> str:
    """Return a name without the number that `numbered` put behind it."""
    return name.partition("#")[0]
