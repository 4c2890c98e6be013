"""protocol.md C36, C37, C40-C45, C91: who owns what, and coming back."""

import pytest


async def reattach(bus_engine, old, token):
    new = await bus_engine.connect(metadata=False)
    await new.send(type="reattach", previous_worker_id=old.worker_id, reattach_token=token)
    return new


async def test_c36_the_second_owner_of_an_id_is_rejected_and_the_first_still_serves(bus_engine):
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
    assert bus_engine.engine.registry.find("default", "x::y").owner.id == second.worker_id


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
    assert bus_engine.engine.registry.find("default", "x::y") is not None


async def test_c42_reattach_drops_the_old_socket_before_the_replay_is_read(bus_engine):
    old = await bus_engine.connect(name="w1")
    await old.send(type="registerfunction", id="x::y")
    await old.nothing_came()
    new = await reattach(bus_engine, old, old.hello["reattach_token"])
    await new.send(type="registerfunction", id="x::y")
    await new.register_metadata(name="w1")
    assert [frame for frame in new.seen if frame["type"] == "registrationrejected"] == []
    assert bus_engine.engine.registry.find("default", "x::y").owner.id == new.worker_id
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
    bus_engine.engine.forget(record)
    assert bus_engine.engine.registry.find("default", "x::y").owner.id == new.worker_id


async def test_c91_two_old_clients_of_one_name_both_stay(bus_engine):
    first = await bus_engine.connect(name="host:77", pid=77, runtime="python", version="0.22.1")
    second = await bus_engine.connect(name="host:77", pid=77, runtime="python", version="0.22.1")
    assert await first.nothing_came() == []
    assert await second.nothing_came() == []


async def test_a_name_that_another_program_holds_is_rejected_and_nothing_is_registered(bus_engine):
    await bus_engine.connect(name="shop", pid=1, features=[], namespace="default")
    second = await bus_engine.connect(metadata=False)
    await second.send(type="registerfunction", id="x::y")
    await second.start_call("engine::workers::register", {"name": "shop", "pid": 2, "features": []})
    rejected = await second.until("registrationrejected")
    assert (rejected["code"], rejected["worker_name"]) == ("WORKER_NAMESPACE_CONFLICT", "shop")
    await second.socket.wait_closed()
    assert second.socket.close_code not in (1000, 1001, 1005)
    assert bus_engine.engine.registry.find("default", "x::y") is None
