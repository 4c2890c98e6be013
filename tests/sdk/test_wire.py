"""The codecs and the session, by property: any bytes in, never anything but a message or a refusal out."""

import contextlib
import json
import math

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkly import Json
from linkly.errors import (
    CallTimeout,
    HandlerFailed,
    InvocationStopped,
    LinklyError,
    PayloadTooLarge,
    RemoteError,
    error_from_body,
)
from linkly.outcome import ABSENT, is_absent
from linkly.wire.json_frames import read_json, write_json
from linkly.wire.messages import (
    CancelInvocation,
    EnqueueAction,
    FrameError,
    InvocationResult,
    InvokeFunction,
    RegisterFunction,
    VoidAction,
    WorkerRegistered,
)
from linkly.wire.native_frames import NO_LIMIT, call_frame, read_native, route_of, write_native
from linkly.wire.session import CANCEL_LIMIT, Session

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
payloads = values.map(lambda value: Json(json.dumps(value).encode()))
optional_text = st.none() | st.text(min_size=1)
numbers = st.integers(1, 2**64 - 1)
large = st.none() | st.integers(-(2**53), 2**53)
enqueues = st.builds(
    EnqueueAction,
    queue=st.text(),
    delay_ms=st.none() | st.integers(0, 2**53),
    run_at=optional_text,
    priority=large,
    idempotency_key=st.none() | st.text(),
    expires_at=optional_text,
    message_group=optional_text,
)
call_fields = {
    "function_id": st.text(min_size=1),
    "data": payloads,
    "traceparent": optional_text,
    "baggage": optional_text,
    "action": st.none() | st.just(VoidAction()) | enqueues,
    "metadata": st.just(ABSENT) | payloads.filter(lambda value: bytes(value) != b"null"),
    "namespace": optional_text,
}
calls = st.builds(InvokeFunction, invocation_id=optional_text, **call_fields)
numbered_calls = st.builds(
    InvokeFunction,
    invocation_id=st.none() | numbers,
    timeout_ms=st.none() | st.integers(0, 2**32 - 2),
    hops=st.integers(0, 255),
    caller_worker_id=st.none() | st.uuids().map(str),
    **call_fields,
)
results = st.builds(InvocationResult, invocation_id=st.text(min_size=1), result=payloads)
codecs = pytest.mark.parametrize(
    "read, write", [(read_json, write_json), (read_native, write_native)], ids=["json", "native"]
)


class Serving:
    """A call that is served; says when it is cancelled."""

    def __init__(self, call_id, cancelled, function_id="a::b"):
        self.function_id = function_id
        self.call_id, self.cancelled = call_id, cancelled

    def cancel(self):
        self.cancelled.append(self.call_id)


def plain(message):
    return {
        name: json.loads(bytes(value) or b"null") if type(value) is Json else value
        for name, value in ((name, getattr(message, name)) for name in message.__struct_fields__)
    }


@codecs
@given(message=calls)
def test_a_call_arrives_as_it_was_sent(read, write, message):
    assert plain(read(write(message))) == plain(message)


@given(message=numbered_calls)
def test_a_numbered_call_arrives_natively_as_it_was_sent(message):
    assert plain(read_native(write_native(message))) == plain(message)


@given(call_id=numbers, failed=st.booleans(), value=payloads.filter(lambda value: bytes(value) != b"null"))
def test_a_numbered_answer_arrives_natively_as_it_was_sent(call_id, failed, value):
    message = InvocationResult(invocation_id=call_id, **{"error" if failed else "result": value})
    assert plain(read_native(write_native(message))) == plain(message)


@codecs
@given(message=results)
def test_a_result_arrives_as_it_was_sent(read, write, message):
    got = read(write(message))
    assert (got.invocation_id, plain(got)["result"]) == (message.invocation_id, plain(message)["result"])


@codecs
def test_every_other_message_crosses_either_framing(read, write):
    message = RegisterFunction(id="a::b", description="ü", metadata=Json(b'{"a":[1]}'))
    assert plain(read(write(message))) == plain(message)
    assert read(write(CancelInvocation(invocation_id="7"))) == CancelInvocation(invocation_id="7")
    assert read_native(write_native(CancelInvocation(invocation_id=7))) == CancelInvocation(invocation_id=7)


def read_or_refused(read, data):
    """Any exception but a refusal is a defect of the codec; an unknown or empty frame is passed over (`None`)."""
    with contextlib.suppress(FrameError):
        return read(data)


@codecs
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(read, write, data):
    message = read_or_refused(read, data)
    assert message is None or plain(read(write(message))) == plain(message)


@given(data=st.binary(max_size=60), cut=st.integers(0, 60))
def test_a_damaged_native_frame_is_a_message_or_refused(data, cut):
    frame = write_native(InvokeFunction(function_id="a::b", invocation_id=1, data=Json(b'{"a":1}')))
    message = read_or_refused(read_native, frame[:cut] + data + frame[cut:])
    assert message is None or plain(read_native(write_native(message))) == plain(message)


@given(value=values)
def test_what_pythons_json_writes_is_read(value):
    text = json.dumps({"type": "invokefunction", "function_id": "f", "data": [value, math.nan, math.inf, "\ud800"]})
    message = read_json(text.encode())
    data = json.loads(bytes(message.data))
    assert data[1:3] == [None, None]
    assert data[3] == "\ufffd"


@given(blank=st.text(alphabet=" \t\r\n"))
def test_blank_frames_are_ignored(blank):
    assert read_json(blank.encode()) is None


@given(
    operations=st.lists(st.sampled_from(["call", "answer", "fail", "abandon", "serve", "cancel", "late"]), max_size=40)
)
@pytest.mark.parametrize("native", [False, True])
def test_each_call_is_told_exactly_once_whatever_happens(native, operations):
    session = Session(native=native)
    told: dict[str, int] = {}
    abandoned: set[str] = set()
    cancelled: list[str] = []
    encode = Session(native=native).encode

    def deliver(message):
        session.receive(encode(message), text=not native)

    for number, operation in enumerate(operations):
        open_calls = list(session.calls)
        if operation == "call":
            key: list[str] = []

            def done(result, error, key=key):
                told[key[0]] = told.get(key[0], 0) + 1

            call_id, _ = session.begin_call(InvokeFunction(function_id="a::b"), done)
            key.append(call_id)
            told.setdefault(call_id, 0)
        elif operation == "answer" and open_calls:
            deliver(InvocationResult(invocation_id=open_calls[0], result=Json(b"1")))
            deliver(InvocationResult(invocation_id=open_calls[0], result=Json(b"2")))
        elif operation == "fail" and open_calls:
            deliver(InvocationResult(invocation_id=open_calls[-1], error=Json(b'{"code":"x","message":"y"}')))
        elif operation == "abandon" and open_calls:
            session.abandoned(open_calls[0])
            abandoned.add(open_calls[0])
        elif operation == "serve":
            session.begin_serving(number + 1 if native else str(number), Serving(number, cancelled))
        elif operation == "cancel" and session.serving:
            deliver(CancelInvocation(invocation_id=next(iter(session.serving))))
        elif operation == "late":
            deliver(InvocationResult(invocation_id=2**40 if native else "nobody", result=Json(b"1")))
    session.end("the test is over")
    assert {call_id: count for call_id, count in told.items() if count != (call_id not in abandoned)} == {}
    assert len(cancelled) == len(set(cancelled)) == operations.count("serve")
    assert not session.calls
    assert not session.serving


def test_a_session_that_ends_tells_its_calls_why():
    session, told = Session(), []
    session.begin_call(InvokeFunction(function_id="a::b"), lambda result, error: told.append(json.loads(bytes(error))))
    session.end("the peer closed with 1006")
    assert told == [{"code": InvocationStopped.code, "message": "Invocation stopped: the peer closed with 1006"}]


def test_a_call_that_is_too_large_leaves_nothing_behind():
    session = Session()
    session.peer_limit_bytes = 100
    with pytest.raises(PayloadTooLarge, match="100"):
        session.begin_call(InvokeFunction(function_id="a::b", data=Json(b'"' + b"x" * 100 + b'"')), lambda *_: None)
    assert not session.calls


@pytest.mark.parametrize("cls", sorted(set(LinklyError.registered.values()), key=lambda cls: cls.__name__))
def test_every_error_crosses_the_wire_as_itself(cls):
    error = LinklyError.__new__(cls)
    LinklyError.__init__(error, "text", details={"a": 1}, stacktrace="trace")
    again = error_from_body(json.loads(json.dumps(error.to_body())))
    assert type(again) is LinklyError.registered[error.code]
    assert (again.code, again.message, again.details, again.stacktrace) == (error.code, "text", {"a": 1}, "trace")


@pytest.mark.parametrize(
    "body, code, message",
    [
        ({"code": "E1", "message": "m"}, "E1", "m"),
        ({"code": 5, "message": "m"}, "UNKNOWN", "m"),
        ("text", "UNKNOWN", "text"),
        ({}, "UNKNOWN", "{}"),
        (None, "UNKNOWN", "the worker sent an error without a body"),
        ({"code": "TIMEOUT", "message": "late", "details": 5}, "TIMEOUT", "late"),
    ],
)
def test_error_bodies_of_every_shape_are_understood(body, code, message):
    error = error_from_body(body)
    assert (error.code, error.message) == (code, message)
    assert type(error) is (CallTimeout if code == "TIMEOUT" else RemoteError)


def test_a_foreign_exception_keeps_its_text_and_traceback():
    try:
        raise ValueError("odd")
    except ValueError as error:
        wrapped = HandlerFailed.wrap(error)
    assert wrapped.message == "odd"
    assert "ValueError" in (wrapped.stacktrace or "")
    assert str(wrapped) == "invocation_failed: odd"


@pytest.mark.parametrize(
    "value, absent", [(ABSENT, True), (Json(b"null"), True), (Json(b""), True), (Json(b"0"), False)]
)
def test_null_and_absent_are_the_same(value, absent):
    assert is_absent(value) is absent


def test_a_native_frame_is_what_its_description_says():
    call = InvokeFunction(
        function_id="a::b",
        invocation_id=7,
        data=Json(b'{"a":1}'),
        namespace="n",
        timeout_ms=3000,
        hops=2,
        baggage="k=v",
    )
    extras = msgpack.packb([None, "k=v", None, None])
    head = b"\1" + (7).to_bytes(8, "big") + (3000).to_bytes(4, "big") + b"\2\0\0\7" + len(extras).to_bytes(4, "big")
    frame = head + b"\0\1n" + b"a::b" + extras + b'{"a":1}'
    assert write_native(call) == len(frame).to_bytes(4, "big") + frame
    extras = msgpack.packb(["00-1", None, '{"m":2}', "jobs", "of a later version"])
    message = read_native(call_frame(1, NO_LIMIT, 0, b"worker-7", route_of(None, "a::b"), extras, b"[1]"))
    assert (message.action, bytes(message.metadata), message.caller_worker_id, message.namespace) == (
        EnqueueAction(queue="jobs"),
        b'{"m":2}',
        "worker-7",
        None,
    )


@pytest.mark.parametrize("name", ["x" * 0x10000, "\ud800"])
def test_a_name_that_no_native_frame_holds_is_refused(name):
    for route in ((None, name), (name, "a::b")):
        with pytest.raises(LinklyError):
            route_of(*route)


def test_a_cancellation_may_come_ahead_of_its_call():
    session, cancelled = Session(native=True), []
    session.begin_serving(1, Serving(1, cancelled))
    encode = Session(native=True).encode
    assert session.cancel_ahead(encode(CancelInvocation(invocation_id=1)))
    assert cancelled == [1]
    assert session.cancel_ahead(encode(CancelInvocation(invocation_id=2)))
    assert session.receive(encode(InvokeFunction(invocation_id=2, function_id="a::b")), text=False) is None
    again = session.receive(encode(InvokeFunction(invocation_id=3, function_id="a::b")), text=False)
    assert isinstance(again, InvokeFunction)


@pytest.mark.parametrize(
    "message",
    [
        InvokeFunction(invocation_id=1, function_id="a::b"),
        InvocationResult(invocation_id=1, result=Json(b"1")),
        WorkerRegistered(worker_id="1"),
    ],
)
def test_nothing_but_a_cancellation_comes_ahead(message):
    assert not Session(native=True).cancel_ahead(Session(native=True).encode(message))


def test_cancellations_ahead_of_calls_that_never_come_are_forgotten():
    session = Session(native=True)
    for number in range(1, 2 * CANCEL_LIMIT + 1):
        assert session.cancel_ahead(write_native(CancelInvocation(invocation_id=number)))
    calls = [InvokeFunction(invocation_id=number, function_id="a::b") for number in range(1, 2 * CANCEL_LIMIT + 1)]
    dropped = [session.receive(write_native(call), text=False) is None for call in calls]
    assert dropped == [False] * CANCEL_LIMIT + [True] * CANCEL_LIMIT
