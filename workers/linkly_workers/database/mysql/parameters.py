"""Values of JSON as literals of MySQL, or refused with their index.

A literal means the same whatever the session's `sql_mode` says of backslashes: there is none in it. It knows no
connection.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from linkly_workers._sql.parameters import WrongNumberOfValues
from linkly_workers.database.errors import DriverError, InvalidParam
from linkly_workers.database.mysql.statement import Statement

MOST_DIGITS = 65
"""Of a DECIMAL, the widest of the exact numbers."""

_AS_HEXADECIMAL = re.compile(r"[\\\0\x1a]")


def bound(statement: Statement, values: list[Any]) -> str:
    """Return the text of a statement with its values in it.

    Raises:
        DriverError: There are too many values or too few.
        InvalidParam: One cannot be sent; `details.index` says which.
    """
    try:
        statement.parameters.check(len(values))
    except WrongNumberOfValues as error:
        raise DriverError(str(error), details={"driver": "mysql", "inner_code": None}) from error
    if not values:
        return statement.text
    literals = [_literal(index, value) for index, value in enumerate(values)]
    parts = [statement.around[0]]
    for placeholder, behind in zip(statement.parameters.placeholders, statement.around[1:], strict=True):
        parts += (literals[placeholder.number - 1], behind)
    return "".join(parts)


def _literal(index: int, value: Any) -> str:
    try:
        return "NULL" if value is None else _LITERALS[type(value)](value)
    except ValueError as error:
        why = "there is half of a surrogate pair in it" if isinstance(error, UnicodeEncodeError) else str(error)
        raise InvalidParam(f"params[{index}]: {why}", details={"index": index, "reason": why}) from error


def _bool(value: bool) -> str:
    return "TRUE" if value else "FALSE"


def _integer(value: int) -> str:
    if abs(value) >= 10**MOST_DIGITS:
        raise ValueError(f"an integer has at most {MOST_DIGITS} digits")
    return str(value)


def _float(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"{value} is no number that MySQL has")
    text = repr(value)
    return text if "e" in text else f"{text}e0"  # without an exponent it would be a DECIMAL


def _text(value: str) -> str:
    if not value.isascii():
        value.encode()  # half of a surrogate pair is a ValueError
    if _AS_HEXADECIMAL.search(value):
        return f"_utf8mb4 X'{value.encode().hex()}'"
    return "'" + value.replace("'", "''") + "'"


def _bytes(value: bytes) -> str:
    return f"_binary X'{value.hex()}'"


_LITERALS: dict[type, Callable[[Any], str]] = {
    bool: _bool,
    int: _integer,
    float: _float,
    str: _text,
    bytes: _bytes,
}
