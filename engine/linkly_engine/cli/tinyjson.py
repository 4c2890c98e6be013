"""JSON through the C parts of the standard library alone.

`import json` pulls in `re` and costs more than everything else `linkly trigger` does (measured: 13 ms of a 17 ms
interpreter start). The scanner and the string encoder below are the very ones `json` uses.
"""

from __future__ import annotations

import sys
from _json import encode_basestring
from _json import make_scanner as _make_scanner

TYPE_CHECKING = False  # type checkers take this name for true; importing it from typing costs 5 ms
if TYPE_CHECKING:
    from typing import Any


def _finite(text: str) -> float:
    value = float(text)
    if value - value:  # only infinity is not 0: other parsers refuse such a number, or the whole message with it
        raise ValueError(f"{text} is too large for a number")
    return value


class _Context:
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = staticmethod(_finite)
    parse_int = int
    memo: dict[str, str] = {}

    @staticmethod
    def parse_constant(name: str) -> Any:
        raise ValueError(f"{name} is no JSON value")


# The type stub wants a scanner; CPython reads the attributes above.
_context: Any = _Context()
_scan = _make_scanner(_context)
_BLANK = " \t\n\r"

DEEP = 50_000
"""Frames of Python's own are cheap: two for each level, and the scanner gives up long before."""


def loads(text: str) -> Any:
    """Decode one JSON value.

    Raises:
        ValueError: The text is something else.
    """
    start = 0
    while start < len(text) and text[start] in _BLANK:
        start += 1
    try:
        value, end = _scan(text, start)
    except StopIteration as error:
        raise ValueError(f"expected a JSON value at character {error.value + 1}") from None
    except SystemError:
        # Up to 3.11 the scanner finds its exception in this module only if somebody has imported it.
        __import__("json.decoder")
        value, end = _scan(text, start)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if text[end:].strip(_BLANK):
        raise ValueError("there is more text behind the JSON value")
    return value


def dumps(value: Any, *, indent: int = 0) -> str:
    """Encode plain data; with `indent`: one member a line, keys sorted, as people and diffs like it."""
    try:
        return _encoded(value, indent, 0)
    except RecursionError:  # the scanner reads deeper than this limit lets us write
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(DEEP)
        try:
            return _encoded(value, indent, 0)
        finally:
            sys.setrecursionlimit(limit)


def _encoded(value: Any, indent: int, depth: int) -> str:
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, str):
        return str(encode_basestring(value))
    if isinstance(value, (int, float)):
        return repr(value)
    inner = "\n" + " " * (indent * (depth + 1)) if indent else ""
    outer = "\n" + " " * (indent * depth) if indent else ""
    colon = ": " if indent else ":"
    if isinstance(value, dict):
        keys = sorted(value) if indent else list(value)
        members = [f"{encode_basestring(key)}{colon}{_encoded(value[key], indent, depth + 1)}" for key in keys]
        opening, closing = "{", "}"
    else:
        members = [_encoded(item, indent, depth + 1) for item in value]
        opening, closing = "[", "]"
    if not members:
        return opening + closing
    return opening + inner + ("," + inner).join(members) + outer + closing
