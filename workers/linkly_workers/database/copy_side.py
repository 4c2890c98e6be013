"""What a database says of a table that is copied to another one, and how SQL for a copy is written there: `CopySide`.

Kinds of columns stand between two kinds of databases. A column that has none of the others' kinds is text: every value
of every database has one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

Kind = Literal["integer", "real", "number", "boolean", "text", "bytes", "json"]
"""`number` has any number of digits; `integer` 64 bits."""


class CopyColumn(msgspec.Struct, kw_only=True):
    """A column.

    Attributes:
        name: As the database has it.
        kind: What its values are.
        declared: Its type, as the database of the table writes it.
        nullable: It takes NULL.
        default: The SQL of its default, or of what it is computed from, of the table's own database.
        counts: The database numbers its rows where no value is given.
        generated: The database computes it; nobody can write it.
        spelled: Its values travel as text that is cast there and back, because they have no other form.
    """

    name: str
    kind: Kind
    declared: str
    nullable: bool
    default: str | None
    counts: bool = False
    generated: bool = False
    spelled: bool = False


class CopyTable(msgspec.Struct, kw_only=True):
    """A table.

    Attributes:
        name: As it is listed.
        columns: In order.
        order: SQL expressions that tell its rows apart and never are NULL; empty if there are none.
        primary_key: Its columns, in order.
        unique: Columns of its other keys.
        indexes: Name, columns, and whether it is a key; those that can be made elsewhere.
        foreign_keys: As `Database.describe` tells them.
        texts: What makes it, with its indexes, on a database of the same kind; empty if that is put together.
        left_out: What cannot be made elsewhere, a clause each.
    """

    name: str
    columns: list[CopyColumn]
    order: list[str]
    primary_key: list[str]
    unique: list[list[str]]
    indexes: list[tuple[str, list[str], bool]]
    foreign_keys: list[dict[str, Any]]
    texts: list[str]
    left_out: list[str]

    @property
    def written(self) -> list[CopyColumn]:
        """The columns that can be written."""
        return [column for column in self.columns if not column.generated]


class CopySide(Protocol):
    """A database as one of the two sides of a copy.

    Attributes:
        loses_nan: It takes NaN for NULL.
        numbers_zero: It takes 0 in a column that counts for a number that it has to give.
        commits_tables: What makes a table commits by itself, so it cannot be part of a transaction.
    """

    loses_nan: bool
    numbers_zero: bool
    commits_tables: bool

    async def place(self) -> str:
        """Return where its tables are: another text for every other place."""
        ...

    def quoted(self, name: str) -> str:
        """Return a name as SQL."""
        ...

    async def table(self, name: str) -> CopyTable:
        """Return a table that is listed."""
        ...

    async def decide(self, table: CopyTable) -> None:
        """Decide the kinds of the columns of which only their values tell; all rows are looked at."""
        ...

    async def make(self, table: CopyTable, same_kind: bool) -> list[str]:
        """Return the statements that make a table here which is like one of another database.

        Its columns have the kinds of `table`; `same_kind`: that is a database of this kind. `left_out` of the table
        gets a clause for each default that means nothing here.
        """
        ...

    def reading(self, column: CopyColumn) -> str:
        """Return what a SELECT says for a column."""
        ...

    def insert(self, table: CopyTable, columns: Sequence[CopyColumn], rows: int, replace: bool) -> str:
        """Return the INSERT of so many rows; `replace`: a row with the same primary key gets the values."""
        ...

    def count_on(self, table: CopyTable) -> list[str]:
        """Return the statements after which the numbers that the database gives are behind those that are there."""
        ...


Quoted = Callable[[str], str]
"""Returns a name as SQL."""


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
