"""JSON text frames, iii's framing: one message each (`docs/protocol.md` 2.1)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, cast

import msgspec

from linkly.wire.messages import AnyMessage, FrameError, InvokeFunction, Message

_decoder = msgspec.json.Decoder(cast("type[AnyMessage]", AnyMessage))

write_json: Callable[[Message], bytes] = msgspec.json.Encoder().encode
"""Encodes one message as a JSON frame."""

_text = msgspec.json.Encoder().encode


def call_text(call_id: str, function_id: bytes, data: bytes) -> bytes:
    """Return the frame of a call that carries nothing but a payload; `function_id` is encoded already."""
    return b'{"type":"invokefunction","function_id":%b,"invocation_id":"%b","data":%b}' % (
        function_id,
        call_id.encode(),
        data,
    )


def result_text(call_id: str, function_id: bytes, result: bytes) -> bytes:
    """Return the frame of a result, whatever the other side calls its call; `function_id` is encoded already."""
    return b'{"type":"invocationresult","invocation_id":%b,"function_id":%b,"result":%b}' % (
        _text(call_id),
        function_id,
        result,
    )


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
