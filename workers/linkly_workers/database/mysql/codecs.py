"""How values of MySQL and MariaDB become values of JSON, without loss.

Where Python's type is narrower than MySQL's (`0000-00-00`, `-838:59:59`, DECIMAL), and where JSON has none, a value
travels as the text that the server shows and takes. Of a FLOAT that text has six digits: see `binary`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from linkly_workers.database._server.json_value import json_value

_TINY, _SHORT, _LONG, FLOAT, DOUBLE, _NULL = range(1, 7)
_TIMESTAMP, _LONGLONG, _INT24, _DATE, _TIME, _DATETIME, _YEAR, _NEWDATE, _VARCHAR, _BIT = range(7, 17)
_JSON, _NEWDECIMAL, _ENUM, _SET, _TINY_BLOB, _MEDIUM_BLOB, _LONG_BLOB, _BLOB, _VAR_STRING, _STRING, _GEOMETRY = range(
    245, 256
)
UNSIGNED, _IS_ENUM, _IS_SET = 32, 256, 2048
_BINARY = 63
"""The character set of what is no text."""
_EXACT_BITS = 53
"""An integer of more bits may be none that every reader of JSON has."""


class Field(Protocol):
    """A column of a result, as the driver describes it.

    Attributes:
        type_code: The server's type.
        flags: Of the column.
        charsetnr: The server's number of its collation.
        length: Bytes that it may have, or bits.
        scale: Digits behind the point.
    """

    type_code: int
    flags: int
    charsetnr: int
    length: int
    scale: int


def _moment(text: str) -> str:
    """Return ISO 8601 without a zone: the server takes none back. The session's is UTC, where the type has one."""
    return text.replace(" ", "T")


def _bits(value: bytes) -> int:
    return int.from_bytes(value, "big")


DECODERS: dict[int, Callable[[Any], Any]] = {
    **dict.fromkeys((_TINY, _SHORT, _LONG, _LONGLONG, _INT24, _YEAR), int),
    **dict.fromkeys((FLOAT, DOUBLE), float),
    **dict.fromkeys((_TIMESTAMP, _DATETIME), _moment),
    _BIT: _bits,
    _JSON: json_value,
}
"""What the driver does with a value, by the type of its column; without one it stays text, or bytes."""

_NAMES = {
    _TINY: "tinyint",
    _SHORT: "smallint",
    _INT24: "mediumint",
    _LONG: "int",
    _LONGLONG: "bigint",
    _YEAR: "year",
    FLOAT: "float",
    DOUBLE: "double",
    _NEWDECIMAL: "decimal",
    0: "decimal",
    _BIT: "bit",
    _NULL: "null",
    _DATE: "date",
    _NEWDATE: "date",
    _TIME: "time",
    _DATETIME: "datetime",
    _TIMESTAMP: "timestamp",
    _JSON: "json",
    _ENUM: "enum",
    _SET: "set",
    _GEOMETRY: "geometry",
}
_STRINGS = {
    **dict.fromkeys((_VARCHAR, _VAR_STRING), ("varchar", "varbinary")),
    **dict.fromkeys((_TINY_BLOB, _BLOB, _MEDIUM_BLOB, _LONG_BLOB), ("text", "blob")),
    _STRING: ("char", "binary"),
}
_INTEGERS = frozenset((_TINY, _SHORT, _INT24, _LONG, _LONGLONG))


def type_name(field: Field) -> str:
    """Return the type of a column as one would declare it, without its length."""
    kind = field.type_code
    if field.flags & (_IS_ENUM | _IS_SET):
        return "enum" if field.flags & _IS_ENUM else "set"
    if kind in _STRINGS:
        return _STRINGS[kind][field.charsetnr == _BINARY]
    name = _NAMES.get(kind, "")
    return f"{name} unsigned" if kind in _INTEGERS and field.flags & UNSIGNED else name


def big_integers(fields: Sequence[Field]) -> list[int]:
    """Return the places of the columns whose integers may have more than 53 bits."""
    return [
        at
        for at, field in enumerate(fields)
        if field.type_code == _LONGLONG or (field.type_code == _BIT and field.length > _EXACT_BITS)
    ]
