"""Values of JSON as a statement's parameters: each is made what its type asks for, or refused with its index.

The driver wants the exact Python type for numbers, booleans and bytes; every other type takes a text, which the server
reads. It knows names of types and no connection.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from linkly_workers.database.errors import InvalidParam

Converter = Callable[[Any], Any]
"""Makes a value what the driver takes; raises `ValueError` with a clause that says what is wrong."""

_INTEGERS = {"int2": 15, "int4": 31, "int8": 63}
_INTEGER = re.compile(r"\s*[+-]?[0-9]+\s*")
_INTEGER_ONLY, _TEXT_OR_NULL = frozenset((int,)), frozenset((str, type(None)))
_TRUE = frozenset(("t", "true", "y", "yes", "on", "1"))
_FALSE = frozenset(("f", "false", "n", "no", "off", "0"))


def converter_of(name: str, kind: str) -> Converter:
    """Return the converter of a type, by its name and the driver's kind of type."""
    if kind == "array":
        element = name.removesuffix("[]")
        return _array(converter_of(element, "scalar"), _fits_of(element))
    if kind != "scalar":
        return _only_by_text(name)
    if name in _INTEGERS:
        return _integer(name, _INTEGERS[name])
    return _CONVERTERS.get(name, _text)


def converted(converters: Sequence[Converter], values: Sequence[Any]) -> list[Any]:
    """Return values as the driver takes them.

    Raises:
        InvalidParam: One does not fit; `details.index` says which.
    """
    found: list[Any] = []
    for converter, value in zip(converters, values, strict=True):
        try:
            found.append(None if value is None else converter(value))
        except (ValueError, OverflowError) as error:
            raise refused_value(len(found), str(error)) from error
    return found


def refused_value(index: int, why: str) -> InvalidParam:
    """Return the error for a value that cannot be used."""
    return InvalidParam(f"params[{index}]: {why}", details={"index": index, "reason": why})


def _shown(value: object) -> str:
    text = "bytes" if isinstance(value, bytes) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _integer(name: str, bits: int) -> Converter:
    lowest, highest = -(2**bits), 2**bits - 1

    def convert(value: Any) -> int:
        is_text = isinstance(value, str) and len(value) < 40 and _INTEGER.fullmatch(value)
        if not (isinstance(value, int) or (isinstance(value, float) and value.is_integer()) or is_text):
            raise ValueError(f"{_shown(value)} is no integer, and the statement takes {name} there")
        number = int(value)
        if not lowest <= number <= highest:
            raise ValueError(f"{number} does not fit {name}")
        return number

    return convert


def _float(value: Any) -> float:
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str) and "_" not in value:
        with suppress(ValueError):
            return float(value)
    raise ValueError(f"{_shown(value)} is no number, and the statement takes float8 there")


def _bool(value: Any) -> bool:
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError(f"{_shown(value)} is neither true nor false, and the statement takes bool there")


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str) and value.startswith("\\x"):
        return bytes.fromhex(value[2:])
    raise ValueError(f'{_shown(value)} is not bytes: send {{"$blob": base64}}, or the text \\x and hexadecimal digits')


def _letter(value: Any) -> bytes:
    text = _text(value)
    if len(text) > 1 or text > "\xff":
        raise ValueError(f'{_shown(value)} is more than one byte, and the statement takes a "char" there')
    return text.encode("latin-1") or b"\0"


def _text(value: Any) -> str:
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("there is a NUL character in it, which PostgreSQL has in no text; send bytes to a bytea")
        if not value.isascii():
            value.encode()  # a lone surrogate is a ValueError
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, (int, float)):
        return repr(value)
    raise ValueError("it is bytes, and the statement takes no bytes there; is the column a bytea?")


def _json(value: Any) -> str:
    """Texts are JSON texts, as in `'{"a": 1}'::jsonb`: lists and objects come as such (`values.check_parameters`)."""
    return _text(value)


def _oid(value: Any) -> int:
    if isinstance(value, str) and not value.strip().isdigit():
        raise ValueError(f"{_shown(value)} is no oid; write `$1::text::regclass`")
    number: int = _integer("oid", 32)(value)
    return number


def _fits_of(name: str) -> Callable[[list[Any]], bool] | None:
    """Return what tells of a whole list whether it can stay as it is, `None` where its items are made something else.

    A list of 64 texts takes 5 us this way, and 70 item by item.
    """
    if name in _INTEGERS:
        lowest, highest = -(2 ** _INTEGERS[name]), 2 ** _INTEGERS[name] - 1
        return lambda items: (
            _INTEGER_ONLY.issuperset(map(type, items))
            and (not items or (lowest <= min(items) and max(items) <= highest))
        )
    return _are_plain_texts if _CONVERTERS.get(name, _text) is _text else None


def _are_plain_texts(items: list[Any]) -> bool:
    if not _TEXT_OR_NULL.issuperset(map(type, items)):
        return False
    together = "".join(filter(None, items))
    return "\0" not in together and together.isascii()


def _read(text: str) -> Any:
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(text)
    return json.loads(text)  # takes NaN and infinity, and says of anything else what is wrong


def _array(element: Converter, fits: Callable[[list[Any]], bool] | None) -> Converter:
    def convert(value: Any) -> list[Any]:
        items = _read(value) if isinstance(value, str) and value.lstrip().startswith("[") else None
        if not isinstance(items, list):
            raise ValueError(f"{_shown(value)} is no list, and the statement takes an array there")
        return items if fits is not None and fits(items) else each(items)

    def each(items: list[Any]) -> list[Any]:
        return [
            each(item) if isinstance(item, list) and element is not _json else None if item is None else one(item)
            for item in items
        ]

    def one(item: Any) -> Any:
        if isinstance(item, dict) and list(item) == ["$blob"]:
            raise ValueError("bytes in an array are written as the text \\x and hexadecimal digits")
        if isinstance(item, (list, dict)) or element is _json:
            return element(json.dumps(item))
        return element(item)

    return convert


def _only_by_text(name: str) -> Converter:
    def convert(value: Any) -> Any:
        raise ValueError(f"a value of type {name} is written as text and cast: `$1::text::{name}`")

    return convert


_CONVERTERS: dict[str, Converter] = {
    "bool": _bool,
    "float8": _float,
    "bytea": _bytes,
    "char": _letter,
    "oid": _oid,
    "json": _json,
    "jsonb": _json,
    "record": _only_by_text("record"),
}
