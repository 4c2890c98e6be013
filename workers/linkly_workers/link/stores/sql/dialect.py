"""The SQL of one kind of database: the `.sql` files in the folder named after its driver, read once.

A file holds scripts. `-- name: NAME` begins one; its statements end with `;`, and `:NAME` stands for a parameter. A
script whose name has a dot in it (`links.clicks`) is a migration: it runs if the table lacks that column. Another kind
of database is another folder with scripts of the same names.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any

import msgspec

from linkly.errors import ConfigError

_NAME = re.compile(r"^-- name: (\S+)$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")


class Statement(msgspec.Struct, frozen=True):
    """One SQL statement, with `?` for the parameters of these names."""

    sql: str
    names: tuple[str, ...]

    def using(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return it with the values of its parameters, as `database::*` takes it."""
        return {"sql": self.sql, "params": [values[name] for name in self.names]}


Dialect = dict[str, tuple[Statement, ...]]
"""The statements of each script."""


@cache
def dialect(driver: str) -> Dialect:
    """Return the scripts for a kind of database.

    Raises:
        ConfigError: There are none.
    """
    folder = resources.files("linkly_workers.link.stores.sql")
    known = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("_"))
    if driver not in known:
        raise ConfigError(f"links cannot be kept in a database of kind `{driver}`; kinds: {', '.join(known)}")
    scripts: Dialect = {}
    for file in folder.joinpath(driver).iterdir():
        _, *parts = _NAME.split(file.read_text("utf-8"))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            scripts[name] = tuple(_statement(each) for each in _COMMENT.sub("", text).split(";") if each.strip())
    return scripts


def _statement(text: str) -> Statement:
    return Statement(" ".join(_PARAMETER.sub("?", text).split()), tuple(_PARAMETER.findall(text)))
