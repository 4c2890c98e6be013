"""The SQL of a worker for one kind of database: the `.sql` files in the folder named after its driver, read once.

A file holds scripts. `-- name: NAME` begins one; its statements end with `;`, and `:NAME` stands for a parameter. In
`VALUES (:a, :b), ...` the row stands for as many as there are: `a` and `b` are lists then. `:[a, b]` is one parameter
for such lists, a JSON text of rows: for databases that read one as a table. A script whose name has a
dot in it (`links.clicks`) is a migration: it runs if script `columns` does not list it, and so does `tables`. Another
kind of database is another folder with scripts of the same names. Three are only where they are needed: `indexes`;
`lock`, which begins the transaction of each migration; and `collation`, which finds what stands for `{collation}` in
what makes tables.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from itertools import chain
from typing import Any

import msgspec

from linkly.errors import ConfigError

ALONE = frozenset(("sqlite",))
"""Kinds of database that one engine has for itself; elsewhere several may share one."""

COMMITTING = frozenset(("mysql",))
"""Kinds of database where what makes tables commits by itself, so that no transaction takes it: each statement of a
migration has to bear repetition there."""

_NAME = re.compile(r"^-- name: (\S+)$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)
_PARAMETER = re.compile(r"(?<!:):([a-z_]+|\[[a-z_, ]+\])")
_MANY = "), ..."

ROWS = (4, 16, 64, 128)
"""How many rows a statement with `...` is written for: few texts, so that each is compiled once. Rows of NULL fill it
up, 0.3 us each. 128 clicks take 1 to 2 ms, which the loop's thread of a database in this process still runs."""


class Statement(msgspec.Struct, frozen=True):
    """One SQL statement, with `?` for the parameters of these names; `[a, b]` names rows of `a` and `b`."""

    sql: str
    names: tuple[str, ...]

    def using(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return it with the values of its parameters, as `database::*` takes it."""
        return {"sql": self.sql, "params": [_value(name, values) for name in self.names]}


class RowsStatement(msgspec.Struct, frozen=True):
    """One SQL statement with a row that is repeated: its text for each size of `ROWS`, and the names by place."""

    texts: dict[int, str]
    before: tuple[str, ...]
    columns: tuple[str, ...]
    after: tuple[str, ...]

    def using(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return it with the values of its parameters; those of the columns are lists of at most `ROWS[-1]` values."""
        rows = list(chain.from_iterable(zip(*(values[name] for name in self.columns), strict=True)))
        count = len(rows) // len(self.columns)
        size = next(size for size in ROWS if size >= count)
        rows.extend([None] * (len(self.columns) * (size - count)))
        before, after = ([values[name] for name in names] for names in (self.before, self.after))
        return {"sql": self.texts[size], "params": [*before, *rows, *after]}


Dialect = dict[str, tuple[Statement | RowsStatement, ...]]
"""The statements of each script."""


def _value(name: str, values: dict[str, Any]) -> Any:
    if name.startswith("["):
        return list(zip(*(values[column] for column in name[1:-1].split(", ")), strict=True))
    return values[name]


@cache
def dialect(package: str, driver: str) -> Dialect:
    """Return the scripts of a package, which has a folder for each kind of database.

    Raises:
        ConfigError: There is none for this kind.
    """
    folder = resources.files(package)
    known = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("_"))
    if driver not in known:
        raise ConfigError(f"there are no scripts for a database of kind `{driver}`; kinds: {', '.join(known)}")
    scripts: Dialect = {}
    for file in folder.joinpath(driver).iterdir():
        _, *parts = _NAME.split(file.read_text("utf-8"))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            scripts[name] = tuple(_statement(each) for each in _COMMENT.sub("", text).split(";") if each.strip())
    return scripts


def _statement(text: str) -> Statement | RowsStatement:
    sql, names = " ".join(_PARAMETER.sub("?", text).split()), tuple(_PARAMETER.findall(text))
    end = sql.find(_MANY) + 1
    if not end:
        return Statement(sql, names)
    start = _opening(sql, end)
    one = sql[start:end].replace(" ", "")
    texts = {size: sql[:start] + ",".join([one] * size) + sql[end + len(_MANY) - 1 :] for size in ROWS}
    first = sql.count("?", 0, start)
    behind = first + one.count("?")
    return RowsStatement(texts, names[:first], names[first:behind], names[behind:])


def _opening(sql: str, end: int) -> int:
    """Return where the parenthesis opens that closes before `end`."""
    depth = 0
    for at in range(end - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(sql[at], 0)
        if not depth:
            return at
    raise ConfigError(f"no parenthesis opens the row in: {sql}")
