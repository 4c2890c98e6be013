"""JSON text frames, iii's framing: one message each (`docs/protocol.md` 2.1)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, cast

import msgspec

from linkly.invocation import Json
from linkly.schema import encode
from linkly.wire.messages import AnyMessage, FrameError, InvokeFunction, Message

_decoder = msgspec.json.Decoder(cast("type[AnyMessage]", AnyMessage))

write_json: Callable[[Message], bytes] = msgspec.json.Encoder().encode
"""Encodes one message as a JSON frame."""

_text = msgspec.json.Encoder().encode


def call_head(function_id: str, namespace: str | None = None) -> bytes:
    """Return how the frames of calls of a function begin that carry nothing but a payload.

    Raises:
        InvalidResult: A name is no text.
    """
    place = encode(function_id)
    if namespace is not None:
        place += b',"namespace":' + encode(namespace)
    return b'{"type":"invokefunction","function_id":%b,"invocation_id":"' % place


def call_text(head: bytes, call_id: str, data: bytes, member: bytes = b"") -> bytes:
    """Return the frame of a call.

    Args:
        head: From `call_head`.
        call_id: One of ours, in which nothing has to be escaped.
        data: The payload, without its last byte if there is a `member`.
        member: The end of the payload.
    """
    return b"".join((head, call_id.encode(), b'","data":', data, member, b"}"))


def result_middle(function_id: str) -> bytes:
    """Return what the frames of results of a function have between the id of the call and the result.

    Raises:
        InvalidResult: Its id is no text.
    """
    return b',"function_id":%b,"result":' % encode(function_id)


def result_text(call_id: str, middle: bytes, result: Json) -> bytes:
    """Return the frame of a result, whatever the other side calls its call; `middle` is from `result_middle`."""
    return b"".join((b'{"type":"invocationresult","invocation_id":', _text(call_id), middle, result, b"}"))


def read_json(data: bytes) -> AnyMessage | None:
    """Decode one JSON frame; `None` for an empty one.

    Accepts what clients really send: `NaN` and `Infinity` literals become `null`, lone surrogate escapes
    become U+FFFD (docs/protocol.md 2.1).

    Raises:
        FrameError: It is no message: bad UTF-8 or JSON, unknown type, a field missing or of the wrong type.
    """
    try:
        # Payloads are forwarded unread, and invalid UTF-8 in a text frame would end the *other* worker's connection.
        if not data.isascii():
            data.decode()
        return _decoder.decode(data)
    except msgspec.ValidationError as error:
        raise FrameError(f"not a message of the protocol: {error}") from error
    except msgspec.DecodeError as error:
        if not data.strip():
            return None
        not_finite: list[str] = []  # gets the literals that JSON does not have
        repaired = _repair(data, not_finite)
        if repaired is None or repaired == data:
            raise FrameError(f"not JSON: {error}") from error
        message = read_json(repaired)
        if not_finite and type(message) is InvokeFunction:
            message.not_finite = True
        return message
    except UnicodeDecodeError as error:
        raise FrameError(f"not UTF-8: {error}") from error
    except RecursionError as error:
        raise FrameError("nested too deeply") from error


def _repair(data: bytes, not_finite: list[str]) -> bytes | None:
    """Re-encode a frame that only Python's own json module reads; `None` if it does not either."""
    try:
        value = json.loads(data, parse_constant=not_finite.append)
    except (ValueError, RecursionError):
        return None
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))
    # By way of UTF-16, where two halves that belong together become one character and a lone one becomes U+FFFD.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
