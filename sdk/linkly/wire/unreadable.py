"""What a frame that cannot be read still tells: which call it belongs to.

Every call ends (docs/protocol.md 3.2): a broken call is answered with an error, a broken answer ends the wait for it.
The id is looked for at the top level of the frame only, so that a payload that speaks of other calls ends none of them.

This module must never know sockets, sessions or time.
"""

from __future__ import annotations

import re

import msgspec

LOOKED_AT_BYTES = 64 * 1024
"""How much of a frame is looked at from its start, and from its end if the id does not show at the start.

Node's client puts the id in front of the payload, Python's behind it.
"""

CALL, RESULT = "invokefunction", "invocationresult"

# A string without an end takes the rest: every character is looked at once, however the frame is broken.
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*+)("?)\s*+(:?)|[{}\[\]]', re.DOTALL)
_TOKEN_BACKWARDS = re.compile(r'(:?)\s*+"((?:[^"]|"(?=\\))*+)("?)|[{}\[\]]', re.DOTALL)
"""The same for a text that is read from its end, where a string comes before its name."""

_head_decoder = msgspec.msgpack.Decoder(list[object])
_NATIVE_KINDS = {1: CALL, 2: RESULT, 3: RESULT}


class Remains(msgspec.Struct, frozen=True):
    """What is left of an unreadable frame.

    Attributes:
        kind: `CALL` or `RESULT`.
        invocation_id: Of the call it is about.
        function_id: What was called, `""` if that does not show.
    """

    kind: str
    invocation_id: str
    function_id: str = ""


def remains(data: bytes, *, native: bool) -> Remains | None:
    """Return which call an unreadable frame belongs to, `None` if it shows none."""
    if not native:
        return _json_remains(data)
    length = int.from_bytes(data[:4], "big")
    try:
        head = _head_decoder.decode(data[4 : 4 + length])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if head[:1] == [0]:
        return _json_remains(data[4 + length :])
    kind = _NATIVE_KINDS.get(head[0]) if head and isinstance(head[0], int) else None
    if kind is None or len(head) < 2 or not isinstance(head[1], str):
        return None
    function_id = head[2] if kind == CALL and len(head) > 2 else ""
    return Remains(kind, head[1], function_id if isinstance(function_id, str) else "")


def _json_remains(data: bytes) -> Remains | None:
    fields = _first_fields(data[:LOOKED_AT_BYTES].decode("utf-8", "replace"))
    if len(data) > LOOKED_AT_BYTES and not {"type", "invocation_id"} <= fields.keys():
        fields = _last_fields(data[-LOOKED_AT_BYTES:].decode("utf-8", "replace")) | fields
    kind, invocation_id = fields.get("type", ""), fields.get("invocation_id", "")
    if kind not in (CALL, RESULT) or not invocation_id:
        return None
    return Remains(kind, invocation_id, fields.get("function_id", ""))


def _first_fields(text: str) -> dict[str, str]:
    """Return the strings at the top level of a text that begins as its frame does."""
    fields: dict[str, str] = {}
    depth, name = 0, ""
    for token in _TOKEN.finditer(text):
        string, closed, is_name = token.groups()
        if string is None:
            depth += 1 if token.group() in "{[" else -1
            name = ""
        elif depth == 1 and closed:
            if is_name:
                name = string
            else:
                fields.setdefault(name, string)  # the first: behind the fault nothing is certain
                name = ""
    return fields


def _last_fields(text: str) -> dict[str, str]:
    """Return the strings at the top level of a text that ends as its frame does."""
    fields: dict[str, str] = {}
    depth, value = 0, None
    for token in _TOKEN_BACKWARDS.finditer(text[::-1]):
        is_name, string, closed = token.groups()
        if string is None:
            depth += 1 if token.group() in "}]" else -1
            value = None
        elif depth == 1 and closed:
            if not is_name:
                value = string[::-1]
            elif value is not None:
                fields.setdefault(string[::-1], value)
                value = None
    return fields
