"""docs/protocol.md C13-C35: calls."""

import asyncio
import uuid

import pytest

from linkly import Function, Json
from linkly.errors import FunctionNotInvokable
from linkly.testing import settle, wired
from linkly_engine.core.records import FunctionRecord
from linkly_engine.remote.function import with_caller

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def pair(bus_engine):
    """A caller, and a worker that serves `x::y`."""
    worker = await bus_engine.connect()
    await worker.send(type="registerfunction", id="x::y")
    await worker.nothing_came()
    return await bus_engine.connect(), worker


async def test_c13_the_payload_of_a_call_without_data_is_null(pair):
    caller, worker = pair
    invocation_id = str(uuid.uuid4())
    await caller.send(type="invokefunction", invocation_id=invocation_id, function_id="x::y")
    call = await worker.serve_one(lambda message: {"result": "ok"})
    assert call.get("data") is None
    assert (await caller.until("invocationresult", invocation_id=invocation_id))["result"] == "ok"


async def test_c14_a_trigger_without_config_is_accepted(bus_engine):
    provider = await bus_engine.connect()
    await provider.send(type="registertriggertype", id="my-type", description="d")
    binder = await bus_engine.connect()
    await binder.send(type="registertrigger", id="t1", trigger_type="my-type", function_id="x::y")
    assert (await provider.until("registertrigger"))["id"] == "t1"


async def test_c15_unknown_fields_are_ignored(bus_engine):
    client = await bus_engine.connect(metadata=False)
    await client.send(type="ping", message_type="ping", extra={"a": 1})
    assert await client.receive() == {"type": "pong"}


async def test_c16_the_caller_gets_exactly_one_result_with_its_own_id(pair):
    caller, worker = pair
    invocation_id = await caller.start_call("x::y", {"a": 1})
    call = await worker.serve_one(lambda message: {"result": 5})
    await worker.send(type="invocationresult", invocation_id=call["invocation_id"], function_id="x::y", result="again")
    await worker.nothing_came()
    frames = await caller.nothing_came()
    assert [(f["invocation_id"], f["result"]) for f in frames] == [(invocation_id, 5)]


async def test_c16_the_same_call_frame_twice_is_executed_once(pair):
    caller, worker = pair
    invocation_id = str(uuid.uuid4())
    for _ in range(2):
        await caller.send(type="invokefunction", invocation_id=invocation_id, function_id="x::y", data={})
    await caller.nothing_came()
    await worker.serve_one(lambda message: {"result": 5})
    assert await worker.nothing_came() == []
    assert len(await caller.nothing_came()) == 1


@pytest.mark.parametrize("action", [None, {"type": "void"}])
async def test_c17_the_executor_always_gets_an_invocation_id(pair, action):
    caller, worker = pair
    fields = {} if action is None else {"action": action}
    await caller.send(type="invokefunction", function_id="x::y", data={}, **fields)
    assert uuid.UUID((await worker.until("invokefunction"))["invocation_id"])


async def test_c18_only_object_payloads_carry_the_callers_id(pair):
    caller, worker = pair
    await caller.start_call("x::y", {"a": 1})
    assert (await worker.until("invokefunction"))["data"] == {"a": 1, "_caller_worker_id": caller.worker_id}
    for value in ([1], "text", 5, True):
        await caller.start_call("x::y", value)
        assert (await worker.until("invokefunction"))["data"] == value


async def test_c19_a_forged_caller_id_is_overwritten(pair):
    caller, worker = pair
    await caller.start_call("x::y", {"_caller_worker_id": "forged"})
    assert (await worker.until("invokefunction"))["data"] == {"_caller_worker_id": caller.worker_id}
    await caller.send_text('{"type":"invokefunction","function_id":"x::y","data":{"\\u005fcaller_worker_id":"forged"}}')
    assert (await worker.until("invokefunction"))["data"]["_caller_worker_id"] == caller.worker_id


@pytest.mark.parametrize("payload", [b"{}", b"{ }", b'{"a":{}}', b'{"a":"}"} ', b'{"_caller_worker_id":"x"}'])
def test_the_callers_id_is_spliced_into_any_object(payload):
    import json

    assert json.loads(bytes(with_caller(Json(payload), "me")))["_caller_worker_id"] == "me"


@pytest.mark.parametrize("function_id", ["x::y", "no::such"])
async def test_c20_a_void_call_never_produces_a_frame_to_the_caller(pair, function_id):
    caller, worker = pair
    await caller.send(type="invokefunction", function_id=function_id, data={}, action={"type": "void"})
    if function_id == "x::y":
        await worker.serve_one(lambda message: {"error": {"code": "c", "message": "m"}})
        await worker.nothing_came()
    assert await caller.nothing_came() == []


@pytest.mark.parametrize("answer", [{}, {"result": None}, {"result": None, "error": None}])
async def test_c24_null_and_no_result_are_the_same_to_the_caller(pair, answer):
    caller, worker = pair
    invocation_id = await caller.start_call("x::y", {})
    await worker.serve_one(lambda message: answer)
    result = await caller.until("invocationresult", invocation_id=invocation_id)
    assert result.get("result") is None
    assert ("result" in result) == ("result" in answer)  # what a worker says is passed on as it says it
    assert "error" not in result


async def test_unanswered_void_calls_keep_their_caller_from_no_other_call(pair, monkeypatch):
    monkeypatch.setattr("linkly.wire.connection.CALLS_LIMIT", 2)
    caller, worker = pair
    for _ in range(3):
        await caller.send(type="invokefunction", function_id="x::y", data={}, action={"type": "void"})
    assert "result" in await caller.call("engine::workers::list")
    assert [frame["type"] for frame in await worker.nothing_came()] == ["invokefunction"] * 2


async def nothing() -> None:
    """Answer nothing."""


async def test_c24_what_answers_nothing_in_process_is_answered_without_a_result(bus_engine):
    bus_engine.engine.bus("test").register_function(Function("x::nothing", nothing))
    caller = await bus_engine.connect()
    answer = await caller.call("x::nothing", {})
    assert answer.keys() & {"result", "error"} == set()


@pytest.mark.parametrize("native", [True, False])
async def test_c24_what_answers_nothing_in_linklys_client_is_answered_without_a_result(bus_engine, native):
    caller = await bus_engine.connect()
    async with wired(bus_engine.engine, native=native) as client:
        client.register_function(Function("x::nothing", nothing))
        await settle()
        await bus_engine.engine.acknowledged()
        answer = await caller.call("x::nothing", {})
        assert answer.keys() & {"result", "error"} == set()
        assert await client.trigger("x::nothing") is None
        assert await client.trigger("x::nothing", result_type=Json) == Json(b"null")
        assert await bus_engine.engine.bus("test").trigger("x::nothing") is None


async def test_c25_an_error_body_reaches_the_caller_verbatim(pair):
    caller, worker = pair
    body = {"code": "E42", "message": "no", "stacktrace": "line 1\nline 2", "more": {"a": [1]}}
    invocation_id = await caller.start_call("x::y", {})
    await worker.serve_one(lambda message: {"error": body})
    assert (await caller.until("invocationresult", invocation_id=invocation_id))["error"] == body


async def test_c26_metadata_reaches_the_executor_as_it_was_sent(pair):
    caller, worker = pair
    await caller.start_call("x::y", {}, metadata={"t": 1})
    assert (await worker.until("invokefunction"))["metadata"] == {"t": 1}
    await caller.start_call("x::y", {})
    assert "metadata" not in await worker.until("invokefunction")


async def test_c27_an_executor_that_goes_away_ends_its_calls(bus_engine, pair):
    caller, worker = pair
    invocation_id = await caller.start_call("x::y", {})
    await worker.until("invokefunction")
    await bus_engine.gone(worker)
    answer = await caller.until("invocationresult", invocation_id=invocation_id)
    assert answer["error"]["code"] == "invocation_stopped"


async def test_c28_the_result_for_a_caller_that_went_away_is_dropped(bus_engine, pair):
    caller, worker = pair
    await caller.start_call("x::y", {})
    call = await worker.until("invokefunction")
    await bus_engine.gone(caller)
    await worker.send(type="invocationresult", invocation_id=call["invocation_id"], function_id="x::y", result=1)
    assert await worker.nothing_came() == []
    assert bus_engine.engine.peers[worker.worker_id].connection.calls == {}


async def test_c29_a_result_for_an_unknown_id_is_ignored(bus_engine):
    worker = await bus_engine.connect()
    await worker.send(type="invocationresult", invocation_id=str(uuid.uuid4()), function_id="x::y", result=1)
    assert await worker.nothing_came() == []


async def test_a_worker_cannot_answer_a_call_that_another_worker_was_given(bus_engine, pair):
    caller, worker = pair
    invocation_id = await caller.start_call("x::y", {})
    call = await worker.until("invokefunction")
    stranger = await bus_engine.connect()
    for known in (invocation_id, call["invocation_id"]):
        await stranger.send(type="invocationresult", invocation_id=known, function_id="x::y", result="forged")
    await stranger.nothing_came()
    assert await caller.nothing_came() == []


async def test_c30_the_engine_has_no_time_out_of_its_own(pair, clock):
    caller, worker = pair
    invocation_id = await caller.start_call("x::y", {})
    call = await worker.until("invokefunction")
    await clock.advance(3600)
    await worker.send(type="invocationresult", invocation_id=call["invocation_id"], function_id="x::y", result=1)
    assert (await caller.until("invocationresult", invocation_id=invocation_id))["result"] == 1


@pytest.fixture
async def queue(bus_engine):
    worker = await bus_engine.connect()
    await worker.send(type="registerfunction", id="engine::queue::enqueue")
    await worker.nothing_came()
    return worker


async def test_c31_enqueue_calls_the_provider_with_six_fields(bus_engine, queue):
    caller = await bus_engine.connect()
    await caller.start_call("x::y", {"a": 1}, action={"type": "enqueue", "queue": "q1"}, metadata={"m": 1})
    call = await queue.until("invokefunction")
    data = call["data"]
    assert set(data) == {"queue", "function_id", "data", "messageReceiptId", "traceparent", "baggage"}
    assert (data["queue"], data["function_id"], data["data"]) == ("q1", "x::y", {"a": 1})
    assert "iii.function.id=x::y" in data["baggage"]


async def test_c31_enqueue_names_a_namespace_that_is_not_default(bus_engine, queue):
    caller = await bus_engine.connect()
    await caller.start_call("x::y", {}, action={"type": "enqueue", "queue": "q1"}, namespace="orders")
    assert (await queue.until("invokefunction"))["data"]["namespace"] == "orders"


async def test_c31_enqueue_hands_on_the_options_that_were_given(bus_engine, queue):
    caller = await bus_engine.connect()
    options = {"delay_ms": 5, "run_at": None, "idempotency_key": "k", "of a later version": 1}
    await caller.start_call("x::y", {}, action={"type": "enqueue", "queue": "q1", **options})
    data = (await queue.until("invokefunction"))["data"]
    assert data.items() >= {"delay_ms": 5, "idempotency_key": "k"}.items()
    assert not data.keys() & {"run_at", "of a later version"}


@pytest.mark.parametrize("option", [{"run_at": "2031-01-31T12:00:00"}, {"delay_ms": "soon"}, {"delay_ms": -1}])
async def test_c31_an_option_that_is_no_such_thing_is_an_answered_error(bus_engine, queue, option):
    caller = await bus_engine.connect()
    answer = await caller.call("x::y", {}, action={"type": "enqueue", "queue": "q1", **option})
    assert next(iter(option)) in answer["error"]["message"]


async def test_c32_enqueue_answers_the_receipt_that_the_provider_was_given(bus_engine, queue):
    caller = await bus_engine.connect()
    invocation_id = await caller.start_call("x::y", {}, action={"type": "enqueue", "queue": "q1"})
    call = await queue.serve_one(lambda message: {"result": None})
    answer = await caller.until("invocationresult", invocation_id=invocation_id)
    assert answer["result"] == {"messageReceiptId": call["data"]["messageReceiptId"]}


async def test_c32_a_receipt_of_the_provider_is_handed_on(bus_engine, queue):
    caller = await bus_engine.connect()
    invocation_id = await caller.start_call("x::y", {}, action={"type": "enqueue", "queue": "q1"})
    await queue.serve_one(lambda message: {"result": {"messageReceiptId": "an earlier one"}})
    answer = await caller.until("invocationresult", invocation_id=invocation_id)
    assert answer["result"] == {"messageReceiptId": "an earlier one"}


async def test_c33_enqueue_without_a_provider_fails(bus_engine):
    caller = await bus_engine.connect()
    answer = await caller.call("x::y", {}, action={"type": "enqueue", "queue": "q1"})
    assert answer["error"]["code"] == "enqueue_error"
    assert "queue worker" in answer["error"]["message"]


async def test_c33_a_provider_that_fails_is_an_enqueue_error(bus_engine, queue):
    caller = await bus_engine.connect()
    invocation_id = await caller.start_call("x::y", {}, action={"type": "enqueue", "queue": "q1"})
    await queue.serve_one(lambda message: {"error": {"code": "full", "message": "the queue is full"}})
    answer = await caller.until("invocationresult", invocation_id=invocation_id)
    assert answer["error"]["code"] == "enqueue_error"
    assert answer["error"]["details"] == {"code": "full"}
    assert "the queue is full" in answer["error"]["message"]


async def test_c34_trace_and_baggage_go_along(pair):
    caller, worker = pair
    invocation_id = await caller.start_call("x::y", {}, traceparent=TRACE, baggage="k=v,iii.function.id=old::one")
    call = await worker.serve_one(lambda message: {"result": 1, "traceparent": TRACE.replace("b7", "aa")})
    assert call["traceparent"].split("-")[1] == TRACE.split("-")[1]
    members = [member for member in sorted(call["baggage"].split(",")) if not member.startswith("linkly.")]
    assert members == ["iii.function.id=x::y", "k=v"]
    answer = await caller.until("invocationresult", invocation_id=invocation_id)
    assert (answer["traceparent"], answer["baggage"]) == (TRACE, "k=v,iii.function.id=old::one")


async def test_c34_an_unreadable_traceparent_is_dropped(pair):
    caller, worker = pair
    await caller.start_call("x::y", {}, traceparent="garbage")
    assert "traceparent" not in await worker.until("invokefunction")


async def test_c34_an_answer_of_the_engine_itself_carries_the_trace_of_the_call(bus_engine):
    caller = await bus_engine.connect()
    answer = await caller.call("engine::workers::list", {}, traceparent="garbage", baggage="k=v")
    assert "traceparent" not in answer
    assert answer["baggage"] == "k=v,iii.function.id=engine::workers::list"


async def test_c35_without_trace_fields_none_are_sent(pair):
    caller, worker = pair
    await caller.start_call("x::y", {})
    call = await worker.until("invokefunction")
    assert not {"traceparent", "baggage", "action", "namespace"} & set(call)


async def test_a_queued_call_to_a_function_that_waits_for_its_namespace_is_not_lost(bus_engine):
    client = await bus_engine.connect(metadata=False)
    await client.send(type="registerfunction", id="own::fn")
    invocation_id = await client.start_call("own::fn", {})
    await client.send(
        type="invokefunction", function_id="engine::workers::register", data={"name": "w"}, action={"type": "void"}
    )
    await client.serve_one(lambda message: {"result": "done"})
    assert (await client.until("invocationresult", invocation_id=invocation_id))["result"] == "done"


async def test_nan_and_lone_surrogates_from_old_clients_are_accepted(pair):
    caller, worker = pair
    await caller.send_text(
        '{"type":"invokefunction","function_id":"x::y","data":{"n":NaN,"i":-Infinity,"s":"\\ud800"}}'
    )
    data = (await worker.until("invokefunction"))["data"]
    assert data["n"] is None
    assert data["i"] is None
    assert data["s"] in ("?", "\ufffd")


def test_function_records_hide_internal_ones():
    record = FunctionRecord(id="a::b", namespace="default", endpoint=None, owner=None, metadata={"internal": True})
    assert record.internal


URL = {"url": "https://a.example/hook", "method": "POST"}


@pytest.mark.parametrize("by", ["raw", "linkly", "in process", "trigger"])
async def test_a_function_that_is_to_be_called_at_a_url_says_so_to_whoever_calls_it(bus_engine, by):
    worker, caller = await bus_engine.connect(name="hooks"), await bus_engine.connect()
    await worker.send(type="registerfunction", id="x::hook", invocation=URL)
    assert await worker.nothing_came() == []  # a rejection would end clients of 0.25
    if by == "raw":
        error = (await caller.call("x::hook", {}))["error"]
        assert error["code"] == "function_not_invokable"
        assert "`x::hook` of worker `hooks` is to be called at a URL" in error["message"]
    elif by == "trigger":  # nobody waits for an answer, and the worker is not called
        await caller.send(type="invokefunction", function_id="x::hook", data={}, action={"type": "void"})
        await caller.nothing_came()
    else:
        async with wired(bus_engine.engine) as client:
            bus = client if by == "linkly" else bus_engine.engine.bus("test")
            with pytest.raises(FunctionNotInvokable, match="register a handler that calls the URL"):
                async with asyncio.timeout(10):  # the engine's clock is the test's: it ends no call
                    await bus.trigger("x::hook", {})
    assert await worker.nothing_came() == []


async def test_a_function_that_is_to_be_called_at_a_url_is_one_error_line(bus_engine, caplog):
    worker = await bus_engine.connect(name="hooks")
    with caplog.at_level("INFO", logger="linkly.engine"):
        await worker.send(type="registerfunction", id="x::hook", invocation={**URL, "headers": {"x-key": "secret"}})
        await worker.nothing_came()
    lines = [(record.levelname, record.getMessage()) for record in caplog.records if "x::hook" in record.getMessage()]
    assert [level for level, _ in lines] == ["ERROR"]
    assert "secret" not in caplog.text


async def test_an_invocation_of_null_is_none(bus_engine):
    worker, caller = await bus_engine.connect(), await bus_engine.connect()
    await worker.send(type="registerfunction", id="x::y", invocation=None)
    await worker.nothing_came()
    invocation_id = await caller.start_call("x::y", {})
    await worker.serve_one(lambda message: {"result": 5})
    assert (await caller.until("invocationresult", invocation_id=invocation_id))["result"] == 5
