"""Statements by text, so that each text is read once; and texts that callers may not send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from linkly_workers._sql.parameters import Parameters, UnclearPlaceholders, parameters_of
from linkly_workers._sql.tokens import Dialect
from linkly_workers.database.backend import Statement
from linkly_workers.database.errors import DriverError, InvalidParam

KEPT = 1000
LONGEST_KEPT = 10_000

S = TypeVar("S", bound=Statement)


class StatementsByText(Generic[S]):
    """Statements by text; the oldest goes when there are `KEPT`. `read` makes one, or raises why there is none."""

    def __init__(self, read: Callable[[str], S]) -> None:
        self._read = read
        self._kept: dict[str, S] = {}

    def of(self, sql: str) -> S:
        """Return the statement of a text.

        Raises:
            DriverError: There is none in it.
            InvalidParam: Callers may not send it, or its placeholders are unclear.
        """
        statement = self._kept.get(sql)
        if statement is None:
            statement = self._read(sql)
            if len(sql) <= LONGEST_KEPT:
                if len(self._kept) >= KEPT:
                    del self._kept[next(iter(self._kept))]
                self._kept[sql] = statement
        return statement


def parameters_to_send(sql: str, dialect: Dialect, *, empty: bool, refusal: tuple[str, str] | None) -> Parameters:
    """Return what a text says of its values; `refusal` is why callers may not send it, and the reason in a few words.

    Raises:
        DriverError: There is no statement in it.
        InvalidParam: Callers may not send it, or its placeholders are unclear.
    """
    if empty:
        raise DriverError("empty SQL", details={"driver": dialect.driver, "inner_code": None})
    if refusal is not None:
        why, reason = refusal
        raise InvalidParam(why, details={"index": 0, "reason": reason})
    try:
        return parameters_of(sql, dialect)
    except UnclearPlaceholders as error:
        raise InvalidParam(str(error), details={"index": 0, "reason": "unclear placeholders"}) from error
