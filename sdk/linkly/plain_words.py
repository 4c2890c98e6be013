"""What a settings file should have and what it has, in the words of the person who writes it.

msgspec says "Expected `int` <= 65535"; a person reads "expected a whole number of at most 65535, got 70000".
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "`true` or `false`",
    "str": "text",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}
_BOUNDS = {">=": "of at least", "<=": "of at most", ">": "above", "<": "below"}
_EXPECTED = re.compile(r"Expected `([a-z |]+)`(?:, got `\w+`)?(.*)", re.DOTALL)
_BOUND = re.compile(r" (of length )?([<>]=?) (.+?)(?:\.0)?")
_ENUM = re.compile(r"Invalid enum value (.*)", re.DOTALL)


def kind(value: object) -> str:
    """Name what stands where something else was expected."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    return f"the text {value!r}" if isinstance(value, str) else f"{type(value).__name__} {value}"


def unknown_key(key: object, allowed: Sequence[str]) -> str:
    """Return what is wrong with a key that nobody reads, with the one that was meant."""
    meant = "".join(f" (`{near}`?)" for near in difflib.get_close_matches(str(key), allowed, n=1))
    return f"unknown key{meant}; allowed here: {', '.join(allowed) or 'nothing'}"


def in_plain_words(reason: str, value: Any) -> str:
    """Return what msgspec has against a value; a reason of somebody else's stays as it is."""
    unknown = _ENUM.fullmatch(reason)
    if unknown is not None:
        return f"unknown value {unknown[1]}"
    expected = _EXPECTED.fullmatch(reason)
    if expected is None:
        return reason
    kinds = expected[1].split(" | ")
    words = " or ".join(_KINDS.get(kind, kind) for kind in kinds if kind != "null" or len(kinds) == 1)
    bound = _BOUND.fullmatch(expected[2])
    if bound is None:
        words += expected[2]
    else:
        words += f"{' with a length' if bound[1] else ''} {_BOUNDS[bound[2]]} {bound[3]}"
    # A text in the place of a mapping may be a URL with its password.
    secret = isinstance(value, str) and {"object", "array", "null"}.issuperset(kinds)
    return f"expected {words}, got {'text' if secret else kind(value)}"
