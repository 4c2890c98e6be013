"""docs/protocol.md C36, C37, C40-C45, C91: who owns what, and coming back."""

import pytest


async def reattach(bus_engine, old, token):
    new = await bus_engine.connect(metadata=False)
    await new.send(type="reattach", previous_worker_id=old.worker_id, reattach_token=token)
    return new


async def test_c36_the_second_owner_of_an_id_is_rejected(bus_engine):
    first, second = await bus_engine.connect(), await bus_engine.connect()
    await first.send(type="registerfunction", id="x::y")
    await first.nothing_came()
    await second.send(type="registerfunction", id="x::y")
    rejected = await second.until("registrationrejected")
    assert rejected["code"] == "FUNCTION_NAMESPACE_CONFLICT"
    assert rejected["owner_worker_id"] == first.worker_id
    assert (rejected["namespace"], rejected["function_id"]) == ("default", "x::y")
    assert await second.nothing_came() == []
    await second.start_call("x::y", {})
    assert (await first.until("invokefunction"))["function_id"] == "x::y"


async def test_c37_an_id_is_free_when_its_owner_is_gone(bus_engine):
    first, second = await bus_engine.connect(), await bus_engine.connect()
    await first.send(type="registerfunction", id="x::y")
    await first.nothing_came()
    await bus_engine.gone(first)
    assert (await second.call("x::y", {}))["error"]["code"] == "function_not_found"
    await second.send(type="registerfunction", id="x::y")
    assert await second.nothing_came() == []
    assert bus_engine.engine.tables.functions.find("default", "x::y").owner.id == second.worker_id


async def test_c40_the_owner_may_describe_its_function_anew(bus_engine):
    worker = await bus_engine.connect()
    for text in ("old", "new"):
        await worker.send(
            type="registerfunction", id="x::y", description=text, request_format={"type": "object", "title": text}
        )
    info = (await worker.call("engine::functions::info", {"function_id": "x::y"}))["result"]
    assert info["description"] == "new"
    assert info["request_schema"]["title"] == "new"


async def test_c41_unregistering_by_somebody_else_changes_nothing(bus_engine):
    owner, other = await bus_engine.connect(), await bus_engine.connect()
    await owner.send(type="registerfunction", id="x::y")
    await owner.nothing_came()
    await other.send(type="unregisterfunction", id="x::y")
    await other.nothing_came()
    assert bus_engine.engine.tables.functions.find("default", "x::y") is not None


async def test_c42_reattach_drops_the_old_socket_before_the_replay_is_read(bus_engine):
    old = await bus_engine.connect(name="w1")
    await old.send(type="registerfunction", id="x::y")
    await old.nothing_came()
    new = await reattach(bus_engine, old, old.hello["reattach_token"])
    await new.send(type="registerfunction", id="x::y")
    await new.register_metadata(name="w1")
    assert [frame for frame in new.seen if frame["type"] == "registrationrejected"] == []
    assert bus_engine.engine.tables.functions.find("default", "x::y").owner.id == new.worker_id
    assert old.worker_id not in bus_engine.engine.peers


@pytest.mark.parametrize("token", ["wrong", None])
async def test_c43_reattach_with_a_wrong_token_is_ignored(bus_engine, token):
    old = await bus_engine.connect()
    new = await reattach(bus_engine, old, token)
    assert await new.nothing_came() == []
    assert await old.nothing_came() == []


async def test_c43_reattach_to_an_unknown_worker_or_to_oneself_is_ignored(bus_engine):
    client = await bus_engine.connect(metadata=False)
    for previous in ("not-a-uuid", client.worker_id):
        await client.send(type="reattach", previous_worker_id=previous, reattach_token=client.hello["reattach_token"])
    assert await client.nothing_came() == []


async def test_c44_reattach_is_not_held_back_with_the_registrations(bus_engine):
    old = await bus_engine.connect(metadata=False)
    new = await reattach(bus_engine, old, old.hello["reattach_token"])
    await new.nothing_came()  # no metadata was ever sent on this connection
    assert old.worker_id not in bus_engine.engine.peers


async def test_c45_a_result_for_a_call_of_the_old_socket_does_no_harm(bus_engine):
    caller, old = await bus_engine.connect(), await bus_engine.connect()
    await old.send(type="registerfunction", id="x::y")
    await old.nothing_came()
    invocation_id = await caller.start_call("x::y", {})
    call = await old.until("invokefunction")
    new = await reattach(bus_engine, old, old.hello["reattach_token"])
    await new.send(type="invocationresult", invocation_id=call["invocation_id"], function_id="x::y", result=1)
    assert await new.nothing_came() == []
    answer = await caller.until("invocationresult", invocation_id=invocation_id)
    assert answer["error"]["code"] == "invocation_stopped"


async def test_late_clean_up_of_an_old_connection_leaves_the_new_registration_alone(bus_engine):
    old = await bus_engine.connect()
    await old.send(type="registerfunction", id="x::y")
    await old.nothing_came()
    record = bus_engine.engine.peers[old.worker_id].record
    new = await reattach(bus_engine, old, old.hello["reattach_token"])
    await new.register_metadata()
    await new.send(type="registerfunction", id="x::y")
    await new.nothing_came()
    bus_engine.engine.tables.forget(record)
    assert bus_engine.engine.tables.functions.find("default", "x::y").owner.id == new.worker_id


async def test_c91_two_old_clients_of_one_name_both_stay(bus_engine):
    first = await bus_engine.connect(name="host:77", pid=77, runtime="python", version="0.22.1")
    second = await bus_engine.connect(name="host:77", pid=77, runtime="python", version="0.22.1")
    assert await first.nothing_came() == []
    assert await second.nothing_came() == []


async def test_under_a_name_that_another_program_holds_nothing_is_registered(bus_engine):
    await bus_engine.connect(name="shop", pid=1, features=[], namespace="default")
    second = await bus_engine.connect(metadata=False)
    await second.send(type="registerfunction", id="x::y")
    await second.start_call("engine::workers::register", {"name": "shop", "pid": 2, "features": []})
    rejected = await second.until("registrationrejected")
    assert (rejected["code"], rejected["worker_name"]) == ("WORKER_NAMESPACE_CONFLICT", "shop")
    await second.socket.wait_closed()
    assert second.socket.close_code not in (1000, 1001, 1005)
    assert bus_engine.engine.tables.functions.find("default", "x::y") is None


# --- several workers that offer the same thing ---------------------------------------------------------------


async def offering(bus_engine, function_id="x::y", **metadata):
    """A worker that registers a function and a trigger on it."""
    worker = await bus_engine.connect(**metadata)
    await worker.send(type="registerfunction", id=function_id)
    await worker.send(
        type="registertrigger", id=worker.worker_id, trigger_type="tick", function_id=function_id, config={}
    )
    await worker.nothing_came()
    return worker


async def providing(bus_engine, kind="tick"):
    provider = await bus_engine.connect()
    await provider.send(type="registertriggertype", id=kind, description="d")
    await provider.nothing_came()
    return provider


async def told(provider):
    """What a provider was told since it was asked last: (what, binding id)."""
    kinds = {"registertrigger": "bound", "unregistertrigger": "unbound"}
    return [(kinds[frame["type"]], frame["id"]) for frame in await provider.nothing_came() if frame["type"] in kinds]


def server_of(bus_engine, function_id="x::y"):
    record = bus_engine.engine.tables.functions.find("default", function_id)
    return None if record is None else record.owner.id


async def test_a_refused_function_is_served_when_its_owner_is_gone(bus_engine):
    caller = await bus_engine.connect()
    first, second = await offering(bus_engine), await offering(bus_engine)
    await bus_engine.gone(first)
    invocation_id = await caller.start_call("x::y", {"n": 1})
    await second.serve_one(lambda message: {"result": message["data"]["n"]})
    assert (await caller.until("invocationresult", invocation_id=invocation_id))["result"] == 1


async def test_a_refused_function_is_served_when_its_owner_takes_it_back(bus_engine):
    first, second = await offering(bus_engine), await offering(bus_engine)
    await first.send(type="unregisterfunction", id="x::y")
    await first.nothing_came()
    assert server_of(bus_engine) == second.worker_id


async def test_those_who_offer_a_function_serve_it_in_the_order_in_which_they_came(bus_engine):
    first, second, third = [await offering(bus_engine) for _ in range(3)]
    await second.send(type="registerfunction", id="x::y", description="said again")
    await second.nothing_came()
    await bus_engine.gone(first)
    assert server_of(bus_engine) == second.worker_id
    assert bus_engine.engine.tables.functions.find("default", "x::y").description == "said again"
    await bus_engine.gone(second)
    assert server_of(bus_engine) == third.worker_id


async def test_a_refused_worker_is_told_once(bus_engine):
    first = await offering(bus_engine)
    second = await bus_engine.connect()
    await second.send(type="registerfunction", id="x::y")
    assert await second.nothing_came() == [
        {
            "type": "registrationrejected",
            "code": "FUNCTION_NAMESPACE_CONFLICT",
            "namespace": "default",
            "function_id": "x::y",
            "owner_worker_id": first.worker_id,
        }
    ]
    await bus_engine.gone(first)
    assert await second.nothing_came() == []


async def test_unregistering_a_refused_function_ends_the_waiting(bus_engine):
    first, second = await offering(bus_engine), await offering(bus_engine)
    await second.send(type="unregisterfunction", id="x::y")
    await second.nothing_came()
    assert bus_engine.engine.tables.functions.waiting == 0
    await bus_engine.gone(first)
    assert server_of(bus_engine) is None


async def test_a_refused_worker_that_leaves_waits_no_longer(bus_engine):
    first, second = await offering(bus_engine), await offering(bus_engine)
    await bus_engine.gone(second)
    assert bus_engine.engine.tables.functions.waiting == 0
    await bus_engine.gone(first)
    assert server_of(bus_engine) is None


async def test_an_engine_id_outside_default_never_waits(bus_engine):
    worker = await bus_engine.connect(namespace="orders")
    await worker.send(type="registerfunction", id="engine::x")
    assert (await worker.nothing_came())[0]["owner_worker_id"] == ""
    assert bus_engine.engine.tables.functions.waiting == 0


async def test_triggers_of_a_refused_function_are_bound_when_it_is_served(bus_engine):
    provider = await providing(bus_engine)
    first, second = await offering(bus_engine), await offering(bus_engine)
    assert await told(provider) == [("bound", first.worker_id)]
    await bus_engine.gone(first)
    assert await told(provider) == [("unbound", first.worker_id), ("bound", second.worker_id)]


async def test_a_trigger_that_came_before_its_function_was_refused_rests_as_well(bus_engine):
    provider = await providing(bus_engine)
    first, second = await offering(bus_engine), await bus_engine.connect()
    await second.send(type="registertrigger", id="t2", trigger_type="tick", function_id="x::y", config={})
    await second.send(type="registerfunction", id="x::y")
    await second.nothing_came()
    assert await told(provider) == [("bound", first.worker_id), ("bound", "t2"), ("unbound", "t2")]
    await bus_engine.gone(first)
    assert await told(provider) == [("unbound", first.worker_id), ("bound", "t2")]


async def test_an_event_fires_once_after_an_owner_has_taken_its_function_back(bus_engine):
    provider = await providing(bus_engine)
    first, second = await offering(bus_engine), await offering(bus_engine)
    await told(provider)
    await first.send(type="unregisterfunction", id="x::y")
    await first.nothing_came()
    assert await told(provider) == [("unbound", first.worker_id), ("bound", second.worker_id)]
    await first.send(type="registerfunction", id="x::y")  # registered again, it stands in line behind the second
    await first.nothing_came()
    await bus_engine.gone(second)
    assert await told(provider) == [("unbound", second.worker_id), ("bound", first.worker_id)]


async def test_triggers_rest_while_another_worker_serves_their_function(bus_engine):
    first, second = await offering(bus_engine), await offering(bus_engine)
    provider = await providing(bus_engine)
    again = await providing(bus_engine)
    assert await told(again) == []
    assert [frame["id"] for frame in again.seen if frame["type"] == "registertrigger"] == [first.worker_id]
    del provider, second


async def test_a_trigger_on_a_function_of_somebody_else_is_bound_at_once(bus_engine):
    provider = await providing(bus_engine)
    first, other = await offering(bus_engine), await bus_engine.connect()
    await other.send(type="registertrigger", id="t2", trigger_type="tick", function_id="x::y", config={})
    await other.nothing_came()
    assert await told(provider) == [("bound", first.worker_id), ("bound", "t2")]


async def test_a_trigger_type_goes_back_to_its_earlier_provider(bus_engine):
    first = await providing(bus_engine)
    binder = await offering(bus_engine)
    assert await told(first) == [("bound", binder.worker_id)]
    second = await bus_engine.connect()
    await second.send(type="registertriggertype", id="tick", description="d")
    assert await told(second) == [("bound", binder.worker_id)]
    assert await told(first) == [("unbound", binder.worker_id)]  # otherwise both would fire
    await bus_engine.gone(second)
    assert await told(first) == [("bound", binder.worker_id)]


async def test_a_name_that_two_share_stays_taken_when_the_first_of_them_is_gone(bus_engine):
    shared = {"name": "shop", "pid": 1, "features": [], "namespace": "default"}
    first = await bus_engine.connect(**shared)
    second = await bus_engine.connect(**shared)
    await bus_engine.gone(first)
    assert bus_engine.engine.tables.workers.holder("default", "shop").id == second.worker_id


# --- who may take back a trigger -----------------------------------------------------------------------------


async def test_a_trigger_of_another_worker_cannot_be_taken_back(bus_engine):
    provider = await providing(bus_engine)
    owner, stranger = await offering(bus_engine), await bus_engine.connect()
    await stranger.send(type="unregistertrigger", id=owner.worker_id, trigger_type="tick")
    assert await stranger.nothing_came() == []
    answer = await stranger.call("engine::unregister_trigger", {"id": owner.worker_id})
    assert answer["error"]["code"] == "FORBIDDEN"
    assert owner.worker_id in answer["error"]["message"]
    assert await told(provider) == [("bound", owner.worker_id)]


async def test_a_worker_takes_its_own_trigger_back_by_frame_or_by_call(bus_engine):
    provider = await providing(bus_engine)
    by_frame, by_call = await offering(bus_engine, "a::a"), await offering(bus_engine, "b::b")
    await by_frame.send(type="unregistertrigger", id=by_frame.worker_id, trigger_type="tick")
    await by_frame.nothing_came()
    answer = await by_call.call("engine::unregister_trigger", {"id": by_call.worker_id})
    assert answer["result"] == {"removed": True}
    assert (await told(provider))[2:] == [("unbound", by_frame.worker_id), ("unbound", by_call.worker_id)]


async def test_a_trigger_waits_for_an_id_that_another_workers_trigger_has(bus_engine):
    provider = await providing(bus_engine)
    owner, second = await offering(bus_engine), await bus_engine.connect()
    await second.send(
        type="registertrigger", id=owner.worker_id, trigger_type="tick", function_id="evil::steals", config={"n": 2}
    )
    assert await second.nothing_came() == []
    assert await told(provider) == [("bound", owner.worker_id)]
    await bus_engine.gone(owner)
    assert await told(provider) == [("unbound", owner.worker_id), ("bound", owner.worker_id)]
    assert provider.seen[-2]["config"] == {"n": 2}


async def test_taking_back_a_trigger_that_waits_for_its_id_leaves_the_live_one_alone(bus_engine):
    provider = await providing(bus_engine)
    owner, second = await offering(bus_engine), await bus_engine.connect()
    await second.send(type="registertrigger", id=owner.worker_id, trigger_type="tick", function_id="x::y", config={})
    await second.send(type="unregistertrigger", id=owner.worker_id, trigger_type="tick")
    await second.nothing_came()
    await bus_engine.gone(owner)
    assert await told(provider) == [("bound", owner.worker_id), ("unbound", owner.worker_id)]
