"""Native frames: what two of ours say to each other over a stream of bytes (docs/protocol.md 2.4).

    frame  = u32 length of what follows, big endian | u8 kind | ...
    0      one JSON message (`linkly.wire.json_frames`): everything that is not hot
    1      a call:   u64 id | u32 ms left | u8 hops | u8 length of caller | u16 length of route | u32 length of extras
                     | caller | route | extras | payload
    2, 3   a result, an error: u64 id of the call | value
    4      a cancellation: u64 id of the call
    5, 6   ping, pong
    7      the end: u16 code | reason

Whoever forwards a call finds its route at a fixed place, puts another head in front and leaves everything behind the
caller as it came. A payload is JSON text, as in iii's frames, so that a call between the two framings is never
transcoded; it is checked where it leaves this framing.
"""

from __future__ import annotations

import struct

import msgspec

from linkly.errors import InvalidResult
from linkly.invocation import Json
from linkly.outcome import ABSENT, is_absent
from linkly.wire.json_frames import read_json, write_json
from linkly.wire.messages import (
    AnyMessage,
    CancelInvocation,
    EnqueueAction,
    FrameError,
    InvocationResult,
    InvokeFunction,
    Message,
    VoidAction,
)

NATIVE_UPGRADE = "linkly-native/1"
"""The `Upgrade` that a client asks for over HTTP."""

MESSAGE, CALL, RESULT, ERROR, CANCEL, PING, PONG, CLOSE = range(8)

FRAME = struct.Struct(">IB")
ANSWER = struct.Struct(">IBQ")
CALL_HEAD = struct.Struct(">IBQIBBHI")
CLOSE_HEAD = struct.Struct(">IBH")

LENGTH_BYTES = 4
CALL_BYTES = CALL_HEAD.size
NO_LIMIT = 2**32 - 1
"""The time left of a call that may take any time."""

_NO_NAMESPACE = b"\xff\xff"
_MOST_HOPS = 255


class Extras(msgspec.Struct, array_like=True):
    """What few calls have; msgpack. `queue`: `""` is the action void; an action with options is whole."""

    traceparent: str | None = None
    baggage: str | None = None
    metadata: str | None = None
    queue: str | EnqueueAction | None = None


_read_extras = msgspec.msgpack.Decoder(Extras).decode
_write_extras = msgspec.msgpack.Encoder().encode
_read_payload = msgspec.json.Decoder(Json).decode


def route_of(namespace: str | None, function_id: str) -> bytes:
    """Return where a call goes, as it travels.

    Raises:
        InvalidResult: A name is too long, or no text.
    """
    try:
        place = _NO_NAMESPACE
        if namespace is not None:
            encoded = namespace.encode()
            place = len(encoded).to_bytes(2, "big") + encoded
        route = place + function_id.encode()
    except (UnicodeEncodeError, OverflowError) as error:
        raise InvalidResult(f"function `{function_id[:100]!a}` cannot be called: {error}") from error
    if len(route) > 0xFFFF or (place[:2] == _NO_NAMESPACE and namespace is not None):
        raise InvalidResult(f"function `{function_id[:100]}...` cannot be called: its name is too long")
    return route


def read_route(route: bytes) -> tuple[str | None, str]:
    """Return namespace and function id.

    Raises:
        ValueError: It is no route.
    """
    if route[:2] == _NO_NAMESPACE:
        return None, route[2:].decode()
    end = 2 + int.from_bytes(route[:2], "big")
    if len(route) < 2 or end > len(route):
        raise ValueError("a route that is cut off")
    return route[2:end].decode(), route[end:].decode()


def left_ms_of(deadline: float | None, now: float) -> int:
    """Return how long a call with this deadline may take, as it travels: more than 49 days are any time."""
    if deadline is None:
        return NO_LIMIT
    left_ms = (deadline - now) * 1000
    if left_ms >= NO_LIMIT:
        return NO_LIMIT
    return int(left_ms) if left_ms > 0 else 0


def extras_of(call: InvokeFunction) -> bytes:
    """Return the extras of a call, as they travel: `b""` for most."""
    queue: str | EnqueueAction | None = None
    if call.action is not None:
        queue = _queue_of(call.action) if isinstance(call.action, EnqueueAction) else ""
    metadata = None if is_absent(call.metadata) else bytes(call.metadata).decode()
    if queue is None and metadata is None and call.traceparent is None and call.baggage is None:
        return b""
    return _write_extras(Extras(call.traceparent, call.baggage, metadata, queue))


def _queue_of(action: EnqueueAction) -> str | EnqueueAction:
    return action.queue if action.queue and action == EnqueueAction(action.queue) else action


def call_frame(
    call_id: int, left_ms: int, hops: int, caller: bytes, route: bytes, extras: bytes, payload: bytes
) -> bytes:
    """Return the frame of a call.

    Args:
        call_id: 0 if nobody waits.
        left_ms: `NO_LIMIT`: any time.
        hops: How many calls it is nested in.
        caller: The id of the worker that calls; from the engine only.
        route: From `route_of`.
        extras: From `extras_of`.
        payload: JSON text.
    """
    length = CALL_BYTES - LENGTH_BYTES + len(caller) + len(route) + len(extras) + len(payload)
    head = CALL_HEAD.pack(length, CALL, call_id, left_ms, hops, len(caller), len(route), len(extras))
    return b"".join((head, caller, route, extras, payload))


def read_native(data: bytes) -> AnyMessage | None:
    """Decode one native frame.

    Raises:
        FrameError: Its lengths do not fit, its kind is unknown, or a payload is not JSON in UTF-8.
    """
    if len(data) <= LENGTH_BYTES or len(data) - LENGTH_BYTES != int.from_bytes(data[:LENGTH_BYTES], "big"):
        raise FrameError(f"native frame of {len(data)} bytes says that {data[:LENGTH_BYTES]!r} follow")
    kind = data[LENGTH_BYTES]
    try:
        if kind == MESSAGE:
            return read_json(data[FRAME.size :])
        if kind == CALL:
            return _read_call(data)
        if kind in (RESULT, ERROR):
            call_id = ANSWER.unpack_from(data)[2]
            value = _check_json(data[ANSWER.size :])
            return (
                InvocationResult(invocation_id=call_id, result=value)
                if kind == RESULT
                else InvocationResult(invocation_id=call_id, error=value)
            )
        if kind == CANCEL:
            return CancelInvocation(invocation_id=ANSWER.unpack(data)[2])
    except (msgspec.MsgspecError, struct.error, ValueError, RecursionError) as error:
        raise FrameError(f"not a native frame: {error}") from error
    raise FrameError(f"native frame of unknown kind {kind}")


def is_cancellation(data: bytes) -> bool:
    """Return whether a native frame says that a caller no longer waits."""
    return len(data) == ANSWER.size and data[LENGTH_BYTES] == CANCEL


def write_native(message: Message) -> bytes:
    """Encode one message as a native frame; calls whose ids are no numbers travel as JSON messages.

    Raises:
        InvalidResult: A name of a call is too long, or no text.
    """
    if type(message) is InvokeFunction:
        if message.invocation_id is None or type(message.invocation_id) is int:
            return call_frame(
                message.invocation_id or 0,
                NO_LIMIT if message.timeout_ms is None else min(message.timeout_ms, NO_LIMIT - 1),
                min(message.hops, _MOST_HOPS),
                (message.caller_worker_id or "").encode(),
                route_of(message.namespace, message.function_id),
                extras_of(message),
                bytes(message.data),
            )
    elif type(message) is InvocationResult:
        if type(message.invocation_id) is int:
            failed = not is_absent(message.error)
            value = message.error if failed else message.result
            return answer_frame(ERROR if failed else RESULT, message.invocation_id, bytes(value))
    elif type(message) is CancelInvocation and type(message.invocation_id) is int:
        return answer_frame(CANCEL, message.invocation_id, b"")
    text = write_json(message)
    return FRAME.pack(1 + len(text), MESSAGE) + text


def answer_frame(kind: int, call_id: int, value: bytes) -> bytes:
    """Return the frame of a result, an error or a cancellation."""
    return ANSWER.pack(ANSWER.size - LENGTH_BYTES + len(value), kind, call_id) + value


def call_parts(data: bytes) -> tuple[int, int, int, bytes, bytes, bytes, bytes]:
    """Return id, time left, hops, caller, route, extras and payload of a call's frame.

    Raises:
        ValueError: They do not fit into it.
    """
    if len(data) < CALL_BYTES:
        raise ValueError("the head of a call is cut off")
    _, _, call_id, left_ms, hops, caller, route, extras = CALL_HEAD.unpack_from(data)
    route_at = CALL_BYTES + caller
    extras_at = route_at + route
    payload_at = extras_at + extras
    if payload_at > len(data):
        raise ValueError("the parts of a call are longer than its frame")
    return (
        call_id,
        left_ms,
        hops,
        data[CALL_BYTES:route_at],
        data[route_at:extras_at],
        data[extras_at:payload_at],
        data[payload_at:],
    )


def _read_call(data: bytes) -> InvokeFunction:
    call_id, left_ms, hops, caller, route, more, payload = call_parts(data)
    namespace, function_id = read_route(route)
    extras = _read_extras(more) if more else Extras()
    action: VoidAction | EnqueueAction | None = None
    if isinstance(extras.queue, str):
        action = VoidAction() if extras.queue == "" else EnqueueAction(queue=extras.queue)
    else:
        action = extras.queue
    return InvokeFunction(
        function_id=function_id,
        invocation_id=call_id or None,
        data=_check_json(payload),
        traceparent=extras.traceparent,
        baggage=extras.baggage,
        action=action,
        metadata=ABSENT if extras.metadata is None else _check_json(extras.metadata.encode()),
        namespace=namespace,
        caller_worker_id=caller.decode() or None,
        timeout_ms=None if left_ms == NO_LIMIT else left_ms,
        hops=hops,
    )


def _check_json(data: bytes) -> Json:
    """Return a payload that may be spliced into other workers' frames: nobody else suffers for a broken one.

    Costs 0.3 us for a small payload and 0.8 ms for a megabyte.
    """
    if not data:
        return ABSENT
    data.decode()
    _read_payload(data)
    return Json(data)
