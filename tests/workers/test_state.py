"""The state worker, both stores, in process and over the wire."""

import asyncio
import math

import pytest

from linkly import Json, LinklyError
from linkly.errors import InvalidPayload
from linkly_workers.state import StateWorker

pytestmark = pytest.mark.transports("in process", "native wire", "json wire")


async def test_a_value_is_set_read_listed_and_deleted(run, state):
    async with run(*state()) as bus:
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
    async with run(*state()) as bus:
        ops = [{"type": "set", "path": "a", "value": "x"}, {"type": "increment", "path": "a", "by": 1}]
        answer = await bus.trigger("state::update", {"scope": "s", "key": "k", "ops": ops})
        assert (answer["old_value"], answer["new_value"]) == (None, {"a": "x"})
        assert [(each["op_index"], each["code"]) for each in answer["errors"]] == [(1, "increment.not_number")]


async def test_increments_of_twenty_callers_are_all_counted(run, state):
    async with run(*state()) as bus:
        ops = [{"type": "increment", "path": "n", "by": 1}]

        async def count():
            address = {"scope": "s", "key": "k"}
            return [(await bus.trigger("state::update", {**address, "ops": ops}))["new_value"]["n"] for _ in range(100)]

        seen = await asyncio.gather(*(count() for _ in range(20)))
        assert await bus.trigger("state::get", {"scope": "s", "key": "k"}) == {"n": 2_000}
        assert sorted(number for each in seen for number in each) == list(range(1, 2_001))
        assert all(each == sorted(each) for each in seen), "a caller's later increment counts higher"


async def test_of_concurrent_deletes_one_gets_the_value(run, state):
    async with run(*state()) as bus:
        address = {"scope": "s", "key": "k"}
        await bus.trigger("state::set", {**address, "value": 1})
        answers = await asyncio.gather(*(bus.trigger("state::delete", address) for _ in range(20)))
        assert sorted(answers, key=str) == [1, *[None] * 19]


async def test_null_is_a_value_and_listed(run, state):
    async with run(*state()) as bus:
        address = {"scope": "s", "key": "k"}
        await bus.trigger("state::set", {**address, "value": None})
        assert await bus.trigger("state::get", address) is None
        assert await bus.trigger("state::list", {"scope": "s"}) == [None]
        # A null that is there is no missing value: an increment of it is refused.
        answer = await bus.trigger("state::update", {**address, "ops": [{"type": "increment", "path": "", "by": 1}]})
        assert [each["code"] for each in answer["errors"]] == ["increment.not_number"]


async def test_an_update_whose_operations_all_failed_stores_an_empty_object(run, state):
    async with run(*state()) as bus:
        ops = [{"type": "set", "path": "__proto__", "value": 1}]
        answer = await bus.trigger("state::update", {"scope": "s", "key": "k", "ops": ops})
        assert (answer["old_value"], answer["new_value"]) == (None, {})
        assert await bus.trigger("state::get", {"scope": "s", "key": "k"}) == {}


async def test_an_update_without_errors_has_no_errors_field(run, state):
    async with run(*state()) as bus:
        assert await bus.trigger("state::update", {"scope": "s", "key": "k", "ops": []}) == {
            "old_value": None,
            "new_value": {},
        }


async def test_overwriting_keeps_a_keys_place(run, state):
    async with run(*state()) as bus:
        for key in ("a", "b", "c"):
            await bus.trigger("state::set", {"scope": "s", "key": key, "value": key})
        await bus.trigger("state::set", {"scope": "s", "key": "a", "value": "A"})
        await bus.trigger("state::delete", {"scope": "s", "key": "b"})
        await bus.trigger("state::set", {"scope": "s", "key": "b", "value": "B"})
        assert await bus.trigger("state::list", {"scope": "s"}) == ["A", "c", "B"]


async def test_groups_are_sorted_and_each_is_there_once(run, state):
    async with run(*state()) as bus:
        for scope in ("b", "a", "b", "c"):
            for key in ("x", "y"):
                await bus.trigger("state::set", {"scope": scope, "key": key, "value": 1})
        assert await bus.trigger("state::list_groups", {}) == {"groups": ["a", "b", "c"]}


@pytest.mark.parametrize("value", [2**63, 2**64 - 1, -(2**63), 1.5, 1e308, "\u0000 \U0001f600", [], {}, {"": {"": []}}])
async def test_any_json_value_comes_back_as_it_was(run, state, value):
    async with run(*state()) as bus:
        await bus.trigger("state::set", {"scope": "\u0000s", "key": "\u0000", "value": value})
        assert await bus.trigger("state::get", {"scope": "\u0000s", "key": "\u0000"}) == value
    if state.durable:
        async with run(*state()) as bus:
            assert await bus.trigger("state::get", {"scope": "\u0000s", "key": "\u0000"}) == value


async def test_a_number_nobody_could_read_back_is_refused(run, state):
    async with run(*state()) as bus:
        with pytest.raises(InvalidPayload, match="value"):
            await bus.trigger("state::set", Json(b'{"scope": "s", "key": "k", "value": [1e999]}'))
        assert await bus.trigger("state::list_keys", {"scope": "s"}) == {"keys": []}


@pytest.mark.parametrize("value", [math.nan, math.inf, [None, -math.inf], {"a": {"b": (1, math.nan)}}])
async def test_numbers_that_json_does_not_have_do_not_become_null(run, state, value):
    async with run(*state()) as bus:
        address = {"scope": "s", "key": "k"}
        for name, payload in [
            ("set", {"value": value}),
            ("update", {"ops": [{"type": "set", "path": "", "value": value}]}),
        ]:
            with pytest.raises(InvalidPayload, match=r"infinite - at `\$\.(value|ops\[0\]\.value)"):
                await bus.trigger(f"state::{name}", {**address, **payload})
        assert await bus.trigger("state::list_keys", {"scope": "s"}) == {"keys": []}
        assert (await bus.trigger("state::set", {**address, "value": [None, 1.5]}))["new_value"] == [None, 1.5]


@pytest.mark.parametrize(
    "function_id, payload, part",
    [
        ("state::set", {"scope": "s", "key": "k"}, "value"),
        ("state::set", {"key": "k", "value": 1}, "scope"),
        ("state::get", {"scope": 5, "key": "k"}, "scope"),
        ("state::update", {"scope": "s", "key": "k", "ops": [{"type": "explode"}]}, "explode"),
        ("state::update", {"scope": "s", "key": "k"}, "ops"),
        ("state::update", {"scope": "s", "key": "k", "ops": [{"type": "increment", "path": "a"}]}, "by"),
        ("state::update", {"scope": "s", "key": "k", "ops": [{"type": "increment", "path": "a", "by": 1.5}]}, "by"),
        ("state::update", {"scope": "s", "key": "k", "ops": [{"type": "decrement", "path": "a", "by": 2**63}]}, "by"),
        ("state::update", {"scope": "s", "key": "k", "ops": [{"type": "set", "path": ["a"], "value": 1}]}, "path"),
        ("state::update", {"scope": "s", "key": "k", "ops": [{"type": "merge", "path": "a"}]}, "value"),
        ("state::list_entries", {"scope": "s", "limit": 0}, "limit"),
        ("state::list_entries", {"scope": "s", "limit": 1001}, "limit"),
        ("state::list_entries", {"scope": "s", "max_bytes": 255}, "max_bytes"),
        ("state::list_entries", {"scope": "s", "max_bytes": 8_000_001}, "max_bytes"),
    ],
)
async def test_a_payload_that_does_not_fit_names_the_field(run, function_id, payload, part):
    async with run(StateWorker()) as bus:
        with pytest.raises(InvalidPayload, match=part):
            await bus.trigger(function_id, payload)
        assert await bus.trigger("state::list_groups") == {"groups": []}


async def test_a_value_over_the_limit_leaves_the_old_one(run, state):
    async with run(*state(max_value_bytes=10)) as bus:
        await bus.trigger("state::set", {"scope": "s", "key": "k", "value": "12345678"})
        with pytest.raises(LinklyError) as failure:
            await bus.trigger("state::set", {"scope": "s", "key": "k", "value": "123456789"})
        assert failure.value.code == "VALUE_TOO_LARGE"
        grow = {"scope": "s", "key": "k", "ops": [{"type": "append", "path": "", "value": "9"}]}
        with pytest.raises(LinklyError) as failure:
            await bus.trigger("state::update", grow)
        assert failure.value.code == "VALUE_TOO_LARGE"
        assert await bus.trigger("state::get", {"scope": "s", "key": "k"}) == "12345678"
