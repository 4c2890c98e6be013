"""What the sides of a copy have in common: names, tables and their rows, as the SQL standard writes them; `Side`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from linkly_workers.database.backend import Describe, Rows
from linkly_workers.database.copy_side import CopyColumn, CopyTable

Quoted = Callable[[str], str]
"""Returns a name as SQL."""


LITERAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?|'(?:[^']|'')*'")
"""A default that means the same in every kind of database whose strings have no backslashes."""


def quoted(name: str) -> str:
    """Return a name as standard SQL."""
    return '"' + name.replace('"', '""') + '"'


def listed(names: Sequence[str], as_sql: Quoted = quoted) -> str:
    """Return names as SQL, with commas between."""
    return ", ".join(map(as_sql, names))


def create_table(
    table: CopyTable,
    columns: Mapping[str, str],
    more: Sequence[str] = (),
    as_sql: Quoted = quoted,
    *,
    indexes: bool = True,
) -> list[str]:
    """Return the statements for a table and, if they are not among `more`, its indexes.

    `columns` has name and definition of each column.
    """
    parts = [f"{as_sql(name)} {definition}" for name, definition in columns.items()]
    parts += more
    parts += [f"UNIQUE ({listed(names, as_sql)})" for names in table.unique]
    for key in table.foreign_keys:
        theirs = [name for name in key["references"] if name is not None]
        parts.append(
            f"FOREIGN KEY ({listed(key['columns'], as_sql)}) REFERENCES {as_sql(key['table'])}"
            + (f" ({listed(theirs, as_sql)})" if theirs else "")
            + f" ON UPDATE {key['on_update']} ON DELETE {key['on_delete']}"
        )
    statements = [f"CREATE TABLE {as_sql(table.name)} (\n    " + ",\n    ".join(parts) + "\n)"]
    for name, names, unique in table.indexes if indexes else ():
        word = "UNIQUE INDEX" if unique else "INDEX"
        statements.append(f"CREATE {word} {as_sql(name)} ON {as_sql(table.name)} ({listed(names, as_sql)})")
    return statements


def insert_text(
    table: CopyTable,
    columns: Sequence[str],
    value: Sequence[str],
    rows: int,
    as_sql: Quoted = quoted,
    values: str = "VALUES",
) -> str:
    """Return an INSERT; `value` is what stands for each column, `values` the word in front of them."""
    one = f"({', '.join(value)})"
    return f"INSERT INTO {as_sql(table.name)} ({listed(columns, as_sql)}) {values} {', '.join([one] * rows)}"


def replacing(table: CopyTable, columns: Sequence[str]) -> str:
    """Return what stands behind an INSERT of standard SQL whose rows replace those with the same primary key."""
    if not table.primary_key:
        return ""
    sets = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in columns if name not in table.primary_key)
    return f" ON CONFLICT ({listed(table.primary_key)}) DO {f'UPDATE SET {sets}' if sets else 'NOTHING'}"


class Side:
    """What most sides do: see `CopySide`.

    Args:
        url: Where the database is, without a password.
        rows: Asks it.
        describe: Describes a table of it.
    """

    loses_nan = False
    numbers_zero = False
    commits_tables = False

    def __init__(self, url: str, rows: Rows, describe: Describe) -> None:
        self._url = url
        self._rows = rows
        self._describe = describe

    async def place(self) -> str:
        """Return where its tables are."""
        return self._url

    def quoted(self, name: str) -> str:
        """Return a name as standard SQL."""
        return quoted(name)

    async def decide(self, table: CopyTable) -> None:
        """Do nothing: every column has a type."""

    def reading(self, column: CopyColumn) -> str:
        """Return what a SELECT says for a column: its name."""
        return self.quoted(column.name)

    def count_on(self, table: CopyTable) -> list[str]:
        """Return nothing: the database goes on behind the highest number."""
        del table
        return []
