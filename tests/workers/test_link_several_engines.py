"""Several engines whose links are in one database of a server: what each of them does, the others see."""

import asyncio
import collections
import contextlib
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from linkly.schema import read_settings
from linkly.testing import ManualClock, running_engine, settle
from linkly.timestamps import time_text
from linkly_workers._scripts import Unavailable
from linkly_workers.http import HttpSettings, HttpWorker
from linkly_workers.link import LinkSettings, LinkWorker
from linkly_workers.link.cache import SHARED_FOR_S
from linkly_workers.link.outcome import Outcome
from linkly_workers.link.stores.sql.counting import AT_ONCE
from linkly_workers.link.stores.sql.store import SqlStore
from linkly_workers.link.stores.store import Click, CodeTaken, Idempotency, Made, NewLink
from linkly_workers.state import StateWorker
from support.database_calls import database_worker
from support.link_databases import SERVERS, plain_url_of, running_database

NOW = "2026-01-02T00:00:00.000Z"


@pytest.fixture(params=SERVERS)
def url(request):
    """Return the url of an empty database on a server of each kind."""
    return plain_url_of(request.param, request)


@pytest.fixture
def old_url(request, server):
    """Return the url of an empty database on a server of the kind that the test says."""
    return plain_url_of(server, request)


@contextlib.asynccontextmanager
async def engine(url, *, clock=None, **settings):
    """Run a shortener; yields an HTTP client and the bus."""
    gateway = HttpWorker(read_settings(HttpSettings, {"port": 0}, "$"))
    link = LinkWorker(read_settings(LinkSettings, settings, "$"))
    async with (
        running_engine(StateWorker(), database_worker(url), gateway, link, clock=clock) as bus,
        httpx.AsyncClient() as client,
    ):
        await settle()
        client.base_url = gateway.url
        yield client, bus


class Transactions:
    """A bus that notes of each transaction whether it was committed."""

    def __init__(self, bus):
        self.bus = bus
        self.committed = []
        self.more = asyncio.Event()

    async def trigger(self, function_id, payload, **more):
        answer = await self.bus.trigger(function_id, payload, **more)
        if function_id == "database::transaction":
            self.committed.append(answer["committed"])
            self.more.set()
        return answer

    async def reach(self, count):
        """Wait until there have been so many."""
        while len(self.committed) < count:
            self.more.clear()
            await self.more.wait()


@contextlib.asynccontextmanager
async def two_stores(url, *links):
    """Open the stores of two engines, each on a bus that is a `Transactions`."""
    async with running_database(url, NOW) as first, running_database(url, NOW) as second:
        buses = [Transactions(first), Transactions(second)]
        stores = [SqlStore(bus.trigger, "primary") for bus in buses]
        await asyncio.gather(*(store.open() for store in stores))
        for each in links:
            await stores[0].insert(each)
        for store, bus in zip(stores, buses, strict=True):
            store.bus, store.transactions = bus, bus.committed
            bus.committed.clear()
        yield stores


def link(code="a", **more):
    return NewLink(code, f"https://{code}.example", NOW, **more)


def on_both(stores, clicks):
    """Count clicks at once, by turns over each engine."""
    return asyncio.gather(*(stores[at % 2].count(each, NOW) for at, each in enumerate(clicks)))


async def ask(bus, sql, *params):
    return (await bus.trigger("database::query", {"sql": sql, "params": list(params)}))["rows"]


# --- tables ------------------------------------------------------------------------------------------------


async def test_a_user_who_may_make_no_tables_keeps_links_in_those_that_are_there(postgres_url):
    """PostgreSQL refuses him CREATE TABLE IF NOT EXISTS and CREATE INDEX IF NOT EXISTS even then."""
    async with running_database(postgres_url) as bus:
        await SqlStore(bus.trigger, "primary").open()
        role = "linkly_makes_no_tables"
        await bus.trigger(
            "database::execute", {"sql": f"CREATE ROLE {role} IN ROLE pg_read_all_data, pg_write_all_data"}
        )
        try:
            async with engine(f"{postgres_url}%20-crole%3D{role}") as (client, _):
                await client.post("/links", json={"url": "https://a.example", "code": "a"})
                assert (await client.get("/s/a")).status_code == 302
        finally:
            await bus.trigger("database::execute", {"sql": f"DROP ROLE {role}"})


async def test_engines_that_start_at_once_make_the_tables_together(url):
    async with contextlib.AsyncExitStack() as stack:
        buses = [await stack.enter_async_context(running_database(url)) for _ in range(5)]
        stores = [SqlStore(bus.trigger, "primary") for bus in buses]
        await asyncio.gather(*(store.open() for store in stores))
        secrets = await asyncio.gather(*(store.secret() for store in stores))
        assert len(set(secrets)) == 1
        await asyncio.gather(*(store.insert(link(str(at))) for at, store in enumerate(stores)))
        assert len(await stores[0].listing(None, 10)) == len(stores)


TUTORIAL = (
    "CREATE TABLE links (code TEXT PRIMARY KEY, url TEXT NOT NULL, created_at TEXT NOT NULL)",
    "CREATE TABLE clicks (id SERIAL PRIMARY KEY, code TEXT NOT NULL, clicked_at TEXT NOT NULL)",
)
"""The tutorial's statements; what SQLite calls AUTOINCREMENT is SERIAL here."""

CHAPTER = (
    "CREATE TABLE links (code VARCHAR(16) PRIMARY KEY, url TEXT NOT NULL, "
    "created_at TIMESTAMPTZ NOT NULL DEFAULT now(), clicks INTEGER NOT NULL DEFAULT 0)",
    "CREATE TABLE clicks (id INT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code VARCHAR(16) NOT NULL, "
    "clicked_at TIMESTAMP NOT NULL DEFAULT now())",
)
"""As somebody makes them who thinks in PostgreSQL's types."""


MARIADB = (
    "CREATE TABLE links (code VARCHAR(64) PRIMARY KEY, url TEXT NOT NULL, created_at VARCHAR(32) NOT NULL)",
    "CREATE TABLE clicks (id INTEGER AUTO_INCREMENT PRIMARY KEY, code VARCHAR(64) NOT NULL, "
    "clicked_at VARCHAR(32) NOT NULL)",
)
"""The tutorial's, where a text that is a key has a length."""


@pytest.mark.parametrize(
    "server, tables",
    [("postgres", TUTORIAL), ("postgres", CHAPTER), ("mariadb", MARIADB)],
    ids=["", "typed", "mariadb"],
)
async def test_tables_of_the_tutorial_go_on_with_their_links_and_clicks(server, tables, old_url):
    async with running_database(old_url) as bus:
        rows = [
            "INSERT INTO links (code, url, created_at) VALUES ('a', 'https://a.example', '2026-01-01T00:00:00.500Z')",
            *["INSERT INTO clicks (code, clicked_at) VALUES ('a', '2026-01-01T10:00:00.000Z')"] * 3,
        ]
        for sql in (*tables, *rows):
            await bus.trigger("database::execute", {"sql": sql})
        store = SqlStore(bus.trigger, "primary")
        for _ in range(2):
            await store.open()
            found = await store.find("a")
            assert (found.created_at, found.clicks) == ("2026-01-01T00:00:00.500Z", 3)
            assert await store.find("A") is None
        assert (await store.count(Click("a", NOW), NOW)).outcome is Outcome.COUNTED
        assert (await store.stats("a", "2026-01-01")).total == 4
        assert (await store.verify()).ok
        assert [row["id"] for row in await ask(bus, "SELECT id FROM clicks ORDER BY id")] == [1, 2, 3, 4]


async def test_tables_whose_codes_are_bytes_go_on_with_texts(mariadb_url):
    async with running_database(mariadb_url, NOW) as bus:

        async def run(sql, *params):
            await bus.trigger("database::execute", {"sql": sql, "params": list(params)})

        store = SqlStore(bus.trigger, "primary")
        await store.open()
        await run("ALTER TABLE links MODIFY code VARBINARY(255) NOT NULL")
        await run("ALTER TABLE clicks MODIFY code VARBINARY(255) NOT NULL, MODIFY click_id VARBINARY(1020)")
        await run(
            "ALTER TABLE link_keys MODIFY code VARBINARY(255) NOT NULL, MODIFY idempotency_key VARBINARY(1020) NOT NULL"
        )
        codes = ["Ab", "ab", "ab ", "\u00e9", "\U0001f600"]
        for code in codes:
            await run("INSERT INTO links (code, url, created_at, clicks) VALUES (?, ?, ?, 1)", code, code, NOW)
            await run("INSERT INTO clicks (code, clicked_at, click_id) VALUES (?, ?, ?)", code, NOW, code)
            key = "INSERT INTO link_keys (idempotency_key, request, code, url, created_at) VALUES (?, 'd', ?, ?, ?)"
            await run(key, code, code, code, NOW)
        for _ in range(2):
            await store.open()
        kinds = await ask(
            bus,
            "SELECT DISTINCT data_type, collation_name FROM information_schema.columns "
            "WHERE table_schema = DATABASE() AND column_name IN ('code', 'click_id', 'idempotency_key')",
        )
        assert kinds == [{"data_type": "varchar", "collation_name": "utf8mb4_nopad_bin"}]
        for code in codes:
            assert (await store.find(code)).url == code
            assert (await store.count(Click(code, NOW, code), NOW)).outcome is Outcome.REPEATED
            assert (await store.count(Click(code, NOW), NOW)).link.clicks == 2
            assert (await store.insert(NewLink(code, code, NOW), Idempotency(code, "d", NOW))).repeated
        assert (await store.verify()).ok


async def test_ids_of_the_tutorials_clicks_do_not_end_at_two_billions(postgres_url):
    async with running_database(postgres_url) as bus:
        for sql in (*TUTORIAL, "INSERT INTO clicks (id, code, clicked_at) VALUES (2147483647, 'a', '2026')"):
            await bus.trigger("database::execute", {"sql": sql})
        store = SqlStore(bus.trigger, "primary")
        await store.open()
        await store.insert(link())
        assert (await store.count(Click("a", NOW), NOW)).outcome is Outcome.COUNTED
        assert (await ask(bus, "SELECT max(id) AS id FROM clicks"))[0]["id"] == 2**31


async def test_codes_and_ids_are_told_apart_by_every_byte(url):
    alike = ["Ab", "aB", "ab", "ab ", "\u00e9", "e\u0301", "\U0001f600", "\U0001f603"]
    async with running_database(url) as bus:
        store = SqlStore(bus.trigger, "primary")
        await store.open()
        for code in alike:
            assert await store.insert(link(code), Idempotency(code, "digest", NOW)) == Made(link(code), repeated=False)
            for click_id in alike:
                assert (await store.count(Click(code, NOW, click_id), NOW)).outcome is Outcome.COUNTED
        assert [(await store.find(code)).clicks for code in alike] == [len(alike)] * len(alike)
        listed = [each.code for each in await store.listing(None, 100)]
        assert listed == sorted(alike, key=str.encode, reverse=True)


# --- counting ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
async def test_a_limit_holds_over_all_engines(url, named):
    async with two_stores(url, link(max_clicks=100)) as stores:
        found = await on_both(stores, [Click("a", NOW, str(number) if named else None) for number in range(300)])
        assert collections.Counter(each.outcome for each in found) == {Outcome.COUNTED: 100, Outcome.EXHAUSTED: 200}
        proof = await stores[0].verify()
        assert (proof.ok, proof.rows) == (True, 100)


async def test_a_click_that_two_engines_get_at_once_counts_once(url):
    async with two_stores(url, link()) as stores:
        for number in range(10):
            found = await on_both(stores, [Click("a", NOW, f"same-{number}")] * 6)
            assert sorted(each.outcome.value for each in found) == ["counted"] + ["repeated"] * 5
        assert (await stores[0].find("a")).clicks == (await stores[0].verify()).rows == 10


async def test_batches_of_two_engines_never_wait_for_each_other(url):
    codes = [f"c{number:03}" for number in range(AT_ONCE)]
    async with two_stores(url, *map(link, codes)) as stores:
        ways = zip(stores, (codes, codes[::-1]), strict=True)
        clicks = [store.count(Click(code, NOW), NOW) for store, ordered in ways for code in ordered * 32]
        assert {each.outcome for each in await asyncio.gather(*clicks)} == {Outcome.COUNTED}
        # A deadlock ends a batch, whose clicks are counted one by one then.
        for store in stores:
            assert set(store.transactions) == {True}
            assert len(store.transactions) < 32 * AT_ONCE // 8
        proof = await stores[0].verify()
        assert (proof.ok, proof.rows) == (True, 2 * 32 * AT_ONCE)


async def test_one_of_those_who_want_a_code_gets_it(url):
    async with two_stores(url) as stores:
        for code in ("a", "b", "c"):
            wanted = [NewLink(code, f"https://{number}.example", NOW) for number in range(20)]
            answers = await asyncio.gather(
                *(stores[at % 2].insert(each) for at, each in enumerate(wanted)), return_exceptions=True
            )
            won = [answer for answer in answers if isinstance(answer, Made)]
            assert len(won) == 1
            assert sum(isinstance(answer, CodeTaken) for answer in answers) == len(wanted) - 1
            assert (await stores[0].find(code)).url == won[0].link.url


async def test_one_key_makes_one_link_over_all_engines(url):
    async with two_stores(url) as stores:
        old = [Idempotency(f"old-{number}", "digest", "2025") for number in range(20)]
        await asyncio.gather(
            *(stores[0].insert(NewLink(each.key, "https://old.example", "2025"), each) for each in old)
        )
        key = Idempotency("k", "digest", NOW)
        answers = await asyncio.gather(*(stores[at % 2].insert(link(f"c{at}"), key) for at in range(20)))
        assert len({answer.link.code for answer in answers}) == 1
        assert [answer.repeated for answer in answers].count(False) == 1


# --- locks of others ---------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def locked_by_somebody(url, *codes):
    """Have links locked by another program's open transaction; yields what ends it."""
    async with running_database(url) as other:
        begun = (await other.trigger("database::beginTransaction", {"isolation": "read_committed"}))["transaction"][
            "id"
        ]
        for code in codes:
            lock = {"transaction_id": begun, "sql": "SELECT 1 FROM links WHERE code = ? FOR UPDATE", "params": [code]}
            await other.trigger("database::transactionQuery", lock)

        async def end():
            await other.trigger("database::rollbackTransaction", {"transaction_id": begun})

        yield end


@pytest.mark.parametrize("click_id", [None, "an id"])
async def test_a_link_that_somebody_has_locked_holds_up_no_clicks_of_others(url, click_id):
    async with two_stores(url, link("a"), link("b"), link("c", max_clicks=9)) as (store, _):
        async with locked_by_somebody(url, "a"):
            held = [asyncio.ensure_future(store.count(Click("a", NOW, click_id), NOW)) for _ in range(AT_ONCE)]
            for _ in range(3):
                for other in ("b", "c"):
                    assert (await store.count(Click(other, NOW), NOW)).outcome is Outcome.COUNTED
            assert not any(each.done() for each in held)
            answers = await asyncio.gather(*held, return_exceptions=True)
        assert {type(answer) for answer in answers} == {Unavailable}
        assert "locked link `a`" in str(answers[0])
        assert (await store.count(Click("a", NOW), NOW)).link.clicks == 1
        assert (await store.verify()).rows == 7


async def test_clicks_of_a_link_are_counted_when_its_lock_ends(url):
    async with two_stores(url, link("a"), link("b", max_clicks=5)) as (store, _):
        async with locked_by_somebody(url, "a", "b") as end:
            clicks = [Click("a", NOW) for _ in range(2 * AT_ONCE)] + [Click("b", NOW, str(at)) for at in range(7)]
            held = [asyncio.ensure_future(store.count(each, NOW)) for each in [*clicks, Click("b", NOW, "6")]]
            await store.bus.reach(6)
            await end()
            found = await asyncio.gather(*held)
        assert {each.outcome for each in found[: 2 * AT_ONCE]} == {Outcome.COUNTED}
        assert collections.Counter(each.outcome for each in found[2 * AT_ONCE :]) == {
            Outcome.COUNTED: 5,
            Outcome.EXHAUSTED: 3,
        }
        proof = await store.verify()
        assert (proof.ok, proof.rows) == (True, 2 * AT_ONCE + 5)


async def test_closing_waits_for_the_clicks_of_a_locked_link(url):
    async with two_stores(url, link("a")) as (store, _), locked_by_somebody(url, "a") as end:
        held = asyncio.ensure_future(store.count(Click("a", NOW), NOW))
        await store.bus.reach(1)
        closing = asyncio.ensure_future(store.close())
        await end()
        await closing
        assert (await held).outcome is Outcome.COUNTED


# --- one clock ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine_is_at", ["2001-01-01T00:00:00+00:00", "2101-01-01T00:00:00+00:00"])
async def test_the_servers_clock_says_which_links_have_expired(url, engine_is_at):
    clock = ManualClock(datetime.fromisoformat(engine_is_at).timestamp())
    async with engine(url, clock=clock) as (client, bus):
        for code, hours in (("over", -1), ("alive", 1)):
            await bus.trigger("link::create", {"url": "https://a.example", "code": code})
            expires_at = time_text(datetime.now(UTC) + timedelta(hours=hours))
            change = {"sql": "UPDATE links SET expires_at = ? WHERE code = ?", "params": [expires_at, code]}
            await bus.trigger("database::execute", change)
        for headers in ({}, {"Idempotency-Key": "one"}):
            over = await client.get("/s/over", headers=headers)
            assert (over.status_code, over.json()) == (410, {"error": "link expired"})
            assert (await client.get("/s/alive", headers=headers)).status_code == 302


# --- the cache ---------------------------------------------------------------------------------------------


async def test_a_counted_redirect_goes_where_another_engine_has_just_changed_it(url):
    async with engine(url) as (_, first), engine(url) as (client, _):
        await first.trigger("link::create", {"url": "https://one.example", "code": "a"})
        assert (await client.get("/s/a")).headers["location"] == "https://one.example"
        await first.trigger("link::update", {"code": "a", "url": "https://two.example"})
        assert (await client.get("/s/a")).headers["location"] == "https://two.example"
        await first.trigger("link::delete", {"code": "a"})
        assert (await client.get("/s/a")).status_code == 404


@pytest.mark.parametrize("change", ["update", "delete"])
async def test_a_look_up_sees_within_seconds_what_another_engine_has_changed(url, change):
    clock = ManualClock()
    settings = {"clock": clock, "count": "in_background"}
    async with engine(url) as (_, first), engine(url, **settings) as (client, second):
        await first.trigger("link::create", {"url": "https://one.example", "code": "a"})
        assert await second.trigger("link::resolve", {"code": "a"}) == {"url": "https://one.example"}
        await first.trigger(f"link::{change}", {"code": "a", **({"url": "two.example"} if change == "update" else {})})
        await clock.advance(SHARED_FOR_S - 0.001)
        assert await second.trigger("link::resolve", {"code": "a"}) == {"url": "https://one.example"}
        assert (await client.get("/s/a")).headers["location"] == "https://one.example"
        await clock.advance(0.001)
        now = "https://two.example" if change == "update" else None
        assert await second.trigger("link::resolve", {"code": "a"}) == {"url": now}
        assert (await client.get("/s/a")).headers.get("location") == now


async def test_a_clock_that_is_set_back_keeps_no_entry_for_longer(url):
    clock = ManualClock()
    async with engine(url) as (_, first), engine(url, clock=clock) as (_, second):
        await first.trigger("link::create", {"url": "https://one.example", "code": "a"})
        assert await second.trigger("link::resolve", {"code": "a"}) == {"url": "https://one.example"}
        await first.trigger("link::update", {"code": "a", "url": "https://two.example"})
        await clock.advance(-3600)
        assert await second.trigger("link::resolve", {"code": "a"}) == {"url": "https://two.example"}


async def test_what_has_no_time_in_the_cache_is_not_read(url):
    async with engine(url) as (_, bus):
        await bus.trigger("link::create", {"url": "https://a.example", "code": "a"})
        entry = {"scope": "links", "key": "a", "value": {"url": "https://another.example"}}
        await bus.trigger("state::set", entry)
        assert await bus.trigger("link::resolve", {"code": "a"}) == {"url": "https://a.example"}


async def test_sql_of_others_on_the_same_engine_is_followed_at_once(url):
    async with engine(url) as (_, bus):
        await bus.trigger("link::create", {"url": "https://a.example", "code": "a"})
        await bus.trigger("database::execute", {"sql": "UPDATE links SET url = 'https://b.example'"})
        async with asyncio.timeout(10):
            while await bus.trigger("link::resolve", {"code": "a"}) != {"url": "https://b.example"}:
                pass  # the cache is told after the answer
