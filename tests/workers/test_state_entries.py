"""Pages of a scope: complete, bounded, and safe while others write."""

import asyncio
import json

import pytest

from linkly.errors import LinklyError
from linkly_workers.state.stores.memory import Scope


async def fill(bus, count, scope="s"):
    await asyncio.gather(
        *(bus.trigger("state::set", {"scope": scope, "key": f"k{n}", "value": n}) for n in range(count))
    )


async def pages(bus, between=None, **request):
    """Follow the cursors to the end; `between` runs after each page."""
    found, cursor = [], None
    while True:
        answer = await bus.trigger("state::list_entries", {"scope": "s", "cursor": cursor, **request})
        assert answer["offset"] == sum(len(each["entries"]) for each in found)
        found.append(answer)
        assert answer["done"] == (answer["next_cursor"] is None)
        if answer["done"]:
            return found
        cursor = answer["next_cursor"]
        if between is not None:
            await between(len(found))


def keys(found):
    return [entry["key"] for page in found for entry in page["entries"]]


async def test_pages_hold_every_entry_once_in_order(run, state):
    async with run(*state()) as bus:
        await fill(bus, 25)
        found = await pages(bus, limit=10)
        assert [len(page["entries"]) for page in found] == [10, 10, 5]
        assert [page["total"] for page in found] == [25] * 3
        assert [entry for page in found for entry in page["entries"]] == [
            {"key": f"k{n}", "value": n} for n in range(25)
        ]
        assert keys(found) == (await bus.trigger("state::list_keys", {"scope": "s"}))["keys"]


async def test_a_page_that_takes_exactly_the_rest_is_the_last(run, state):
    async with run(*state()) as bus:
        await fill(bus, 20)
        assert [len(page["entries"]) for page in await pages(bus, limit=10)] == [10, 10]


async def test_a_scope_without_keys_is_one_empty_page(run, state):
    async with run(*state()) as bus:
        assert await bus.trigger("state::list_entries", {"scope": "none"}) == {
            "entries": [],
            "next_cursor": None,
            "done": True,
            "offset": 0,
            "total": 0,
        }


async def test_a_page_has_a_hundred_entries_and_at_most_max_bytes(run, state):
    async with run(*state()) as bus:
        await fill(bus, 150)
        assert [len(page["entries"]) for page in await pages(bus)] == [100, 50]
        for key in ("x", "y", "z"):
            await bus.trigger("state::set", {"scope": "s", "key": key, "value": "v" * 100})
        found = await pages(bus, max_bytes=256)
        assert keys(found) == [*(f"k{n}" for n in range(150)), "x", "y", "z"]
        assert all(len(json.dumps(page["entries"], separators=(",", ":"))) <= 256 for page in found)
        assert len(found) < 25, "pages are filled"


async def test_a_key_that_is_there_throughout_is_seen_once(run, state):
    async with run(*state()) as bus:
        await fill(bus, 60)

        async def meddle(turn):
            for n in range(0, 60, 3):  # deleted and set again: these come and go
                address = {"scope": "s", "key": f"k{n}"}
                await bus.trigger("state::delete", address)
                if turn % 2:
                    await bus.trigger("state::set", {**address, "value": "again"})
            for n in range(1, 60, 3):  # overwritten: they stay
                await bus.trigger("state::set", {"scope": "s", "key": f"k{n}", "value": f"turn {turn}"})
            if turn < 20:
                await bus.trigger("state::set", {"scope": "s", "key": f"new{turn}", "value": turn})

        seen = keys(await pages(bus, meddle, limit=7))
        throughout = [f"k{n}" for n in range(60) if n % 3]
        assert [key for key in seen if key in throughout] == throughout


async def test_a_cursor_outlives_its_key(run, state):
    async with run(*state()) as bus:
        await fill(bus, 10)
        cursor = (await bus.trigger("state::list_entries", {"scope": "s", "limit": 5}))["next_cursor"]
        await bus.trigger("state::delete", {"scope": "s", "key": "k4"})
        for _ in range(2):
            answer = await bus.trigger("state::list_entries", {"scope": "s", "cursor": cursor})
            assert keys([answer]) == ["k5", "k6", "k7", "k8", "k9"]
            assert (answer["offset"], answer["total"]) == (5, 9)


async def test_only_a_cursor_of_the_durable_store_survives_a_restart(run, state):
    async with run(*state()) as bus:
        await fill(bus, 10)
        cursor = (await bus.trigger("state::list_entries", {"scope": "s", "limit": 7}))["next_cursor"]
        for key in ("k6", "k7", "k8", "k9"):
            await bus.trigger("state::delete", {"scope": "s", "key": key})
    async with run(*state()) as bus:
        await bus.trigger("state::set", {"scope": "s", "key": "later", "value": 1})
        request = {"scope": "s", "cursor": cursor}
        if state.durable:
            assert keys([await bus.trigger("state::list_entries", request)]) == ["later"]
            return
        with pytest.raises(LinklyError) as failure:
            await bus.trigger("state::list_entries", request)
        assert failure.value.code == "INVALID_CURSOR"


@pytest.mark.parametrize("cursor", ["", "x", "ä", "AAAA", "A" * 32, "=" * 8])
async def test_a_cursor_nobody_made_is_refused(run, state, cursor):
    async with run(*state()) as bus:
        await fill(bus, 3)
        with pytest.raises(LinklyError, match="start again without a cursor") as failure:
            await bus.trigger("state::list_entries", {"scope": "s", "cursor": cursor})
        assert failure.value.code == "INVALID_CURSOR"


async def test_a_cursor_of_another_scope_is_refused(run, state):
    async with run(*state()) as bus:
        await fill(bus, 3)
        await fill(bus, 3, scope="other")
        cursor = (await bus.trigger("state::list_entries", {"scope": "other", "limit": 1}))["next_cursor"]
        with pytest.raises(LinklyError) as failure:
            await bus.trigger("state::list_entries", {"scope": "s", "cursor": cursor})
        assert failure.value.code == "INVALID_CURSOR"


async def test_an_entry_larger_than_a_page_can_be_skipped(run, state):
    async with run(*state()) as bus:
        for key, value in (("a", 1), ("big", "x" * 300), ("z", 2)):
            await bus.trigger("state::set", {"scope": "s", "key": key, "value": value})
        first = await bus.trigger("state::list_entries", {"scope": "s", "max_bytes": 256})
        assert keys([first]) == ["a"]
        request = {"scope": "s", "max_bytes": 256, "cursor": first["next_cursor"]}
        with pytest.raises(LinklyError, match="big") as failure:
            await bus.trigger("state::list_entries", request)
        assert failure.value.code == "ROW_TOO_LARGE"
        assert failure.value.details["bytes"] > 256
        request["cursor"] = failure.value.details["next_cursor"]
        assert keys([await bus.trigger("state::list_entries", request)]) == ["z"]


def test_a_listing_costs_what_it_answers():
    """Positions are found by bisection and left-overs of deleted keys are swept."""
    scope = Scope()
    for n in range(1000):
        scope.put(f"k{n}", b"1", n + 1)
    for n in range(900):
        scope.remove(f"k{n}")
    assert len(scope.keys) <= 125, "left-overs are at most a fifth"
    assert [key for _, key, _ in scope.after(990)] == [f"k{n}" for n in range(990, 1000)]
    for turn in range(1000):  # a key that comes and goes leaves no growing rest
        scope.put("again", b"1", 2000 + turn)
        scope.remove("again")
    assert len(scope.keys) <= 126
    assert len(scope.gone) + len(scope.again) <= 50
