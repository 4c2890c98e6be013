"""The statements that a connection keeps compiled: what their parameters take, and what their columns give."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec

from linkly_workers.database.errors import DriverError, InvalidParam
from linkly_workers.database.postgres.codecs import AS_BYTES
from linkly_workers.database.postgres.parameters import Converter, converted, converter_of

PREPARED = 200
"""Statements that a connection keeps compiled."""

_BIG = frozenset(("int8", "int8[]"))
_AS_TEXT_ONLY = frozenset(("composite", "range", "multirange"))


class Prepared(msgspec.Struct):
    """A compiled statement.

    Attributes:
        statement: The driver's.
        converters: Make of a value what a parameter takes, one for each.
        columns: Their names.
        types: Of the columns, by PostgreSQL's names.
        letters: Places of the columns that the driver gives as bytes and that are texts of one letter.
        big_integers: Places of the columns whose numbers may not fit a double.
    """

    statement: Any
    converters: list[Converter]
    columns: list[str]
    types: list[str]
    letters: list[int]
    big_integers: list[int]

    def arguments(self, values: list[Any]) -> list[Any]:
        """Return values as the statement takes them.

        Raises:
            InvalidParam: One does not fit.
        """
        return converted(self.converters, values)

    def rows(self, records: Iterable[Any]) -> list[tuple[Any, ...]]:
        """Return rows of the driver's as they are in a result."""
        rows = [tuple(record) for record in records]
        return [_with_letters(row, self.letters) for row in rows] if self.letters else rows


class PreparedStatements:
    """The compiled statements of one connection.

    Args:
        raw: The driver's connection.
        keeps: The server behind it stays the same, so that a statement may be run again.
    """

    def __init__(self, raw: Any, *, keeps: bool) -> None:
        self._raw = raw
        self._keeps = keeps
        self._kept: dict[str, Prepared] = {}
        self._compilations = 0

    def kept_for(self, text: str, values: list[Any]) -> tuple[Prepared, list[Any]] | None:
        """Return a statement that is compiled already, and values as it takes them; `None` if it has to be compiled.

        What it was compiled for may have other types since; so a value that does not fit is looked at once more.
        """
        kept = self._kept.get(text)
        if kept is not None:
            with suppress(InvalidParam):
                return kept, kept.arguments(values)
        return None

    async def compiled(self, text: str) -> Prepared:
        """Compile a statement, and keep it.

        Raises:
            asyncpg.PostgresError: The server refused it.
            DriverError: A column has no JSON form.
        """
        # The driver gives names only to what it keeps itself, and its cache would be a second one.
        self._compilations += 1
        name = f"linkly_{self._compilations}" if self._keeps else ""
        statement: Any = await self._raw.prepare(text, name=name)
        attributes: Any = statement.get_attributes()
        for column in attributes:
            if column.type.kind in _AS_TEXT_ONLY or column.type.name == "record":
                raise DriverError(
                    f"column `{column.name}` has type {column.type.name}, which has no JSON form; "
                    f"cast it: `{column.name}::text`",
                    details={"driver": "postgres", "inner_code": "UNSUPPORTED"},
                )
        prepared = Prepared(
            statement,
            [converter_of(each.name, each.kind) for each in statement.get_parameters()],
            [column.name for column in attributes],
            [column.type.name for column in attributes],
            [at for at, column in enumerate(attributes) if column.type.name in AS_BYTES],
            [at for at, column in enumerate(attributes) if column.type.name in _BIG],
        )
        if self._keeps:
            if len(self._kept) >= PREPARED:
                del self._kept[next(iter(self._kept))]
            self._kept[text] = prepared
        return prepared

    def forget(self) -> None:
        """Keep none: what they were compiled for has changed."""
        self._kept.clear()


def _with_letters(row: tuple[Any, ...], places: list[int]) -> tuple[Any, ...]:
    found = list(row)
    for at in places:
        found[at] = _letters(row[at])
    return tuple(found)


def _letters(value: Any) -> Any:
    if isinstance(value, list):
        return [_letters(item) for item in value]
    return None if value is None else value.decode("latin-1").rstrip("\0")
