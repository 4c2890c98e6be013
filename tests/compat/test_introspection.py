"""docs/protocol.md C81-C86: what the engine tells about itself."""

import pytest


async def watch(bus_engine, trigger_type, **metadata):
    """Return a client that is called whenever the trigger fires."""
    client = await bus_engine.connect(**metadata)
    await client.send(type="registerfunction", id="watch::on")
    await client.send(type="registertrigger", id="w", trigger_type=trigger_type, function_id="watch::on", config={})
    await client.nothing_came()
    await bus_engine.engine.acknowledged()
    return client


async def test_c81_workers_with_a_pid_are_listed_in_order(bus_engine):
    for name in ("zebra", "ant"):
        await bus_engine.connect(name=name)
    browser = await bus_engine.connect(metadata=False)
    await browser.call("engine::workers::register", {"name": "browser:1", "runtime": "browser"})
    rows = (await browser.call("engine::workers::list", {}))["result"]["workers"]
    assert [row["name"] for row in rows] == ["ant", "zebra"]
    row = rows[0]
    assert row["status"] == "connected"
    assert row["ip_address"] == "127.0.0.1"
    assert {"description", "version", "id", "namespace", "runtime", "os", "function_count"} <= set(row)


async def test_c82_internal_functions_are_hidden_by_default(bus_engine):
    worker = await bus_engine.connect()
    await worker.send(type="registerfunction", id="x::shown")
    await worker.send(type="registerfunction", id="x::hidden", metadata={"internal": True})
    await worker.send(type="registerfunction", id="engine::queue::enqueue")
    shown = (await worker.call("engine::functions::list", {}))["result"]["functions"]
    assert [row["function_id"] for row in shown] == ["engine::queue::enqueue", "x::shown"]
    everything = (await worker.call("engine::functions::list", {"include_internal": True}))["result"]["functions"]
    assert {"x::hidden", "engine::functions::list"} <= {row["function_id"] for row in everything}


async def test_c83_info_of_several_keeps_the_order_in_which_they_were_asked(bus_engine):
    worker = await bus_engine.connect()
    for name in ("a::1", "a::2"):
        await worker.send(type="registerfunction", id=name)
    ids = ["a::2", "no::such", "a::1", "a::2"]
    rows = (await worker.call("engine::functions::info", {"function_ids": ids}))["result"]["functions"]
    assert [row["function_id"] for row in rows] == ["a::2", "no::such", "a::1"]
    assert rows[1]["error"] == "not_found"
    many = [f"f::{n}" for n in range(33)]
    answer = await worker.call("engine::functions::info", {"function_ids": many})
    assert answer["error"]["code"] == "INVALID_ARGUMENTS"


@pytest.mark.parametrize("payload", [{}, {"function_id": "a", "function_ids": ["b"]}])
async def test_c83_info_wants_one_of_two_arguments(bus_engine, payload):
    client = await bus_engine.connect()
    assert (await client.call("engine::functions::info", payload))["error"]["code"] == "INVALID_ARGUMENTS"


async def test_c84_workers_available_fires_in_order_with_the_workers_id(bus_engine):
    watcher = await watch(bus_engine, "engine::workers-available")
    worker = await bus_engine.connect()
    await bus_engine.gone(worker)
    events = [(await watcher.until("invokefunction"))["data"] for _ in range(3)]
    assert [event["event"] for event in events] == [
        "worker_connected",
        "worker_metadata_updated",
        "worker_disconnected",
    ]
    assert {event["worker_id"] for event in events} == {worker.worker_id}


async def test_c84_a_connection_that_only_calls_fires_nothing(bus_engine):
    watcher = await watch(bus_engine, "engine::workers-available")
    caller = await bus_engine.connect(metadata=False)
    await caller.call("engine::functions::list", {})
    await bus_engine.gone(caller)
    worker = await bus_engine.connect(metadata=False)
    await worker.send(type="registerfunction", id="a::b")
    event = (await watcher.until("invokefunction"))["data"]
    assert event == {"event": "worker_connected", "worker_id": worker.worker_id}


async def test_c85_functions_available_fires_at_once_with_the_whole_set(bus_engine):
    watcher = await watch(bus_engine, "engine::functions-available")
    worker = await bus_engine.connect()
    await worker.send(type="registerfunction", id="new::fn")
    event = (await watcher.until("invokefunction"))["data"]
    assert event["event"] == "functions_changed"
    assert {"new::fn", "watch::on", "engine::functions::list"} <= {row["function_id"] for row in event["functions"]}


async def test_c85_a_function_that_only_changes_its_words_fires_nothing(bus_engine):
    worker = await bus_engine.connect()
    await worker.send(type="registerfunction", id="new::fn", description="old")
    await worker.nothing_came()
    watcher = await watch(bus_engine, "engine::functions-available")
    await worker.send(type="registerfunction", id="new::fn", description="new")
    await worker.nothing_came()
    assert [frame for frame in await watcher.nothing_came() if frame["type"] == "invokefunction"] == []


@pytest.mark.parametrize("payload", [5, "text", [1], {"search": 5}, {"workers": "a"}])
async def test_c86_a_payload_that_does_not_fit_is_a_deserialization_error(bus_engine, payload):
    client = await bus_engine.connect()
    answer = await client.call("engine::functions::list", payload)
    assert answer["error"]["code"] == "deserialization_error"
    assert "engine::functions::list" in answer["error"]["message"]


async def test_trigger_types_and_triggers_are_listed_and_described(bus_engine):
    worker = await bus_engine.connect(name="w")
    await worker.send(type="registertriggertype", id="tick", description="d", trigger_request_format={"type": "object"})
    await worker.send(type="registerfunction", id="x::y")
    config = {"text": "a" * 100}
    await worker.send(
        type="registertrigger", id="t1", trigger_type="tick", function_id="x::y", config=config, metadata={"m": 1}
    )
    types = (await worker.call("engine::triggers::list", {"worker": "w"}))["result"]["triggers"]
    assert types == [{"id": "tick", "namespace": "default", "worker_name": "w", "description": "d"}]
    info = (await worker.call("engine::triggers::info", {"id": "tick"}))["result"]
    assert info["instance_count"] == 1
    assert info["configuration_schema"] == {"type": "object"}
    rows = (await worker.call("engine::registered-triggers::list", {}))["result"]["registered_triggers"]
    assert rows[0]["config"] == config
    assert len(rows[0]["config_summary"]) == 81
    detail = (await worker.call("engine::registered-triggers::info", {"id": "t1"}))["result"]
    assert detail["metadata"] == {"m": 1}
    assert detail["trigger"]["id"] == "tick"
    assert detail["function"]["function_id"] == "x::y"
    whole = (await worker.call("engine::workers::info", {"name": "w"}))["result"]
    assert [row["function_id"] for row in whole["functions"]] == ["x::y"]
    assert [row["id"] for row in whole["trigger_types"]] == ["tick"]
    assert [row["id"] for row in whole["registered_triggers"]] == ["t1"]


@pytest.mark.parametrize("function_id", ["functions", "triggers", "registered-triggers", "workers"])
async def test_the_unknown_is_not_found(bus_engine, function_id):
    client = await bus_engine.connect()
    key = {"functions": "function_id", "workers": "name"}.get(function_id, "id")
    answer = await client.call(f"engine::{function_id}::info", {key: "no-such"})
    assert answer["error"]["code"] == "NOT_FOUND"
    assert "no-such" in answer["error"]["message"]


async def test_names_are_stripped_of_what_would_confuse_a_terminal(bus_engine):
    worker = await bus_engine.connect(name="evil\x1b[31m\u202ename", description="d" * 500)
    rows = (await worker.call("engine::workers::list", {}))["result"]["workers"]
    assert rows[0]["name"] == "evil[31mname"
    assert len(rows[0]["description"]) == 280


async def test_a_search_ranks_ids_before_descriptions(bus_engine):
    worker = await bus_engine.connect()
    await worker.send(type="registerfunction", id="a::other", description="about link")
    await worker.send(type="registerfunction", id="my::link")
    await worker.send(type="registerfunction", id="link::x")
    rows = (await worker.call("engine::functions::list", {"search": "LINK"}))["result"]["functions"]
    assert [row["function_id"] for row in rows] == ["link::x", "my::link", "a::other"]
