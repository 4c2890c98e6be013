"""The state worker, both stores, in process and over the wire."""

import asyncio

import pytest

from linkly import Function, LinklyError
from linkly import state as state_trigger
from linkly.errors import ConfigError
from linkly.schema import read_settings
from linkly.testing import settle
from linkly_workers.state import StateSettings, StateWorker


@pytest.fixture(params=["memory", "file"])
def state(request, tmp_path):
    """Make state workers over one store."""

    def make(**settings):
        if request.param == "file":
            kv = {"store_method": "file_based", "file_path": str(tmp_path / "kv")}
            settings["adapter"] = {"name": "kv", "config": kv}
        return StateWorker(read_settings(StateSettings, settings, "$"))

    make.durable = request.param == "file"
    return make


async def test_a_value_is_set_read_listed_and_deleted(run, state):
    async with run(state()) as bus:
        address = {"scope": "s", "key": "k"}
        assert await bus.trigger("state::get", address) is None
        assert await bus.trigger("state::set", {**address, "value": {"a": [1]}}) == {
            "old_value": None,
            "new_value": {"a": [1]},
        }
        again = await bus.trigger("state::set", {**address, "data": "older name"})
        assert again == {"old_value": {"a": [1]}, "new_value": "older name"}
        assert await bus.trigger("state::get", address) == "older name"
        await bus.trigger("state::set", {"scope": "s", "key": "a", "value": 2})
        assert await bus.trigger("state::list", {"scope": "s"}) == ["older name", 2]
        assert await bus.trigger("state::list_keys", {"scope": "s"}) == {"keys": ["k", "a"]}
        assert await bus.trigger("state::list_groups") == {"groups": ["s"]}
        assert await bus.trigger("state::delete", address) == "older name"
        assert await bus.trigger("state::delete", address) is None
        assert await bus.trigger("state::list", {"scope": "none"}) == []
        await bus.trigger("state::delete", {"scope": "s", "key": "a"})
        assert await bus.trigger("state::list_groups") == {"groups": []}


async def test_an_update_reports_what_did_not_work(run, state):
    async with run(state()) as bus:
        ops = [{"type": "set", "path": "a", "value": "x"}, {"type": "increment", "path": "a", "by": 1}]
        answer = await bus.trigger("state::update", {"scope": "s", "key": "k", "ops": ops})
        assert (answer["old_value"], answer["new_value"]) == (None, {"a": "x"})
        assert [(each["op_index"], each["code"]) for each in answer["errors"]] == [(1, "increment.not_number")]


async def test_concurrent_increments_are_all_counted(run, state):
    async with run(state()) as bus:

        async def count():
            for _ in range(25):
                ops = [{"type": "increment", "path": "n", "by": 1}]
                await bus.trigger("state::update", {"scope": "s", "key": "k", "ops": ops})

        await asyncio.gather(*(count() for _ in range(20)))
        assert await bus.trigger("state::get", {"scope": "s", "key": "k"}) == {"n": 500}


@pytest.mark.parametrize(
    "function_id, payload, part",
    [
        ("state::set", {"scope": "s", "key": "k"}, "value"),
        ("state::set", {"key": "k", "value": 1}, "scope"),
        ("state::get", {"scope": 5, "key": "k"}, "scope"),
        ("state::update", {"scope": "s", "key": "k", "ops": [{"type": "explode"}]}, "explode"),
        ("state::update", {"scope": "s", "key": "k"}, "ops"),
    ],
)
async def test_a_payload_that_does_not_fit_names_the_field(run, function_id, payload, part):
    async with run(StateWorker()) as bus:
        with pytest.raises(LinklyError, match=part):
            await bus.trigger(function_id, payload)


async def test_a_value_over_the_limit_is_refused_and_the_old_one_stays(run, state):
    async with run(state(max_value_bytes=10)) as bus:
        await bus.trigger("state::set", {"scope": "s", "key": "k", "value": "12345678"})
        with pytest.raises(LinklyError) as failure:
            await bus.trigger("state::set", {"scope": "s", "key": "k", "value": "123456789"})
        assert failure.value.code == "VALUE_TOO_LARGE"
        grow = {"scope": "s", "key": "k", "ops": [{"type": "append", "path": "", "value": "9"}]}
        with pytest.raises(LinklyError) as failure:
            await bus.trigger("state::update", grow)
        assert failure.value.code == "VALUE_TOO_LARGE"
        assert await bus.trigger("state::get", {"scope": "s", "key": "k"}) == "12345678"


async def test_events_arrive_in_order_and_only_where_they_match(run, state):
    seen, complete = [], asyncio.Event()

    async def note(event):
        seen.append((event["event_type"], event["key"], event["old_value"], event["new_value"]))
        if len(seen) == 7:
            complete.set()

    async def is_wanted(event):
        return event["key"] != "unwanted"

    async with run(state()) as bus:
        bus.register_function(Function("test::note", note))
        bus.register_function(Function("test::is_wanted", is_wanted))
        bus.register_trigger("test::note", state_trigger(scope="s", condition="test::is_wanted"))
        await settle()
        for number in range(5):
            await bus.trigger("state::set", {"scope": "s", "key": "k", "value": number})
        await bus.trigger("state::set", {"scope": "other", "key": "k", "value": 1})
        await bus.trigger("state::set", {"scope": "s", "key": "unwanted", "value": 1})
        await bus.trigger("state::delete", {"scope": "s", "key": "k"})
        await bus.trigger("state::set", {"scope": "s", "key": "last", "value": None})
        await asyncio.wait_for(complete.wait(), 10)
        assert [each for each in seen if each[1] == "k"] == [
            ("state:created", "k", None, 0),
            *(("state:updated", "k", number - 1, number) for number in range(1, 5)),
            ("state:deleted", "k", 4, None),
        ]
        assert ("state:created", "last", None, None) in seen


async def test_a_failing_listener_hurts_nobody(run, state, caplog):
    complete = asyncio.Event()

    async def fail(event):
        raise ValueError("listener broke")

    async def note(event):
        complete.set()

    async with run(state()) as bus:
        bus.register_function(Function("test::fail", fail))
        bus.register_function(Function("test::note", note))
        bus.register_trigger("test::fail", state_trigger(key="k"))
        bus.register_trigger("test::note", state_trigger(key="k"))
        await settle()
        await bus.trigger("state::set", {"scope": "s", "key": "k", "value": 1})
        await asyncio.wait_for(complete.wait(), 10)
    assert "listener broke" in caplog.text


async def test_the_file_keeps_what_was_answered_across_a_restart(run, state):
    if not state.durable:
        return
    async with run(state()) as bus:
        for key in ("b", "a", "gone"):
            await bus.trigger("state::set", {"scope": "s", "key": key, "value": {"key": key}})
        await bus.trigger("state::delete", {"scope": "s", "key": "gone"})
    async with run(state()) as bus:
        assert await bus.trigger("state::list_keys", {"scope": "s"}) == {"keys": ["b", "a"]}
        assert await bus.trigger("state::get", {"scope": "s", "key": "b"}) == {"key": "b"}


async def test_a_store_that_cannot_be_opened_is_a_config_error(run, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    kv = {"store_method": "file_based", "file_path": str(tmp_path / "file")}
    worker = StateWorker(read_settings(StateSettings, {"adapter": {"name": "kv", "config": kv}}, "$"))
    with pytest.raises(ConfigError, match="cannot be opened"):
        async with run(worker):
            pass
