"""The cache knows whose links it has: entries of another store are taken away, once, and never read."""

import asyncio

from linkly import Function, LinklyError
from linkly_workers.link.cache import CLEAR_AT_ONCE, Cached, LinkCache
from linkly_workers.link.shapes import LinkDetails


def link(url="https://a.example", code="a"):
    return LinkDetails(code, url, "2026-01-01T00:00:00.000Z", 0, None, None)


def reads(details):
    async def load():
        return details

    return load


async def keys(bus):
    return (await bus.trigger("state::list_keys", {"scope": "links"}))["keys"]


async def test_entries_stay_for_the_same_store_and_go_for_another(run, state):
    async with run(*state()) as bus:
        first = LinkCache(bus)
        await first.belong_to("one")
        await first.fill("a", reads(link()))
        again = LinkCache(bus)
        await again.belong_to("one")
        assert await again.get("a") == Cached("https://a.example")
        other = LinkCache(bus)
        await other.belong_to("two")
        assert await other.get("a") is None
        assert await keys(bus) == []


async def test_any_number_of_old_entries_goes(run, state):
    async with run(*state()) as bus:
        cache = LinkCache(bus)
        await cache.belong_to("one")
        for number in range(CLEAR_AT_ONCE + 3):
            await bus.trigger(
                "state::set", {"scope": "links", "key": str(number), "value": {"url": "https://x.example"}}
            )
        await cache.belong_to("two")
        assert await keys(bus) == []


async def test_what_the_tutorials_workers_left_before_is_kept(run, state):
    async with run(*state()) as bus:
        await bus.trigger("state::set", {"scope": "links", "key": "x", "value": {"url": "https://set.example"}})
        cache = LinkCache(bus)
        await cache.belong_to("one")
        assert await cache.get("x") == Cached("https://set.example")


async def test_before_the_store_is_known_nothing_is_read_or_kept(run, state):
    async with run(*state()) as bus:
        await bus.trigger("state::set", {"scope": "links", "key": "x", "value": {"url": "https://set.example"}})
        cache = LinkCache(bus)
        assert await cache.get("x") is None
        await cache.fill("a", reads(link()))
        assert await keys(bus) == ["x"]


async def test_a_look_up_that_read_the_store_before_is_not_kept(run, state):
    async with run(*state()) as bus:
        cache = LinkCache(bus)
        await cache.belong_to("one")
        asked, may_answer = asyncio.Event(), asyncio.Event()

        async def load():
            asked.set()
            await may_answer.wait()
            return link()

        look_up = asyncio.create_task(cache.fill("a", load))
        await asked.wait()
        await cache.belong_to("two")
        may_answer.set()
        assert await look_up == link()
        assert await cache.get("a") is None


async def test_a_state_worker_that_fails_at_first_is_asked_again(run, caplog):
    async with run() as bus:
        kept = {("link", "store"): "one", ("links", "a"): {"url": "https://old.example"}}
        failures = [LinklyError("the state store is locked")]

        async def get(payload):
            if failures:
                raise failures.pop()
            return kept.get((payload["scope"], payload["key"]))

        async def set_(payload):
            kept[payload["scope"], payload["key"]] = payload["value"]

        async def delete(payload):
            kept.pop((payload["scope"], payload["key"]), None)

        async def list_keys(payload):
            return {"keys": [key for scope, key in kept if scope == payload["scope"]]}

        for name, handler in (("get", get), ("set", set_), ("delete", delete), ("list_keys", list_keys)):
            bus.register_function(Function(f"state::{name}", handler))
        await bus.trigger("engine::workers::list")
        cache = LinkCache(bus)
        await cache.belong_to("two")
        assert "cannot be cached yet" in caplog.text
        assert await cache.get("a") is None
        assert kept == {("link", "store"): "two"}
