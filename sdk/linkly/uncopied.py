"""Which values cross the bus inside one process as they are: those that nobody can change.

Everything else is copied, so that what one side does to its value is nothing to the other. A frozen Struct whose fields
are scalars, or such Structs, needs no copy; but Python lets it be made with any value in any field, a list where the
hint says `str`. So each value is looked at: one that does not fit its hints takes the way of all others, on which it is
refused as over a connection. Measured: 0.06 us for two fields, 0.3 for encoding and decoding them.

This module must never know the bus. It offers `uncopied`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from msgspec import inspect

Check: TypeAlias = Callable[[Any], bool]
"""Whether a value of its type fits the hints of its type."""

_SCALARS: dict[type[inspect.Type], type] = {
    inspect.StrType: str,
    inspect.IntType: int,
    inspect.FloatType: float,
    inspect.BoolType: bool,
    inspect.NoneType: type(None),
}
NONE: Mapping[type, Check] = MappingProxyType({})


def uncopied(type_hint: Any) -> Mapping[type, Check]:
    """Return the types of values that need no copy where `type_hint` is expected, each with its check."""
    try:
        info = inspect.type_info(type_hint)
    except TypeError:  # it has no JSON form; whoever needs one says so
        return NONE
    return {each.cls: check for each in _structs(info) if (check := _check_of(each)) is not None}


def _structs(info: inspect.Type) -> Iterator[inspect.StructType]:
    for each in info.types if isinstance(info, inspect.UnionType) else (info,):
        if isinstance(each, inspect.StructType):
            yield each


def _check_of(info: inspect.StructType) -> Check | None:
    """Return the check as one expression of Python: a loop over the fields takes five times as long."""
    names: dict[str, Any] = {}
    expression = _fields_fit(info, "value", names, ())
    check: Check | None = None if expression is None else eval(f"lambda value: {expression}", names)
    return check


def _fields_fit(info: inspect.StructType, path: str, names: dict[str, Any], outer: tuple[type, ...]) -> str | None:
    config = info.cls.__struct_config__
    if not config.frozen or config.dict or info.cls in outer:
        return None
    parts = [_fits(field.type, f"{path}.{field.name}", names, (*outer, info.cls)) for field in info.fields]
    return " and ".join(part for part in parts if part is not None) or "True" if None not in parts else None


def _fits(info: inspect.Type, path: str, names: dict[str, Any], outer: tuple[type, ...]) -> str | None:
    """Return an expression that is true where the value at `path` fits; `None` if it may be one that changes."""
    if isinstance(info, inspect.Metadata):  # examples and the like, which say nothing of what fits
        return _fits(info.type, path, names, outer)
    if isinstance(info, inspect.UnionType):
        parts = [_fits(each, path, names, outer) for each in info.types]
        return f"({' or '.join(part for part in parts if part is not None)})" if None not in parts else None
    if isinstance(info, inspect.StructType):
        inside = _fields_fit(info, path, names, outer)
        return None if inside is None else f"({_is(info.cls, path, names)} and {inside})"
    scalar = _SCALARS.get(type(info))
    if scalar is None or info != type(info)():  # limits (`Meta(ge=1)`) are checked by decoding
        return None
    if scalar is float:  # JSON has neither infinity nor NaN
        return f"({_is(float, path, names)} and {path} - {path} == 0)"
    if scalar is str:  # nor half a surrogate pair
        names["has_utf8"] = _has_utf8
        return f"({_is(str, path, names)} and ({path}.isascii() or has_utf8({path})))"
    return _is(scalar, path, names)


def _has_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is(cls: type, path: str, names: dict[str, Any]) -> str:
    name = f"t{len(names)}"
    names[name] = cls
    return f"type({path}) is {name}"
