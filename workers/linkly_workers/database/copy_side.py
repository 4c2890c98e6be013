"""What a database says of a table that is copied to another one, and what it is asked to do for a copy: `CopySide`.

Kinds of columns stand between two kinds of databases. A column that has none of the others' kinds is text: every value
of every database has one.
"""

from __future__ import annotations

from collections.abc import Sequence
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
