"""docs/protocol.md C05 and the promise that every call ends: an unreadable frame ends the call it belongs to."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkly.errors import InvalidResult
from linkly.wire.messages import InvocationResult, InvokeFunction, Json
from linkly.wire.native_frames import write_native
from linkly.wire.unreadable import CALL, RESULT, Remains, remains

DEEP = "[" * 200_000 + "]" * 200_000


@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"invokefunction","invocation_id":"i1","function_id":7,"data":{}}',
        '{"type":"invokefunction","invocation_id":"i1","function_id":"x::y","data":{"a":}}',
        '{"type":"invokefunction","invocation_id":"i1","function_id":"x::y","data":' + DEEP + "}",
        '{"type":"invokefunction","invocation_id":"i1","function_id":"x::y","action":{"type":"nonsense"}}',
        '{"type":"invokefunction","invocation_id":"i1"}',
        '{"data":{"invocation_id":"other"},"invocation_id":"i1","type":"invokefunction","function_id":[]}',
        b'{"type":"invokefunction","invocation_id":"i1","function_id":"x::y","data":"\xff"}',
    ],
)
async def test_a_call_that_cannot_be_read_is_answered(bus_engine, frame):
    client = await bus_engine.connect()
    await client.send_text(frame)
    answer = await client.until("invocationresult", invocation_id="i1")
    assert answer["error"]["code"] == "invalid_frame"
    assert "cannot be read" in answer["error"]["message"]
    assert "result" not in answer


@pytest.mark.parametrize("result", ['{"a":}', "1,2", DEEP, '"unfinished', b'"\xff"'])
async def test_an_answer_that_cannot_be_read_ends_the_call(bus_engine, result):
    worker, caller = await bus_engine.connect(), await bus_engine.connect()
    await worker.send(type="registerfunction", id="x::y")
    await worker.nothing_came()
    invocation_id = await caller.start_call("x::y", {})
    call = await worker.until("invokefunction")
    head = json.dumps({"type": "invocationresult", "invocation_id": call["invocation_id"], "function_id": "x::y"})
    frame = head[:-1].encode() + b',"result":' + (result if isinstance(result, bytes) else result.encode()) + b"}"
    await worker.socket.send(frame)
    answer = await caller.until("invocationresult", invocation_id=invocation_id)
    assert answer["error"]["code"] == InvalidResult.code
    assert "cannot be read" in answer["error"]["message"]


async def test_a_frame_that_speaks_of_another_call_in_its_payload_ends_only_its_own(bus_engine):
    worker, caller = await bus_engine.connect(), await bus_engine.connect()
    await worker.send(type="registerfunction", id="x::y")
    await worker.nothing_came()
    first, second = await caller.start_call("x::y", 1), await caller.start_call("x::y", 2)
    calls = {call["data"]: call["invocation_id"] for call in [await worker.until("invokefunction") for _ in range(2)]}
    another = {"type": "invocationresult", "invocation_id": calls[1]}
    await worker.send(result=another, type="invocationresult", invocation_id=calls[2], function_id=7)
    assert "error" in await caller.until("invocationresult", invocation_id=second)
    await worker.send(type="invocationresult", invocation_id=calls[1], function_id="x::y", result="whole")
    assert (await caller.until("invocationresult", invocation_id=first))["result"] == "whole"


@pytest.mark.parametrize("payload", [b"{", b"\xff", b"[" * 200_000])
def test_a_native_frame_whose_payload_cannot_be_read_shows_its_call(payload):
    call = InvokeFunction(function_id="x::y", invocation_id="1f", data=Json(payload))
    assert remains(write_native(call), native=True) == Remains(CALL, "1f", "x::y")
    answer = InvocationResult(invocation_id="1f", result=Json(payload))
    assert remains(write_native(answer), native=True) == Remains(RESULT, "1f")


@given(cut=st.integers(0, 200), data=st.recursive(st.text() | st.integers(), st.lists, max_leaves=5))
def test_wherever_a_frame_is_cut_behind_its_ids_it_shows_them(cut, data):
    frame = json.dumps({"type": CALL, "invocation_id": "i1", "function_id": "x::y", "data": data}).encode()
    ids = len(b'{"type": "invokefunction", "invocation_id": "i1", "function_id": "x::y"')
    assert remains(frame[: max(ids, len(frame) - cut)], native=False) == Remains(CALL, "i1", "x::y")


@given(data=st.binary(max_size=300), native=st.booleans())
def test_noise_shows_no_call(data, native):
    found = remains(data, native=native)
    assert found is None or native  # four bytes of length and a small array are not beyond chance


@given(
    text=st.lists(st.sampled_from(['"', "\\", "{", "}", ":", ",", "type", "invocation_id", "\\u0000", " "])).map(
        "".join
    )
)
def test_broken_text_is_looked_at_without_an_error(text):
    remains(text.encode(), native=False)


@pytest.mark.parametrize("unit", [b'\\\\"', b'{"', b"\\"])
def test_a_long_broken_frame_is_looked_at_once(unit):
    # Looked at anew from each of its quotes, this would take the afternoon.
    assert remains(b'{"' + unit * 10_000_000, native=False) is None


@pytest.mark.parametrize("payload", [DEEP * 10, '{"a":"' + "x" * 200_000 + '"', '{"a":' + '"\\"}",' * 40_000 + "}"])
async def test_a_long_call_whose_id_stands_behind_the_payload_is_answered(bus_engine, payload):
    """iii's Python clients write `function_id`, `data`, `invocation_id`, `type`, in this order."""
    client = await bus_engine.connect()
    await client.send_text(
        f'{{"function_id": "x::y", "data": {payload}, "invocation_id": "i1", "action": null, "type": "invokefunction"}}'
    )
    answer = await client.until("invocationresult", invocation_id="i1")
    assert answer["error"]["code"] == "invalid_frame"


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
async def test_an_error_that_only_looks_like_json_reaches_who_waits(bus_engine, number):
    """A number that no float holds is passed on unread, as payloads are, and cannot be decoded where it counts."""
    worker, caller = await bus_engine.connect(), await bus_engine.connect()
    await worker.send(type="registerfunction", id="x::y")
    await worker.nothing_came()
    invocation_id = await caller.start_call("x::y", {})
    call = await worker.until("invokefunction")
    head = json.dumps({"type": "invocationresult", "invocation_id": call["invocation_id"], "function_id": "x::y"})
    await worker.send_text(head[:-1] + ',"error":{"code":"own","message":"m","n":' + number + "}}")
    answer = await caller.until("invocationresult", invocation_id=invocation_id)
    assert answer["error"]["code"] == "own"
    assert await worker.nothing_came() == []


async def test_a_worker_survives_a_registration_that_cannot_be_read(bus_engine):
    worker = await bus_engine.connect()
    await worker.send_text('{"type":"registerfunction","id":"x::y","request_format":{"maximum":1e999}}')
    await worker.send(type="registerfunction", id="x::z")
    found = await worker.call("engine::functions::list", {"prefix": "x::"})
    assert [row["function_id"] for row in found["result"]["functions"]] == ["x::z"]
