"""Rows of the binary protocol, as the values that the text protocol has for them, and a FLOAT with all its digits.

The server shows six digits of a FLOAT as text; a prepared statement answers its four bytes. Only what may answer one is
prepared, since the driver reads rows of texts many times as fast. Its own reader of binary rows is not used: it makes
`None` of `0000-00-00`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from linkly_workers.database.mysql.codecs import DOUBLE, FLOAT, UNSIGNED, Field

_INTEGERS = {1: "b", 2: "h", 13: "h", 3: "i", 9: "i", 8: "q"}
"""TINYINT, SMALLINT, YEAR, INT, MEDIUMINT and BIGINT, as `struct` calls them."""
_DATE, _TIME, _DATETIMES = 10, 11, (7, 12)
_ANY_SCALE = 31
"""The scale of a number that has as many digits as it needs, and from which on a moment has six if it has any."""
_SMALLEST_NORMAL = 2.0**-126

Row = Callable[[bytes], tuple[Any, ...]]
_Reader = Callable[[bytes, int], tuple[Any, int]]
"""Reads the value at a place; returns where the next one begins as well."""

_float32 = struct.Struct("<f")


def loses_digits(fields: Sequence[Field]) -> bool:
    """Return whether there is a column of which the text protocol has fewer digits than the table: `FLOAT(7,2)` has
    those that it was declared with."""
    return any(field.type_code == FLOAT and field.scale >= _ANY_SCALE for field in fields)


def row_of(fields: Sequence[Field], converters: Sequence[tuple[Any, str | None, Callable[[Any], Any] | None]]) -> Row:
    """Return what reads a row; `converters` are those of the driver for rows of texts, with the encoding of each."""
    readers = [
        _reader(field, encoding, convert) for field, (_, encoding, convert) in zip(fields, converters, strict=True)
    ]
    first = 1 + (len(readers) + 9) // 8

    def row(data: bytes) -> tuple[Any, ...]:
        values: list[Any] = []
        at = first
        for bit, read in enumerate(readers, 2):
            if data[1 + (bit >> 3)] >> (bit & 7) & 1:
                values.append(None)
            else:
                value, at = read(data, at)
                values.append(value)
        return tuple(values)

    return row


def shortest(value: float) -> float:
    """Return the double of fewest digits among those that are the same FLOAT as `value`."""
    packed = _float32.pack(value)
    digits = 6 if abs(value) >= _SMALLEST_NORMAL else 1
    while _float32.pack(found := float(f"{value:.{digits}g}")) != packed:
        digits += 1
    return found


def _reader(field: Field, encoding: str | None, convert: Callable[[Any], Any] | None) -> _Reader:
    kind, scale = field.type_code, field.scale
    if letter := _INTEGERS.get(kind):
        is_unsigned = field.flags & UNSIGNED
        return _fixed(struct.Struct(f"<{letter.upper() if is_unsigned else letter}"))
    if kind == FLOAT:
        return _fixed(_float32, shortest if scale >= _ANY_SCALE else _rounded(scale))
    if kind == DOUBLE:
        return _fixed(struct.Struct("<d"), None if scale >= _ANY_SCALE else _rounded(scale))
    if kind == _TIME:
        return lambda data, at: _part(data, at, lambda part: _time(part, scale))
    if kind == _DATE:
        return lambda data, at: _part(data, at, _date)
    if kind in _DATETIMES:
        return lambda data, at: _part(data, at, lambda part: f"{_date(part)}T{_clock(part[4:], scale)}")

    def read(data: bytes, at: int) -> tuple[Any, int]:
        start, end = _long(data, at)
        value: Any = data[start:end]
        if encoding is not None:
            value = value.decode(encoding)
        return (value if convert is None else convert(value)), end

    return read


def _fixed(form: struct.Struct, convert: Callable[[Any], Any] | None = None) -> _Reader:
    unpack, size = form.unpack_from, form.size
    if convert is None:
        return lambda data, at: (unpack(data, at)[0], at + size)
    return lambda data, at: (convert(unpack(data, at)[0]), at + size)


def _rounded(scale: int) -> Callable[[float], float]:
    """Return what rounds a number to the digits with which its column shows it."""
    return lambda value: float(f"{value:.{scale}f}")


def _long(data: bytes, at: int) -> tuple[int, int]:
    """Return where a text begins and ends, whose length stands before it."""
    first = data[at]
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first, 0)
    start = at + 1 + size
    return start, start + (int.from_bytes(data[at + 1 : start], "little") if size else first)


def _part(data: bytes, at: int, text: Callable[[bytes], str]) -> tuple[str, int]:
    end = at + 1 + data[at]
    return text(data[at + 1 : end]), end


def _date(part: bytes) -> str:
    """Year, month and day; a part that is cut short goes on with zeros."""
    year, month, day = struct.unpack_from("<HBB", part.ljust(4, b"\0"))
    return f"{year:04d}-{month:02d}-{day:02d}"


def _clock(part: bytes, scale: int, days: int = 0) -> str:
    """Hours, minutes, seconds and the digits of a second that its column has."""
    hours, minutes, seconds, micro = struct.unpack_from("<BBBI", part.ljust(7, b"\0"))
    text = f"{24 * days + hours:02d}:{minutes:02d}:{seconds:02d}"
    digits = scale if scale < _ANY_SCALE else 6 if micro else 0
    return f"{text}.{f'{micro:06d}'[:digits]}" if digits else text


def _time(part: bytes, scale: int) -> str:
    is_negative, days = struct.unpack_from("<BI", part.ljust(5, b"\0"))
    return ("-" if is_negative else "") + _clock(part[5:], scale, days)
