"""Statements by text, so that each text is read once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from linkly_workers.database.backend import Statement

KEPT = 1000
LONGEST_KEPT = 10_000

S = TypeVar("S", bound=Statement)


class StatementsByText(Generic[S]):
    """Statements by text; the oldest goes when there are `KEPT`. `found` makes one, or raises why there is none."""

    def __init__(self, found: Callable[[str], S]) -> None:
        self._found = found
        self._kept: dict[str, S] = {}

    def of(self, sql: str) -> S:
        """Return the statement of a text.

        Raises:
            DriverError: There is none in it.
            InvalidParam: Callers may not send it, or its placeholders are unclear.
        """
        statement = self._kept.get(sql)
        if statement is None:
            statement = self._found(sql)
            if len(sql) <= LONGEST_KEPT:
                if len(self._kept) >= KEPT:
                    del self._kept[next(iter(self._kept))]
                self._kept[sql] = statement
        return statement
