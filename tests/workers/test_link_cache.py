"""The cache in front of the links: a change is never served stale."""

import asyncio
import random

import pytest

from linkly import Function, LinklyError, Worker, function
from linkly.errors import CallTimeout
from linkly_workers.link import LinkWorker
from linkly_workers.state import StateWorker


async def cached(bus, code):
    return await bus.trigger("state::get", {"scope": "links", "key": code})


async def test_a_second_look_up_asks_nobody_but_the_cache(shortener):
    async with shortener() as (_, bus):
        await bus.trigger("link::create", {"url": "https://a.example", "code": "a"})
        assert await cached(bus, "a") == {"url": "https://a.example"}
        behind = {
            "sql": "UPDATE links SET url = 'https://behind.example'",
            "origin": "link",
        }  # the worker does not hear of its own changes
        await bus.trigger("database::execute", behind)
        assert await bus.trigger("link::resolve", {"code": "a"}) == {"url": "https://a.example"}
        await bus.trigger("state::delete", {"scope": "links", "key": "a"})
        assert await bus.trigger("link::resolve", {"code": "a"}) == {"url": "https://behind.example"}


async def test_what_the_tutorials_workers_put_into_the_cache_is_understood(shortener):
    async with shortener() as (_, bus):
        await bus.trigger("state::set", {"scope": "links", "key": "x", "value": {"url": "https://set.example"}})
        assert await bus.trigger("link::resolve", {"code": "x"}) == {"url": "https://set.example"}


async def test_an_entry_that_nobody_understands_counts_as_none(shortener, caplog):
    async with shortener() as (_, bus):
        await bus.trigger("link::create", {"url": "https://a.example", "code": "a"})
        await bus.trigger("state::set", {"scope": "links", "key": "a", "value": 5})
        assert await bus.trigger("link::resolve", {"code": "a"}) == {"url": "https://a.example"}
        assert await cached(bus, "a") == {"url": "https://a.example"}
        assert "cannot be read" in caplog.text


async def test_an_update_and_a_delete_are_seen_by_the_next_look_up(shortener):
    async with shortener() as (client, bus):
        await bus.trigger("link::create", {"url": "https://a.example", "code": "a"})
        assert await bus.trigger("link::update", {"code": "a", "url": "https://b.example"}) == {
            "code": "a",
            "url": "https://b.example",
        }
        assert (await client.get("/s/a")).headers["location"] == "https://b.example"
        assert await bus.trigger("link::delete", {"code": "a"}) == {"deleted": True}
        assert (await client.get("/s/a")).status_code == 404
        assert await bus.trigger("link::resolve", {"code": "a"}) == {"url": None}
        assert await bus.trigger("link::delete", {"code": "a"}) == {"deleted": False}


async def test_look_ups_beside_changes_leave_no_stale_entry(shortener):
    chance = random.Random(7)
    async with shortener() as (_, bus):
        await bus.trigger("link::create", {"url": "https://a.example/0", "code": "a"})
        for round_number in range(15):
            newest = f"https://a.example/{round_number}"
            calls = [bus.trigger("link::resolve", {"code": "a"}) for _ in range(4)]
            calls += [bus.trigger("state::delete", {"scope": "links", "key": "a"}) for _ in range(2)]
            calls += [
                bus.trigger("link::update", {"code": "a", "url": f"https://a.example/{n}-{round_number}"})
                for n in range(3)
            ]
            chance.shuffle(calls)
            await asyncio.gather(*calls)
            stored = (await bus.trigger("database::query", {"sql": "SELECT url FROM links"}))["rows"][0]
            assert await bus.trigger("link::resolve", {"code": "a"}) == stored
            await bus.trigger("link::update", {"code": "a", "url": newest})
            assert await bus.trigger("link::resolve", {"code": "a"}) == {"url": newest}


async def test_a_look_up_that_read_before_a_delete_does_not_bring_the_link_back(shortener):
    async with shortener() as (_, bus):
        for _ in range(15):
            await bus.trigger("link::create", {"url": "https://a.example", "code": "a"})
            await bus.trigger("state::delete", {"scope": "links", "key": "a"})
            looked_up = [bus.trigger("link::resolve", {"code": "a"}) for _ in range(3)]
            await asyncio.gather(
                *looked_up,
                bus.trigger("link::delete", {"code": "a"}),
                *(bus.trigger("link::resolve", {"code": "a"}) for _ in range(3)),
            )
            assert await bus.trigger("link::resolve", {"code": "a"}) == {"url": None}
            assert await cached(bus, "a") is None


class SlowDatabase(Worker):
    """Answers a write only when it is told to: the time in which everything else happens."""

    name = "database"

    def __init__(self):
        super().__init__()
        self.url = "https://old.example"
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    @function("database::listDatabases")
    async def list_databases(self) -> dict:
        return {"databases": [{"name": "primary", "driver": "sqlite"}]}

    @function("database::query")
    async def query(self, request: dict) -> dict:
        if "pragma" in request["sql"]:
            return {"rows": []}
        if "link_settings" in request["sql"]:
            return {"rows": [{"value": "00"}]}
        row = {"code": "a", "url": self.url, "created_at": "2026", "clicks": 0, "expires_at": None, "max_clicks": None}
        return {"rows": [row]}

    @function("database::transaction")
    async def transaction(self, request: dict) -> dict:
        if request["statements"][0]["sql"].startswith("UPDATE"):
            self.asked.set()
            await self.may_answer.wait()
            self.url = request["statements"][0]["params"][0]
        row = (await self.query({"sql": ""}))["rows"][0]
        return {
            "committed": True,
            "results": [{"affected_rows": 0, "rows": [[*row.values()]]} for _ in request["statements"]],
        }


async def test_a_change_goes_on_to_its_end_when_its_caller_gives_up(run):
    database = SlowDatabase()
    async with run(StateWorker(), database, LinkWorker()) as bus:
        change = asyncio.create_task(
            bus.trigger("link::update", {"code": "a", "url": "https://new.example"}, timeout_s=0.05)
        )
        await database.asked.wait()
        with pytest.raises(CallTimeout):
            await change
        look_up = asyncio.create_task(bus.trigger("link::resolve", {"code": "a"}))
        database.may_answer.set()
        assert await look_up == {"url": "https://new.example"}
        assert await cached(bus, "a") == {"url": "https://new.example"}


async def test_without_a_state_worker_changes_that_could_leave_a_stale_entry_are_refused(run, tmp_path, caplog):
    database = SlowDatabase()
    async with run(database, LinkWorker()) as bus:
        assert await bus.trigger("link::resolve", {"code": "a"}) == {"url": "https://old.example"}
        with pytest.raises(LinklyError, match="state::delete"):
            await bus.trigger("link::update", {"code": "a", "url": "https://new.example"})
        assert database.url == "https://old.example"


async def test_an_entry_that_cannot_be_kept_is_no_failure(run, caplog):
    async with run(SlowDatabase(), LinkWorker()) as bus:

        async def get(payload):
            return None

        async def refuse(payload):
            raise LinklyError("the state store is full")

        bus.register_function(Function("state::get", get))
        bus.register_function(Function("state::set", refuse))
        await bus.trigger("engine::workers::list")
        assert await bus.trigger("link::resolve", {"code": "a"}) == {"url": "https://old.example"}
        assert "cannot be cached" in caplog.text
