"""Node and four versions of the Python client on one engine: they call each other and outlive the engine's death.

`ours` is the Python program on linkly's own package in iii's shape. Each version runs two programs: `peer`,
and `pair` with two clients that have no name.
"""

import json

import pytest

from linkly import Client

PEERS = {"py16": "0.16.1", "py19": "0.19.7", "py22": "0.22.1", "py25": "0.25.0", "ours": "linkly", "node": "node"}
PYTHONS = [name for name in PEERS if name != "node"]
PAIRS = {name: (f"{name}_left", f"{name}_right") for name in PEERS}
READY = [f"{id_}::ready" for id_ in (*PEERS, *sum(PAIRS.values(), ()))]

pytestmark = pytest.mark.compat


@pytest.fixture(scope="module")
async def linkly(new_linkly, command):
    linkly = await new_linkly()
    for name, version in PEERS.items():
        linkly.run_client(command(version, "peer", name))
        linkly.run_client(command(version, "pair", name))
    await linkly.until_there(*READY)
    return linkly


@pytest.fixture
async def bus(linkly):
    async with Client(linkly.url, name="test") as bus:
        yield bus


async def everybody_answers(linkly, bus):
    for name in PEERS:
        page = await linkly.http.get(f"/{name}/hello")
        assert (page.status_code, page.json()) == (200, {"from": name, "word": "hello"})
    way = [*PEERS, *reversed(PEERS)]
    answer = await bus.trigger("node::relay", {"way": way, "value": {"text": "é", "n": 1.5}})
    assert answer == {"value": {"text": "é", "n": 1.5}, "visited": ["node", *way]}
    for pair in PAIRS.values():
        await both_serve(bus, *pair)


async def both_serve(bus, left, right):
    for here, there, half in ((left, right, "right"), (right, left, "left")):
        said = await bus.trigger(f"{here}::pass", {"to": there, "word": "hi"})
        assert said == {"half": half, "heard": "hi"}


@pytest.mark.parametrize("name", PYTHONS)
async def test_node_calls_python_calls_node_and_the_other_way_round(bus, name):
    for way in (["node", name, "node"], [name, "node", name]):
        answer = await bus.trigger(f"{way[0]}::relay", {"way": way[1:], "value": [1, None, "zwei"]})
        assert answer == {"value": [1, None, "zwei"], "visited": way}


@pytest.mark.parametrize("name", PEERS)
async def test_two_clients_without_a_name_live_together_in_one_process(bus, name):
    await both_serve(bus, *PAIRS[name])


async def test_one_call_goes_through_every_version_twice(linkly, bus):
    await everybody_answers(linkly, bus)


@pytest.mark.parametrize("caller, callee", [(name, "node") for name in PYTHONS] + [("node", name) for name in PYTHONS])
async def test_a_failure_crosses_with_its_code_and_its_words(bus, caller, callee):
    caught = await bus.trigger(f"{caller}::catch", {"function_id": f"{callee}::fail", "payload": {}})
    assert caught["code"] == "invocation_failed"
    assert f"{callee} fails on purpose" in caught["message"]
    # A failure of the callee's own callee: what the callee rethrows is its own failure, the reason stays in the words.
    nested = {"way": ["nobody"], "value": 1}
    caught = await bus.trigger(f"{caller}::catch", {"function_id": f"{callee}::relay", "payload": nested})
    assert caught["code"] == "invocation_failed"
    assert "nobody::relay" in caught["message"]


@pytest.mark.parametrize("caller", PEERS)
async def test_errors_of_the_engine_and_its_workers_keep_their_codes(bus, caller):
    for function_id, payload, code, words in (
        ("nobody::here", {}, "function_not_found", "nobody::here"),
        ("state::get", {"scope": "s"}, "deserialization_error", "key"),
        ("database::query", {"db": "nope", "sql": "SELECT 1"}, "UNKNOWN_DB", "nope"),
    ):
        caught = await bus.trigger(f"{caller}::catch", {"function_id": function_id, "payload": payload})
        assert words in caught["message"]
        assert caught["code"] == code


@pytest.mark.parametrize("name", PEERS)
async def test_every_level_of_every_logger_is_listed(linkly, bus, name):
    for level in ("debug", "info", "warn", "error"):
        line = {"level": level, "message": f"{name} at {level}", "data": {"by": name, "n": 7, "list": [1, "a"]}}
        await bus.trigger(f"{name}::log", line)
    for level, number in (("debug", 5), ("info", 9), ("warn", 13), ("error", 17)):
        record = await linkly.until_logged(f"{name} at {level}", by=name)
        assert (record["severity_text"], record["severity_number"]) == (level.upper(), number)
        assert record["attributes"]["log.data"] == {"by": name, "n": 7, "list": [1, "a"]}
    for query in ({"severity_text": "warn"}, {"severity_min": 13}):
        listed = (await bus.trigger("engine::logs::list", query))["logs"]
        bodies = {record["body"] for record in listed}
        assert f"{name} at warn" in bodies
        assert f"{name} at info" not in bodies


async def test_a_chain_of_calls_has_one_trace_in_the_logs_of_all(linkly, bus):
    await bus.trigger("node::relay", {"way": [*PYTHONS, "node"], "value": "traced"})
    records = [await linkly.until_logged(f"{name} relays", value="traced") for name in PEERS]
    assert len({record["trace_id"] for record in records}) == 1
    assert records[0]["trace_id"]


async def test_all_come_back_when_the_engine_is_killed_under_them(linkly):
    await linkly.kill()
    await linkly.start()
    await linkly.until_there(*READY)
    async with Client(linkly.url, name="afterwards") as bus:
        await everybody_answers(linkly, bus)
    listed = json.loads(await linkly.trigger("engine::workers::list"))["workers"]
    assert sorted(row["name"] for row in listed if row["name"] in PEERS) == sorted(PEERS)


async def test_all_come_back_when_the_engine_is_stopped_in_order(linkly):
    assert await linkly.engine.ended() == 0
    await linkly.start()
    await linkly.until_there(*READY)
    async with Client(linkly.url, name="afterwards") as bus:
        await everybody_answers(linkly, bus)
