"""SQL that changes `links` past the link worker: the cache follows."""

import asyncio
import sqlite3

import pytest

from linkly import Worker, function, trigger
from linkly.testing import settle
from support.database_calls import call

UPDATE = "UPDATE links SET url = 'https://new.example' WHERE code = 'a'"


async def cached(bus, code):
    return await bus.trigger("state::get", {"scope": "links", "key": code})


async def by_execute(bus, sql):
    await call(bus, "execute", sql=sql)


async def by_quoting_the_table(bus, sql):
    await call(bus, "execute", sql=sql.replace("links", 'main."LINKS"'))


async def by_transaction(bus, sql):
    await call(bus, "transaction", statements=["CREATE TABLE other (a)", sql])


async def by_batch(bus, sql):
    await call(bus, "executeBatch", statements=[sql])


async def by_query(bus, sql):
    await call(bus, "query", sql=f"{sql} RETURNING code")


async def by_prepared_statement(bus, sql):
    handle = (await call(bus, "prepareStatement", sql=sql))["handle"]["id"]
    await call(bus, "runStatement", handle_id=handle)


async def by_interactive_transaction(bus, sql):
    name = (await call(bus, "beginTransaction"))["transaction"]["id"]
    await call(bus, "transactionExecute", transaction_id=name, sql=sql)
    await call(bus, "commitTransaction", transaction_id=name)


WAYS = [
    by_execute,
    by_quoting_the_table,
    by_transaction,
    by_batch,
    by_query,
    by_prepared_statement,
    by_interactive_transaction,
]


async def location(client, code):
    return (await client.get(f"/s/{code}")).headers.get("location")


async def followed(client, code, expected):
    """Wait until a redirect leads there; the change is told right after its commit."""
    async with asyncio.timeout(10):
        while await location(client, code) != expected:
            await settle(1)


@pytest.mark.parametrize("way", WAYS)
async def test_a_redirect_follows_sql_of_others(shortener, way):
    async with shortener() as (client, bus):
        await bus.trigger("link::create", {"url": "https://old.example", "code": "a"})
        assert await location(client, "a") == "https://old.example"
        await way(bus, UPDATE)
        await followed(client, "a", "https://new.example")


async def test_a_link_that_others_delete_leads_nowhere(shortener):
    async with shortener() as (client, bus):
        await bus.trigger("link::create", {"url": "https://old.example", "code": "a"})
        assert await location(client, "a") == "https://old.example"
        await call(bus, "execute", sql="DELETE FROM links")
        await followed(client, "a", None)
        assert await bus.trigger("link::resolve", {"code": "a"}) == {"url": None}


async def test_a_link_that_others_make_in_capitals_is_found_where_case_does_not_count(shortener):
    async with shortener({"case_sensitive": False}) as (client, bus):
        made = (
            "INSERT INTO links (code, url, created_at) VALUES ('SqlCap', 'https://a.example', '2026-01-01T00:00:00Z')"
        )
        await call(bus, "execute", sql=made)
        await followed(client, "sqlcap", "https://a.example")
        assert await bus.trigger("link::delete", {"code": "SQLCAP"}) == {"deleted": True}


async def test_the_links_own_changes_and_clicks_leave_the_cache_alone(shortener):
    async with shortener() as (client, bus):
        await bus.trigger("link::create", {"url": "https://a.example", "code": "a"})
        await bus.trigger("link::create", {"url": "https://b.example", "code": "b", "idempotency_key": "k"})
        await bus.trigger("link::import", {"links": [{"url": "https://c.example", "code": "c"}]})
        await client.get("/s/a")
        await bus.trigger("link::update", {"code": "b", "url": "https://c.example"})
        await settle(50)
        assert await cached(bus, "a") == {"url": "https://a.example"}
        assert await cached(bus, "b") == {"url": "https://c.example"}


async def test_changes_of_other_tables_leave_the_cache_alone(shortener):
    async with shortener() as (client, bus):
        await bus.trigger("link::create", {"url": "https://a.example", "code": "a"})
        await client.get("/s/a")
        await call(bus, "execute", sql="CREATE TABLE other (links)")
        await call(bus, "execute", sql="INSERT INTO other (links) VALUES ('links')")
        await settle(50)
        assert await cached(bus, "a") == {"url": "https://a.example"}


async def test_look_ups_beside_changes_of_others_leave_no_stale_entry(shortener):
    async with shortener() as (_, bus):
        await bus.trigger("link::create", {"url": "https://a.example/0", "code": "a"})
        for number in range(10):
            newest = f"https://a.example/{number}"
            change = call(bus, "execute", sql="UPDATE links SET url = ?", params=[newest])
            await asyncio.gather(change, *(bus.trigger("link::resolve", {"code": "a"}) for _ in range(5)))
            await settle(100)
            async with asyncio.timeout(10):
                while await bus.trigger("link::resolve", {"code": "a"}) != {"url": newest}:
                    await settle(1)
            assert await bus.trigger("link::resolve", {"code": "a"}) == {"url": newest}


async def test_refresh_forgets_what_another_program_has_changed(shortener, tmp_path):
    async with shortener() as (client, bus):
        await bus.trigger("link::create", {"url": "https://old.example", "code": "a"})
        assert await location(client, "a") == "https://old.example"
        shell = sqlite3.connect(tmp_path / "links.db")
        shell.execute(UPDATE)
        shell.commit()
        shell.close()
        assert await bus.trigger("link::refresh") == {"refreshed": True}
        assert await location(client, "a") == "https://new.example"


async def test_row_changed_leaves_out_what_has_the_excepted_origin(run, database):
    heard = []

    class Ear(Worker):
        name = "ear"

        @function("ear::hear", triggers=[trigger("database::row-changed", {"db": "primary", "except_origin": "mine"})])
        async def hear(self, event: dict) -> None:
            heard.append((event["affected_rows"], event.get("origin")))

    async with run(database, Ear()) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        await call(bus, "execute", sql="INSERT INTO t VALUES (1)", origin="mine")
        await call(bus, "transaction", statements=["INSERT INTO t VALUES (1)"], origin="mine")
        await call(bus, "execute", sql="INSERT INTO t VALUES (1), (2)", origin="another's")
        await call(bus, "transaction", statements=["INSERT INTO t VALUES (1), (2), (3)"])
        await settle(100)
    assert heard == [(2, "another's"), (3, None)]
