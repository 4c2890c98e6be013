"""docs/protocol.md C09-C12, C21-C23, C38-C39: where functions live."""

import pytest


async def test_c09_a_function_registered_before_the_metadata_is_in_their_namespace(bus_engine):
    worker = await bus_engine.connect(metadata=False)
    await worker.send(type="registerfunction", id="math::add")
    await worker.register_metadata(namespace="orders")
    assert bus_engine.engine.tables.functions.find("orders", "math::add") is not None
    assert bus_engine.engine.tables.functions.find("default", "math::add") is None


async def test_c10_without_metadata_registrations_appear_in_default_after_the_grace(bus_engine, clock):
    worker = await bus_engine.connect(metadata=False)
    await worker.send(type="registerfunction", id="math::add")
    assert await worker.nothing_came() == []
    await clock.advance(4.9)
    assert bus_engine.engine.tables.functions.find("default", "math::add") is None
    await clock.advance(0.2)
    assert bus_engine.engine.tables.functions.find("default", "math::add") is not None


async def test_c11_registrations_apply_in_arrival_order(bus_engine):
    worker = await bus_engine.connect(metadata=False)
    await worker.send(type="registerfunction", id="a::b")
    await worker.send(type="unregisterfunction", id="a::b")
    await worker.register_metadata()
    assert bus_engine.engine.tables.functions.find("default", "a::b") is None


async def test_c12_late_metadata_does_not_move_a_fixed_namespace(bus_engine, clock):
    worker = await bus_engine.connect(metadata=False)
    await worker.send(type="registerfunction", id="a::b")
    assert await worker.nothing_came() == []
    await clock.advance(6)
    await worker.register_metadata(namespace="elsewhere")
    await worker.send(type="registerfunction", id="a::c")
    assert await worker.nothing_came() == []
    assert bus_engine.engine.tables.functions.find("default", "a::b") is not None
    assert bus_engine.engine.tables.functions.find("default", "a::c") is not None


async def test_c21_a_missing_function_names_the_namespaces_that_have_it(bus_engine):
    worker = await bus_engine.connect(namespace="orders")
    await worker.send(type="registerfunction", id="math::add")
    await worker.nothing_came()
    answer = await worker.call("math::add", {})
    assert answer["error"]["code"] == "function_not_found"
    assert "orders" in answer["error"]["message"]


async def test_c22_a_call_without_namespace_is_looked_up_in_default(bus_engine):
    caller = await bus_engine.connect(namespace="orders")
    await caller.send(type="registerfunction", id="math::add")
    worker = await bus_engine.connect()
    await worker.send(type="registerfunction", id="math::add")
    await worker.nothing_came()
    await caller.start_call("math::add", {})
    assert (await worker.until("invokefunction"))["function_id"] == "math::add"


@pytest.mark.parametrize("namespace", ["", "  "])
async def test_c23_a_blank_namespace_is_refused(bus_engine, namespace):
    client = await bus_engine.connect()
    answer = await client.call("engine::workers::list", {}, namespace=namespace)
    assert answer["error"]["code"] == "INVALID_NAMESPACE"


async def test_c38_one_id_in_two_namespaces_coexists(bus_engine):
    first = await bus_engine.connect(namespace="a")
    second = await bus_engine.connect(namespace="b")
    for worker in (first, second):
        await worker.send(type="registerfunction", id="x::y")
        assert await worker.nothing_came() == []
    await bus_engine.gone(first)
    assert bus_engine.engine.tables.functions.find("a", "x::y") is None
    assert bus_engine.engine.tables.functions.find("b", "x::y") is not None


async def test_c39_engine_ids_outside_default_are_rejected(bus_engine):
    worker = await bus_engine.connect(namespace="orders")
    await worker.send(type="registerfunction", id="engine::x")
    rejected = await worker.until("registrationrejected")
    assert rejected["code"] == "FUNCTION_NAMESPACE_CONFLICT"
    assert rejected["owner_worker_id"] == ""
    assert rejected["function_id"] == "engine::x"
