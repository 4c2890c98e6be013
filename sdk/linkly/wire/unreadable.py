"""What a frame that cannot be read still tells: which call it belongs to.

Every call ends (docs/protocol.md 3.2): a broken call is answered with an error, a broken answer ends the wait for it.
The id is looked for at the top level of the frame only, so that a payload that speaks of other calls ends none of them.

This module must never know sockets, sessions or time.
"""

from __future__ import annotations

import re
from contextlib import suppress

import msgspec

from linkly.wire import native_frames
from linkly.wire.messages import CallId
from linkly.wire.native_frames import ANSWER, FRAME, LENGTH_BYTES, MESSAGE, call_parts, read_route

LOOKED_AT_BYTES = 64 * 1024
"""How much of a frame is looked at from its start, and from its end if the id does not show at the start.

Node's client puts the id in front of the payload, Python's behind it.
"""

CALL, RESULT = "invokefunction", "invocationresult"

# A string without an end takes the rest: every character is looked at once, however the frame is broken.
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*+)("?)\s*+(:?)|[{}\[\]]', re.DOTALL)
_TOKEN_BACKWARDS = re.compile(r'(:?)\s*+"((?:[^"]|"(?=\\))*+)("?)|[{}\[\]]', re.DOTALL)
"""The same for a text that is read from its end, where a string comes before its name."""

_NATIVE_KINDS = {
    bytes((native_frames.CALL,)): CALL,
    bytes((native_frames.RESULT,)): RESULT,
    bytes((native_frames.ERROR,)): RESULT,
}


class Remains(msgspec.Struct, frozen=True):
    """What is left of an unreadable frame.

    Attributes:
        kind: `CALL` or `RESULT`.
        invocation_id: Of the call it is about.
        function_id: What was called, `""` if that does not show.
    """

    kind: str
    invocation_id: CallId
    function_id: str = ""


def remains(data: bytes, *, native: bool) -> Remains | None:
    """Return which call an unreadable frame belongs to, `None` if it shows none."""
    if not native:
        return _json_remains(data)
    kind = data[LENGTH_BYTES : LENGTH_BYTES + 1]
    if kind == bytes((MESSAGE,)):
        return _json_remains(data[FRAME.size :])
    if kind not in _NATIVE_KINDS or len(data) < ANSWER.size:
        return None
    call_id: int = ANSWER.unpack_from(data)[2]
    function_id = ""
    if kind == bytes((native_frames.CALL,)):
        if not call_id:
            return None
        with suppress(ValueError):
            function_id = read_route(call_parts(data)[4])[1]
    return Remains(_NATIVE_KINDS[kind], call_id, function_id)


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
