"""The frames: one struct per message, and the two codecs between structs and bytes.

JSON text frames are iii's protocol (protocol.md 2). The native framing, negotiated by the WebSocket subprotocol
`linkly.msgpack.v1`, carries the four hot messages as a msgpack head beside an untouched payload:

    frame   = u32 length of head (big endian) | head | payload
    head    = msgpack array [kind, ...]; kind 0: `payload` is one JSON message as below
    payload = JSON text in either framing, so that a call between a JSON and a native peer is never transcoded

The engine routes a native frame by its head; of the payload it only checks that it is JSON. `Raw` fields hold encoded
JSON and are forwarded as they came; `ABSENT` marks a field that was not there.

This module must never know sockets, tables or time.
"""

from __future__ import annotations

import json
import math
from typing import Any, TypeAlias, cast

import msgspec

from linkly.bus import Json
from linkly.errors import LinklyError

NATIVE_SUBPROTOCOL = "linkly.msgpack.v1"
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Largest message either side accepts (protocol.md 1.7)."""

ABSENT = Json(b"")
NULL = Json(b"null")


class FrameError(LinklyError):
    """A frame is not one message of the protocol; it is dropped, the connection goes on."""

    code = "invalid_frame"


class Message(msgspec.Struct, tag_field="type", kw_only=True, omit_defaults=True):
    """Base of every message; the tag is iii's lower-case type name."""


class RegisterFunction(Message, tag="registerfunction"):
    """A worker serves `id` from now on."""

    id: str
    description: str | None = None
    request_format: Json = ABSENT
    response_format: Json = ABSENT
    metadata: Json = ABSENT
    invocation: Json = ABSENT


class UnregisterFunction(Message, tag="unregisterfunction"):
    """A worker no longer serves `id`."""

    id: str


class RegisterTriggerType(Message, tag="registertriggertype"):
    """A worker provides a trigger type. Node may leave the description out."""

    id: str
    description: str | None = None
    trigger_request_format: Json = ABSENT
    call_request_format: Json = ABSENT
    namespace: str | None = None


class UnregisterTriggerType(Message, tag="unregistertriggertype"):
    """A worker no longer provides a trigger type."""

    id: str = ""
    namespace: str | None = None


class RegisterTrigger(Message, tag="registertrigger"):
    """Worker to engine: bind. Engine to provider: there is a binding."""

    id: str
    trigger_type: str
    function_id: str
    config: Json = ABSENT
    metadata: Json = ABSENT
    namespace: str | None = None
    trigger_namespace: str | None = None


class UnregisterTrigger(Message, tag="unregistertrigger"):
    """Take a binding back. Towards a provider the engine adds what clients pass through (protocol.md 4.4)."""

    id: str
    trigger_type: str | None = None
    function_id: str | None = None
    config: Json = ABSENT
    metadata: Json = ABSENT


class TriggerRegistrationResult(Message, tag="triggerregistrationresult"):
    """A provider's answer to a binding; towards the binder only with `error`."""

    id: str
    trigger_type: str
    function_id: str
    error: Json = ABSENT


class VoidAction(msgspec.Struct, tag_field="type", tag="void"):
    """Nobody waits."""


class EnqueueAction(msgspec.Struct, tag_field="type", tag="enqueue"):
    """Through a queue."""

    queue: str


class InvokeFunction(Message, tag="invokefunction"):
    """A call. `data` absent means `null`.

    Only native frames have `caller_worker_id` (from the engine; iii's executors find it inside the payload),
    `timeout_ms`, how long the caller still waits, and `hops`, how many calls this one is nested in. `not_finite` is
    nothing that is sent: `read_json` says with it that it has made `NaN` or `Infinity` null.
    """

    function_id: str
    invocation_id: str | None = None
    data: Json = ABSENT
    traceparent: str | None = None
    baggage: str | None = None
    action: VoidAction | EnqueueAction | None = None
    metadata: Json = ABSENT
    namespace: str | None = None
    caller_worker_id: str | None = None
    timeout_ms: int | None = None
    hops: int = 0
    not_finite: bool = False


class InvocationResult(Message, tag="invocationresult"):
    """The answer to a call: `error` wins over `result`, neither means `null`."""

    invocation_id: str
    function_id: str = ""
    result: Json = ABSENT
    error: Json = ABSENT
    traceparent: str | None = None
    baggage: str | None = None


class CancelInvocation(Message, tag="cancelinvocation"):
    """The caller no longer waits. Sent between native peers only: iii has no such message."""

    invocation_id: str


class WorkerRegistered(Message, tag="workerregistered"):
    """Engine's first frame: who you are here."""

    worker_id: str
    reattach_token: str | None = None


class Reattach(Message, tag="reattach"):
    """First frame of every connection after the first: end the old one before you read on."""

    previous_worker_id: str
    reattach_token: str | None = None


class RegistrationRejected(Message, tag="registrationrejected"):
    """Somebody else has that id or that name."""

    code: str
    namespace: str
    owner_worker_id: str
    worker_name: str | None = None
    function_id: str | None = None


class RegisterService(Message, tag="registerservice"):
    """Bookkeeping of old clients; accepted, without effect."""

    id: str
    name: str = ""


class Ping(Message, tag="ping"):
    """Asks for a `Pong`."""


class Pong(Message, tag="pong"):
    """Answers a `Ping`."""


class ErrorNotice(Message, tag="error"):
    """Said before a connection is refused."""

    error: Json = ABSENT


AnyMessage: TypeAlias = (
    RegisterFunction
    | UnregisterFunction
    | RegisterTriggerType
    | UnregisterTriggerType
    | RegisterTrigger
    | UnregisterTrigger
    | TriggerRegistrationResult
    | InvokeFunction
    | InvocationResult
    | CancelInvocation
    | WorkerRegistered
    | Reattach
    | RegistrationRejected
    | RegisterService
    | Ping
    | Pong
    | ErrorNotice
)

_json_decoder = msgspec.json.Decoder(cast("type[AnyMessage]", AnyMessage))
_json_encoder = msgspec.json.Encoder()
_head_decoder = msgspec.msgpack.Decoder(list[Any])
_payload_decoder = msgspec.json.Decoder(Json)
_head_encoder = msgspec.msgpack.Encoder()

_CONTROL, _CALL, _RESULT, _ERROR, _CANCEL = range(5)
_CANCEL_HEAD = bytes((0x92, _CANCEL))  # an array of two, the first of them the kind


def is_absent(value: Json) -> bool:
    """Tell whether an optional field is absent or `null`, which mean the same on this wire."""
    return value is ABSENT or bytes(memoryview(value)[:5]) in (b"", b"null")


def read_json(data: bytes) -> AnyMessage | None:
    """Decode one JSON frame; `None` for an empty one.

    Accepts what clients really send: `NaN` and `Infinity` literals become `null`, lone surrogate escapes
    become U+FFFD (protocol.md 2.1).

    Raises:
        FrameError: It is no message: bad UTF-8 or JSON, unknown type, a field missing or of the wrong type.
    """
    try:
        # Payloads are forwarded unread, and invalid UTF-8 in a text frame would end the *other* worker's connection.
        data.decode()
        return _json_decoder.decode(data)
    except msgspec.ValidationError as error:
        raise FrameError(f"not a message of the protocol: {error}") from error
    except msgspec.DecodeError as error:
        if not data.strip():
            return None
        not_finite: list[str] = []
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


def write_json(message: Message) -> bytes:
    """Encode one message as a JSON frame."""
    return _json_encoder.encode(message)


def read_native(data: bytes) -> AnyMessage | None:
    """Decode one native frame.

    Raises:
        FrameError: The length does not fit, the head is not one of ours, or the payload is not JSON in UTF-8.
    """
    view = memoryview(data)
    length = int.from_bytes(view[:4], "big")
    if len(data) < 4 or length > len(data) - 4:
        raise FrameError(f"native frame of {len(data)} bytes says that its head has {length}")
    payload = bytes(view[4 + length :])
    try:
        head = _head_decoder.decode(view[4 : 4 + length])
        kind = head[0]
        if kind == _CONTROL:
            return read_json(payload)
        value = _check_json(payload) if payload else ABSENT
        if kind == _CALL:
            return _read_call(head, value)
        if kind == _RESULT:
            return InvocationResult(invocation_id=_text(head[1]), result=value)
        if kind == _ERROR:
            return InvocationResult(invocation_id=_text(head[1]), error=value)
        if kind == _CANCEL:
            return CancelInvocation(invocation_id=_text(head[1]))
    except (msgspec.MsgspecError, ValueError, IndexError, TypeError, RecursionError) as error:
        raise FrameError(f"not a native frame: {error}") from error
    raise FrameError(f"native frame of unknown kind {kind!r}")


def is_cancellation(data: bytes) -> bool:
    """Tell whether a native frame says that a caller no longer waits; looks at its first bytes only."""
    return data[4:6] == _CANCEL_HEAD


def write_native(message: Message) -> bytes:
    """Encode one message as a native frame."""
    if type(message) is InvokeFunction:
        head, payload = _call_head(message), message.data
    elif type(message) is InvocationResult:
        failed = not is_absent(message.error)
        head = _head_encoder.encode([_ERROR if failed else _RESULT, message.invocation_id])
        payload = message.error if failed else message.result
    elif type(message) is CancelInvocation:
        head, payload = _head_encoder.encode([_CANCEL, message.invocation_id]), ABSENT
    else:
        head, payload = b"\x91\x00", Json(_json_encoder.encode(message))
    return b"".join((len(head).to_bytes(4, "big"), head, memoryview(payload)))


def _read_call(head: list[Any], payload: Json) -> InvokeFunction:
    invocation_id, function_id, namespace, traceparent, baggage, metadata, queue, caller = head[1:9]
    timeout_ms, hops = head[9:11] if len(head) > 10 else (None, 0)  # clients before 0.2 end their heads here
    action: VoidAction | EnqueueAction | None = None
    if queue is not None:
        action = VoidAction() if queue == "" else EnqueueAction(queue=_text(queue))
    return InvokeFunction(
        function_id=_text(function_id),
        invocation_id=_optional_text(invocation_id),
        data=payload,
        traceparent=_optional_text(traceparent),
        baggage=_optional_text(baggage),
        action=action,
        metadata=ABSENT if metadata is None else _check_json(_text(metadata).encode()),
        namespace=_optional_text(namespace),
        caller_worker_id=_optional_text(caller),
        timeout_ms=None if timeout_ms is None else _count(timeout_ms),
        hops=_count(hops),
    )


def _call_head(call: InvokeFunction) -> bytes:
    queue: str | None = None
    if call.action is not None:
        queue = call.action.queue if isinstance(call.action, EnqueueAction) else ""
    metadata = None if is_absent(call.metadata) else bytes(call.metadata).decode()
    return _head_encoder.encode(
        [
            _CALL,
            call.invocation_id,
            call.function_id,
            call.namespace,
            call.traceparent,
            call.baggage,
            metadata,
            queue,
            call.caller_worker_id,
            call.timeout_ms,
            call.hops,
        ]
    )


def _check_json(data: bytes) -> Json:
    """Return a payload that may be spliced into other workers' frames: nobody else suffers for a broken one.

    Costs 0.3 us for a small payload and 0.8 ms for a megabyte.
    """
    data.decode()
    _payload_decoder.decode(data)
    return Json(data)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, got {value!r}")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(f"expected a whole number, got {value!r}")
    return value


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def _repair(data: bytes, not_finite: list[str]) -> bytes | None:
    """Re-encode a frame that only Python's own json module reads; `None` if it does not either.

    Args:
        data: The frame.
        not_finite: Gets the literals that JSON does not have.
    """

    def constant(literal: str) -> None:
        not_finite.append(literal)

    try:
        value = json.loads(data, parse_constant=constant)
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
