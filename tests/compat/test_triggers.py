"""docs/protocol.md C46-C60, C96: triggers."""

import asyncio

import pytest

from linkly import Worker, function
from linkly.firing import condition_met, fire
from linkly.testing import running_engine, settle
from linkly.trigger import Binding, TriggerDeclaration, TriggerType
from linkly_engine.core.records import BindingState
from linkly_engine.shipped import shipped_names


async def provider_of(bus_engine, kind="my-type", **metadata):
    provider = await bus_engine.connect(**metadata)
    await provider.send(type="registertriggertype", id=kind, description="d")
    await provider.nothing_came()
    return provider


async def bind(client, trigger_id="t1", kind="my-type", **fields):
    await client.send(type="registertrigger", id=trigger_id, trigger_type=kind, function_id="x::y", **fields)


async def ack(provider, message, error=None):
    fields = {} if error is None else {"error": error}
    await provider.send(
        type="triggerregistrationresult",
        id=message["id"],
        trigger_type=message["trigger_type"],
        function_id=message["function_id"],
        **fields,
    )


async def test_c46_a_binding_is_forwarded_unchanged(bus_engine):
    provider = await provider_of(bus_engine)
    binder = await bus_engine.connect()
    await bind(binder, config={"x": [1, {"y": None}]}, metadata={"who": "me"})
    message = await provider.until("registertrigger")
    assert message == {
        "type": "registertrigger",
        "id": "t1",
        "trigger_type": "my-type",
        "function_id": "x::y",
        "config": {"x": [1, {"y": None}]},
        "metadata": {"who": "me"},
    }


async def test_c47_namespaces_are_sent_only_when_they_are_not_default(bus_engine):
    provider = await provider_of(bus_engine)
    binder = await bus_engine.connect()
    await bind(binder, config={}, namespace="default", trigger_namespace="default")
    assert not {"namespace", "trigger_namespace"} & set(await provider.until("registertrigger"))
    await bind(binder, "t2", config={}, namespace="orders")
    assert (await provider.until("registertrigger"))["namespace"] == "orders"


async def test_c48_success_is_not_forwarded_and_a_refusal_is(bus_engine):
    provider = await provider_of(bus_engine)
    binder = await bus_engine.connect()
    await bind(binder, "good", config={})
    await ack(provider, await provider.until("registertrigger"))
    await provider.nothing_came()
    assert await binder.nothing_came() == []
    await bind(binder, "bad", config={})
    await ack(provider, await provider.until("registertrigger"), {"code": "nope", "message": "bad config"})
    refused = await binder.until("triggerregistrationresult")
    assert (refused["id"], refused["error"]) == ("bad", {"code": "nope", "message": "bad config"})
    listed = (await binder.call("engine::registered-triggers::list", {}))["result"]["registered_triggers"]
    assert [row["id"] for row in listed] == ["good"]


async def test_c49_an_ack_of_somebody_who_does_not_own_the_type_is_ignored(bus_engine):
    provider = await provider_of(bus_engine)
    binder, stranger = await bus_engine.connect(), await bus_engine.connect()
    await bind(binder, config={})
    message = await provider.until("registertrigger")
    await ack(stranger, message, {"code": "x", "message": "y"})
    await stranger.nothing_came()
    assert await binder.nothing_came() == []
    assert bus_engine.engine.tables.triggers.find_binding("t1").live_at is not None


async def test_c50_a_binding_waits_for_its_type(bus_engine):
    binder = await bus_engine.connect()
    await bind(binder, config={"a": 1})
    assert await binder.nothing_came() == []
    provider = await bus_engine.connect()
    await provider.send(type="registertriggertype", id="my-type")
    assert (await provider.until("registertrigger"))["config"] == {"a": 1}


async def test_c51_a_waiting_binding_that_was_taken_back_is_not_delivered(bus_engine):
    binder = await bus_engine.connect()
    await bind(binder, config={})
    await binder.send(type="unregistertrigger", id="t1", trigger_type="my-type")
    await binder.nothing_came()
    provider = await provider_of(bus_engine)
    assert [f for f in provider.seen if f["type"] == "registertrigger"] == []


async def test_c52_a_waiting_binding_of_a_worker_that_left_is_not_delivered(bus_engine):
    binder = await bus_engine.connect()
    await bind(binder, config={})
    await binder.nothing_came()
    await bus_engine.gone(binder)
    provider = await provider_of(bus_engine)
    assert [f for f in provider.seen if f["type"] == "registertrigger"] == []


async def test_c53_a_provider_that_comes_back_gets_all_bindings_of_others(bus_engine):
    provider = await provider_of(bus_engine)
    binder = await bus_engine.connect()
    for trigger_id in ("t1", "t2"):
        await bind(binder, trigger_id, config={})
    await binder.nothing_came()
    await bus_engine.gone(provider)
    again = await bus_engine.connect()
    await again.send(type="registertriggertype", id="my-type", description="d")
    got = {(await again.until("registertrigger"))["id"] for _ in range(2)}
    assert got == {"t1", "t2"}


async def test_c54_a_type_registered_by_another_worker_moves_all_bindings_there(bus_engine):
    await provider_of(bus_engine)
    binder = await bus_engine.connect()
    await bind(binder, config={})
    await binder.nothing_came()
    other = await bus_engine.connect()
    await other.send(type="registertriggertype", id="my-type", description="d")
    assert (await other.until("registertrigger"))["id"] == "t1"


async def test_c55_a_binder_that_leaves_is_unbound_at_the_provider(bus_engine):
    provider = await provider_of(bus_engine)
    binder = await bus_engine.connect()
    await bind(binder, config={"a": 1}, metadata={"m": 1})
    await provider.until("registertrigger")
    await bus_engine.gone(binder)
    gone = await provider.until("unregistertrigger")
    assert (gone["id"], gone["trigger_type"]) == ("t1", "my-type")
    assert (gone["function_id"], gone["config"], gone["metadata"]) == ("x::y", {"a": 1}, {"m": 1})


async def test_c55_a_provider_is_told_whether_a_binding_was_taken_back_or_its_worker_left(bus_engine):
    provider = await provider_of(bus_engine)
    binder = await bus_engine.connect()
    for trigger_id in ("taken back", "stops", "left"):
        await bind(binder, trigger_id, config={})
    await binder.send(type="unregistertrigger", id="taken back", trigger_type="my-type")
    await binder.send(type="unregistertrigger", id="stops", trigger_type="my-type", leaving=True)
    await binder.nothing_came()
    await binder.close()
    told = [await provider.until("unregistertrigger") for _ in range(3)]
    assert {each["id"]: each.get("unregistered") for each in told} == {"taken back": True, "stops": None, "left": None}


async def test_c56_unregistering_an_unknown_trigger_is_a_silent_no_op(bus_engine):
    client = await bus_engine.connect()
    await client.send(type="unregistertrigger", id="nobody")
    assert await client.nothing_came() == []


async def test_c57_a_durable_trigger_survives_its_caller(bus_engine):
    provider = await provider_of(bus_engine)
    caller = await bus_engine.connect()
    invocation_id = await caller.start_call(
        "engine::register_trigger", {"trigger_type": "my-type", "function_id": "x::y", "config": {}}
    )
    await ack(provider, await provider.until("registertrigger"))
    trigger_id = (await caller.until("invocationresult", invocation_id=invocation_id))["result"]["id"]
    await bus_engine.gone(caller)
    assert bus_engine.engine.tables.triggers.find_binding(trigger_id) is not None
    other = await bus_engine.connect()
    answers = [(await other.call("engine::unregister_trigger", {"id": trigger_id}))["result"] for _ in range(2)]
    assert answers == [{"removed": True}, {"removed": False}]


async def test_c58_a_refused_durable_trigger_fails_the_call(bus_engine):
    provider = await provider_of(bus_engine)
    caller = await bus_engine.connect()
    invocation_id = await caller.start_call(
        "engine::register_trigger", {"trigger_type": "my-type", "function_id": "x::y", "config": {}}
    )
    await ack(provider, await provider.until("registertrigger"), {"code": "bad", "message": "no"})
    answer = await caller.until("invocationresult", invocation_id=invocation_id)
    assert answer["error"]["code"] == "trigger_registration_failed"


async def test_c58_a_provider_that_does_not_answer_is_taken_to_agree(bus_engine, clock):
    provider = await provider_of(bus_engine)
    caller = await bus_engine.connect()
    invocation_id = await caller.start_call(
        "engine::register_trigger", {"trigger_type": "my-type", "function_id": "x::y", "config": {}}
    )
    await provider.until("registertrigger")
    await clock.advance(11)
    assert "id" in (await caller.until("invocationresult", invocation_id=invocation_id))["result"]


async def test_c59_only_an_implied_namespace_has_a_fallback(bus_engine):
    default = await provider_of(bus_engine)
    own = await provider_of(bus_engine, namespace="orders")
    binder = await bus_engine.connect(namespace="orders")
    await bind(binder, "near", config={})
    assert (await own.until("registertrigger"))["id"] == "near"
    await bind(binder, "far", config={}, trigger_namespace="default")
    assert (await default.until("registertrigger"))["id"] == "far"
    await bind(binder, "nowhere", config={}, trigger_namespace="nowhere")
    await binder.nothing_came()
    assert bus_engine.engine.tables.triggers.find_binding("nowhere").live_at is None


async def test_a_provider_nearer_home_takes_over_from_the_default_one(bus_engine):
    default = await provider_of(bus_engine)
    binder = await bus_engine.connect(namespace="orders")
    await bind(binder, config={})
    await default.until("registertrigger")
    own = await bus_engine.connect(namespace="orders")
    await own.send(type="registertriggertype", id="my-type")
    assert (await own.until("registertrigger"))["id"] == "t1"
    assert (await default.until("unregistertrigger"))["id"] == "t1"


async def test_a_provider_survives_a_binding_without_a_json_form(bus_engine):
    bus = bus_engine.engine.bus("binder")
    bus.register_trigger("x::y", TriggerDeclaration(type="my-type", config=object()))
    provider = await provider_of(bus_engine)
    (waiting,) = [each for each in bus_engine.engine.tables.triggers.bindings if each.trigger_type == "my-type"]
    assert waiting.state is BindingState.REFUSED
    await bind(provider)
    assert (await provider.receive())["type"] == "registertrigger"


@pytest.mark.parametrize("field", ["namespace", "trigger_namespace"])
async def test_a_blank_namespace_on_a_trigger_is_refused(bus_engine, field):
    binder = await bus_engine.connect()
    await bind(binder, config={}, **{field: " "})
    assert (await binder.until("triggerregistrationresult"))["error"]["code"] == "INVALID_NAMESPACE"


class Conditions(Worker):
    name = "conditions"

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[object] = []

    @function("c::answer")
    async def answer(self, payload):
        if payload["answer"] == "raise":
            raise RuntimeError("no")
        return payload["answer"]

    @function("c::target")
    async def target(self, payload):
        self.ran.append(payload["answer"])


@pytest.mark.parametrize("wire", [False, True])
async def test_c60_only_a_literal_false_blocks(wire):
    worker = Conditions()
    async with running_engine(worker, wire=wire) as bus:
        met = [
            await condition_met(bus, "c::answer", {"answer": answer}, "default")
            for answer in (False, True, None, 0, "", {}, [])
        ]
        assert met == [False, True, True, True, True, True, True]
        with pytest.raises(Exception, match="no"):
            await condition_met(bus, "c::answer", {"answer": "raise"}, "default")


async def test_a_binding_fires_with_its_metadata_and_namespace():
    class Target(Worker):
        name = "target"

        @function("t::run")
        async def run(self, payload, metadata):
            return [payload, metadata]

    async with running_engine(Target()) as bus:
        binding = Binding(id="b", trigger_type="x", function_id="t::run", metadata={"m": 1})
        assert await fire(bus, binding, {"p": 1}) == [{"p": 1}, {"m": 1}]


async def test_an_in_process_provider_is_told_in_order_and_may_refuse():
    told: list[str] = []
    first_may_go_on = asyncio.Event()

    async def on_bind(binding: Binding) -> None:
        if binding.id == bindings[0]:
            await first_may_go_on.wait()
        told.append(f"bind {binding.id}")

    async def on_unbind(binding: Binding) -> None:
        told.append(f"unbind {binding.id}")

    bindings: list[str] = []
    async with running_engine() as bus:
        from linkly import trigger

        bus.register_trigger_type(TriggerType("slow", "d", bind=on_bind, unbind=on_unbind))
        registrations = [bus.register_trigger("x::y", trigger("slow", {"n": n})) for n in range(2)]
        bindings += [registration.id for registration in registrations]
        registrations[0].unregister()
        await settle()
        assert told == []
        first_may_go_on.set()
        await settle()
        assert told == [f"bind {bindings[0]}", f"bind {bindings[1]}", f"unbind {bindings[0]}"]


async def test_c96_the_bindings_of_an_unregistered_type_are_parked(bus_engine):
    provider = await provider_of(bus_engine)
    binder = await bus_engine.connect()
    await bind(binder, config={})
    await provider.until("registertrigger")
    await provider.send(type="unregistertriggertype", id="my-type", description="repeated by Node", config={})
    assert await provider.nothing_came() == []
    assert bus_engine.engine.tables.triggers.find_type("default", "my-type") is None
    assert bus_engine.engine.tables.triggers.find_binding("t1").live_at is None


# --- triggers that wait --------------------------------------------------------------------------------------


async def listed(client, **request):
    answer = await client.call("engine::registered-triggers::list", request)
    return {row["id"]: row for row in answer["result"]["registered_triggers"]}


async def test_triggers_that_wait_are_listed_with_their_status_when_that_is_asked_for(bus_engine):
    provider = await provider_of(bus_engine)
    owner, other = await bus_engine.connect(), await bus_engine.connect()
    for worker in (owner, other):
        await worker.send(type="registerfunction", id="x::y")
        await worker.nothing_came()
    await bind(owner, "live", config={})
    await bind(owner, "typeless", kind="nobody's", config={})
    await bind(owner, "bad", config={})
    await owner.nothing_came()
    await provider.until("registertrigger", id="bad")
    await ack(provider, {"id": "bad", "trigger_type": "my-type", "function_id": "x::y"}, {"code": "x", "message": "y"})
    await provider.nothing_came()
    await bind(other, "held", config={})
    await bind(other, "live", config={"second": True})
    await other.nothing_came()
    rows = await listed(owner, include_waiting=True)
    assert {id_: row["status"] for id_, row in rows.items() if id_ != "live"} == {
        "typeless": "waits_for_type",
        "bad": "refused",
        "held": "waits_for_function",
    }
    assert "`nobody's`" in rows["typeless"]["reason"]
    answer = await owner.call("engine::registered-triggers::list", {"include_waiting": True})
    found = answer["result"]["registered_triggers"]
    assert sorted(row["status"] for row in found if row["id"] == "live") == ["live", "waits_for_id"]
    only_live = await listed(owner)
    assert set(only_live) == {"live"}
    assert not {"status", "reason"} & set(only_live["live"])


async def test_the_log_says_how_long_a_trigger_waits_for_its_type(bus_engine, caplog):
    caplog.set_level("INFO", logger="linkly.engine")
    binder = await bus_engine.connect(name="binder")
    await bind(binder, config={})
    await binder.nothing_came()
    assert "[REGISTERED] Trigger" not in caplog.text
    assert (
        "[WAITING] Trigger my-type of x::y: it waits for trigger type `my-type`, which nobody provides" in caplog.text
    )
    await provider_of(bus_engine)
    assert "[REGISTERED] Trigger type my-type: 1 waiting trigger(s) fire from now on" in caplog.text
    await bind(binder, "t2", config={})
    await binder.nothing_came()
    assert "[REGISTERED] Trigger my-type runs x::y" in caplog.text


@pytest.mark.parametrize("kind, worker", [("http", "http"), ("cron", "cron"), ("subscribe", "pubsub")])
async def test_the_line_of_a_waiting_trigger_names_the_worker_to_add(bus_engine, caplog, kind, worker):
    binder = await bus_engine.connect()
    await bind(binder, kind=kind, config={})
    await binder.nothing_came()
    there = worker in shipped_names()
    assert (f"`linkly worker add {worker}`" if there else f"linkly has no `{worker}` worker yet") in caplog.text
