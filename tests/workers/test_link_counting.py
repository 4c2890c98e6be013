"""Clicks in a database: those that wait share a transaction, and each is counted exactly."""

import asyncio
import collections
import contextlib
import random
import sqlite3

import pytest

from linkly import Worker, function
from linkly.context import current_invocation
from linkly.errors import HandlerFailed, LinklyError, OutcomeUnknown, Overloaded
from linkly.invocation import HOP_LIMIT, Invocation
from linkly.testing import running_engine, settle
from linkly_workers._line import CALLER_LIMIT
from linkly_workers.link.outcome import Outcome
from linkly_workers.link.stores.sql.counting import AT_ONCE, GATHERING_S, QUIET_TURNS
from linkly_workers.link.stores.sql.store import SqlStore
from linkly_workers.link.stores.store import Click, NewLink
from support.link_databases import KINDS, running_database, store_on, url_of

NOW, LATER = "2026-01-02T00:00:00.000Z", "2026-01-03T00:00:00.000Z"


class Calls:
    """A bus, and how often each function was called over it."""

    def __init__(self, bus):
        self.bus = bus
        self.made = collections.Counter()

    async def trigger(self, function_id, payload, **more):
        self.made[function_id] += 1
        return await self.bus.trigger(function_id, payload, **more)


@pytest.fixture
def url(tmp_path):
    """Return the url of an empty database in a file."""
    return f"sqlite:{tmp_path}/links.db"


@pytest.fixture(params=KINDS)
def any_url(request):
    """Return the url of an empty database of each kind."""
    return url_of(request.param, request)


@contextlib.asynccontextmanager
async def database(url):
    async with running_database(url, NOW) as bus:
        yield Calls(bus)


@contextlib.asynccontextmanager
async def opened(url, *links):
    async with database(url) as calls:
        store = store_on(url, calls.trigger, each_sets_clock=False)
        await store.open()
        for each in links:
            await store.insert(each)
        calls.made.clear()
        yield store, calls


def link(code="a", **more):
    return NewLink(code, f"https://{code}.example", NOW, **more)


async def run(calls, *texts):
    for sql in texts:
        await calls.bus.trigger("database::execute", {"sql": sql})


async def outcomes(store, clicks, now=NOW):
    answers = await asyncio.gather(*(store.count(each, now) for each in clicks), return_exceptions=True)
    return [answer if isinstance(answer, BaseException) else answer.outcome for answer in answers]


@pytest.mark.parametrize("count", [1, 4, 5, 64, AT_ONCE])
async def test_clicks_that_wait_share_one_transaction(any_url, count):
    async with opened(any_url, link("a"), link("b")) as (store, calls):
        clicks = [Click("ab"[number % 2], NOW, visitor=str(number)) for number in range(count)]
        assert await outcomes(store, clicks) == [Outcome.COUNTED] * count
        assert calls.made == {"database::transaction": 1}
        assert (await store.find("a")).clicks == (count + 1) // 2
        proof = await store.verify()
        assert (proof.ok, proof.rows) == (True, count)
        stats = await store.stats("a", "2026-01-01")
        assert (stats.total, stats.unique) == ((count + 1) // 2, (count + 1) // 2)


async def test_those_who_click_again_at_once_share_one_transaction_with_all_others(url):
    async with opened(url, link()) as (store, calls):

        async def visit():
            for _ in range(5):
                assert (await store.count(Click("a", NOW), NOW)).outcome is Outcome.COUNTED
                await settle(6)  # so long it takes over HTTP

        first = asyncio.ensure_future(visit())
        await settle(3)
        assert calls.made == {"database::transaction": 1}
        await asyncio.gather(first, *(visit() for _ in range(7)))
        # His first click alone, the others' last without him.
        assert calls.made == {"database::transaction": 1 + 4 + 1}


async def test_nobody_waits_long_for_those_who_do_not_come_again(url):
    async with opened(url, link()) as (store, calls):
        await outcomes(store, [Click("a", NOW)] * 8)
        alone = asyncio.ensure_future(store.count(Click("a", NOW), NOW))
        await settle(QUIET_TURNS + 2)
        assert calls.made == {"database::transaction": 2}
        assert (await alone).outcome is Outcome.COUNTED


async def test_nobody_waits_for_those_who_do_not_come_again_while_turns_take_long(url):
    async with opened(url, link()) as (store, calls):
        loop = asyncio.get_running_loop()
        await outcomes(store, [Click("a", NOW)] * 8)
        alone = asyncio.ensure_future(store.count(Click("a", NOW), NOW))
        for _ in range(4):  # turns
            over = loop.time() + GATHERING_S
            while loop.time() < over:
                pass
            await settle(1)
        assert calls.made == {"database::transaction": 2}
        assert (await alone).outcome is Outcome.COUNTED


async def test_more_clicks_than_fit_are_counted_by_the_next_transactions(any_url):
    async with opened(any_url, link()) as (store, calls):
        assert await outcomes(store, [Click("a", NOW)] * (3 * AT_ONCE)) == [Outcome.COUNTED] * (3 * AT_ONCE)
        assert calls.made == {"database::transaction": 3}
        assert (await store.find("a")).clicks == 3 * AT_ONCE


async def test_clicks_of_all_kinds_at_once_are_counted_exactly(any_url):
    links = [link("a"), link("b"), link("few", max_clicks=7), link("over", expires_at=NOW)]
    async with opened(any_url, *links) as (store, _):
        clicks = [Click(code, NOW) for code in ("a", "b", "few", "over", "none") for _ in range(20)]
        clicks += [Click("a", NOW, str(number % 10)) for number in range(20)]
        random.Random(1).shuffle(clicks)
        found = collections.Counter(zip([each.code for each in clicks], await outcomes(store, clicks), strict=True))
        assert found == {
            ("a", Outcome.COUNTED): 30,
            ("a", Outcome.REPEATED): 10,
            ("b", Outcome.COUNTED): 20,
            ("few", Outcome.COUNTED): 7,
            ("few", Outcome.EXHAUSTED): 13,
            ("over", Outcome.EXPIRED): 20,
            ("none", Outcome.NOT_FOUND): 20,
        }
        assert (await store.verify()).ok


async def test_codes_that_differ_by_a_byte_are_counted_apart_in_one_transaction(any_url):
    codes = ["Abc", "abc", "Abc ", "äbc", "\U0001f600", "\U0001f601", "a'b\\", '"']
    async with opened(any_url, *(link(code) for code in codes)) as (store, calls):
        clicks = [Click(code, NOW, visitor=code) for times, code in enumerate(codes, 1) for _ in range(times)]
        answers = await asyncio.gather(*(store.count(each, NOW) for each in clicks))
        assert [answer.link.code for answer in answers] == [each.code for each in clicks]
        assert calls.made == {"database::transaction": 1}
        assert [(await store.find(code)).clicks for code in codes] == list(range(1, 1 + len(codes)))
        proof = await store.verify()
        assert (proof.ok, proof.rows) == (True, len(clicks))


async def test_a_code_that_is_longer_than_any_is_not_taken_for_one_that_begins_like_it(any_url):
    longest = "a" * 255
    async with opened(any_url, link(longest), link("b")) as (store, _):
        clicks = [Click(longest + "a", NOW), Click("b", NOW), Click(longest, NOW)]
        assert await outcomes(store, clicks) == [Outcome.NOT_FOUND, Outcome.COUNTED, Outcome.COUNTED]
        assert (await store.find(longest)).clicks == 1
        assert (await store.verify()).ok


async def test_a_table_that_ignores_case_counts_each_click_once(url):
    async with database(url) as calls:
        columns = "code TEXT PRIMARY KEY COLLATE NOCASE, url TEXT NOT NULL, created_at TEXT NOT NULL"
        await run(calls, f"CREATE TABLE links ({columns})")
        store = SqlStore(calls.trigger, "primary")
        await store.open()
        await store.insert(link())
        assert await outcomes(store, [Click("a", NOW), Click("A", NOW), Click("A", NOW)]) == [Outcome.COUNTED] * 3
        assert (await store.find("a")).clicks == 3
        assert (await store.verify()).ok


async def test_a_click_of_before_the_end_of_its_link_is_counted_with_one_of_after_it(url):
    async with opened(url, link(expires_at=LATER)) as (store, _):
        early, late = await asyncio.gather(store.count(Click("a", NOW), NOW), store.count(Click("a", NOW), LATER))
        assert (early.outcome, late.outcome) == (Outcome.COUNTED, Outcome.EXPIRED)
        assert (await store.find("a")).clicks == 1


REFUSING = {
    "sqlite": [
        "CREATE TRIGGER refuse BEFORE INSERT ON clicks WHEN new.referrer = 'refused' "
        "BEGIN SELECT RAISE(ABORT, 'refused'); END"
    ],
    "postgres": ["ALTER TABLE clicks ADD CHECK (referrer <> 'refused')"],
    "mysql": ["ALTER TABLE clicks ADD CHECK (referrer <> 'refused')"],
}


@pytest.mark.parametrize("bad", [Click("a", NOW, visitor="\ud800"), Click("a", NOW, referrer="refused")])
async def test_one_click_that_cannot_be_written_fails_no_other(any_url, bad):
    async with opened(any_url, link()) as (store, calls):
        await run(calls, *REFUSING[any_url.partition(":")[0]])
        answers = await outcomes(store, [Click("a", NOW), bad, Click("a", NOW)])
        assert answers[::2] == [Outcome.COUNTED] * 2
        assert isinstance(answers[1], LinklyError)
        assert (await store.find("a")).clicks == 2
        assert (await store.verify()).ok


class Doubtful(Worker):
    """Databases of which nobody knows whether they have written."""

    name = "database"
    transactions = 0

    @function("database::listDatabases")
    async def list_databases(self) -> dict:
        return {"databases": [{"name": "primary", "driver": "sqlite"}]}

    @function("database::transaction")
    async def transaction(self, payload: dict) -> dict:
        self.transactions += 1
        raise OutcomeUnknown("the disk is gone")


async def test_what_may_have_been_counted_is_not_counted_again():
    worker = Doubtful()
    async with running_engine(worker) as bus:
        answers = await outcomes(SqlStore(bus.trigger, "primary"), [Click("a", NOW)] * 3)
    assert [answer.code for answer in answers] == [OutcomeUnknown.code] * 3
    assert worker.transactions == 1


async def test_a_click_whose_caller_has_gone_before_its_turn_is_not_counted(any_url):
    async with opened(any_url, link()) as (store, _):
        gone = asyncio.ensure_future(store.count(Click("a", NOW), NOW))
        stays = asyncio.ensure_future(store.count(Click("a", NOW), NOW))
        await settle(1)  # both are in the line
        gone.cancel()
        assert (await stays).outcome is Outcome.COUNTED
        await asyncio.wait([gone])
        assert gone.cancelled()
        assert (await store.find("a")).clicks == (await store.verify()).rows


async def test_callers_take_turns(any_url):
    async with opened(any_url, link()) as (store, calls):
        counted = []

        async def count(origin):
            current_invocation.set(Invocation(function_id="link::record_click", origin=origin))
            await store.count(Click("a", NOW), NOW)
            counted.append(origin)

        await asyncio.gather(*(count(origin) for origin in ["greedy"] * (5 * AT_ONCE) + ["modest"] * 5))
        assert len(counted) == 5 * AT_ONCE + 5
        assert len(counted) - counted[::-1].index("modest") <= AT_ONCE
        assert calls.made == {"database::transaction": 6}


async def test_clicks_do_not_wait_for_what_else_one_of_their_callers_writes(url):
    async with opened(url, link()) as (store, calls):
        await run(calls, "CREATE TABLE t (a)")
        written = 0

        async def write():
            nonlocal written
            current_invocation.set(Invocation(function_id="anything", origin="greedy"))
            await calls.bus.trigger("database::execute", {"sql": "INSERT INTO t VALUES (1)"})
            written += 1

        async def count(origin):
            current_invocation.set(Invocation(function_id="link::record_click", origin=origin))
            await store.count(Click("a", NOW), NOW)
            return written

        writes = [asyncio.create_task(write()) for _ in range(5000)]
        found = await asyncio.gather(*(asyncio.create_task(count(origin)) for origin in ("greedy", "modest")))
        await asyncio.gather(*writes)
        assert max(found) < 5000


@pytest.mark.parametrize("spent", [{"deadline": 0.0}, {"hops": HOP_LIMIT}])
async def test_what_one_call_has_left_is_not_what_the_others_have(any_url, spent):
    async with opened(any_url, link()) as (store, _):

        async def count(**more):
            current_invocation.set(Invocation(function_id="link::record_click", **more))
            return (await store.count(Click("a", NOW), NOW)).outcome

        assert await asyncio.gather(*(asyncio.create_task(count(**more)) for more in (spent, {}))) == [
            Outcome.COUNTED,
            Outcome.COUNTED,
        ]


async def test_a_caller_with_too_many_clicks_is_refused(url):
    async with opened(url, link()) as (store, _):
        answers = await outcomes(store, [Click("a", NOW)] * (CALLER_LIMIT + 1))
        assert [type(answer) for answer in answers if answer is not Outcome.COUNTED] == [Overloaded]
        assert (await store.find("a")).clicks == CALLER_LIMIT


async def test_clicks_of_a_caller_for_whom_too_many_writes_wait_are_counted(url):
    async with opened(url, link()) as (store, calls):
        begun = await calls.bus.trigger("database::beginTransaction", {"isolation": "serializable"})
        turn = begun["transaction"]["id"]

        async def write(origin, operation, *given):
            current_invocation.set(Invocation(function_id="f", origin=origin))
            return await operation(*given)

        insert = {"sql": "INSERT INTO link_settings VALUES (?, '')"}
        writes = [
            asyncio.ensure_future(write("greedy", calls.trigger, "database::execute", {**insert, "params": [number]}))
            for number in range(CALLER_LIMIT)
        ]
        await settle(1)
        clicks = [asyncio.ensure_future(write(origin, store.count, Click("a", NOW), NOW)) for origin in ("greedy", "b")]
        await settle()
        await calls.trigger("database::rollbackTransaction", {"transaction_id": turn})
        # Their transaction is link's: it stands neither behind those writes nor for them.
        assert [counted.outcome for counted in await asyncio.gather(*clicks)] == [Outcome.COUNTED] * 2
        await asyncio.gather(*writes)


async def test_a_lock_of_another_program_is_waited_for_once(tmp_path, url):
    async with opened(url, link()) as (store, calls):
        with contextlib.closing(sqlite3.connect(tmp_path / "links.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            answers = await outcomes(store, [Click("a", NOW)] * (2 * AT_ONCE))
            other.execute("ROLLBACK")
        assert all("another program has locked" in str(answer) for answer in answers)
        assert calls.made == {"database::transaction": 1}
        assert await outcomes(store, [Click("a", NOW)]) == [Outcome.COUNTED]


async def test_closing_waits_for_the_clicks_that_wait(any_url):
    async with opened(any_url, link()) as (store, _):
        counting = asyncio.ensure_future(outcomes(store, [Click("a", NOW)] * (2 * AT_ONCE)))
        await settle(1)
        await store.close()
        assert await counting == [Outcome.COUNTED] * (2 * AT_ONCE)


async def test_a_database_that_refuses_says_so_to_everybody(any_url):
    async with opened(any_url, link()) as (store, calls):
        await run(calls, "ALTER TABLE clicks RENAME TO gone")
        assert [type(answer) for answer in await outcomes(store, [Click("a", NOW)] * 3)] == [HandlerFailed] * 3


async def test_figures_are_found_in_all_segments(any_url):
    async with opened(any_url, link("a"), link("b")) as (store, calls):
        ids = [-5000, -1, 1, 2047, 2048, 2049, 5000, 10_000_000, 2**40]
        for code in "ab":
            rows = ", ".join(f"({2 * number + (code == 'b')}, '{code}', '{NOW}', 'v{number}')" for number in ids)
            await run(
                calls,
                f"INSERT INTO clicks (id, code, clicked_at, visitor) VALUES {rows}",
                f"UPDATE links SET clicks = {len(ids)} WHERE code = '{code}'",
            )
        stats = await store.stats("a", "2026-01-01")
        assert (stats.total, stats.unique) == (len(ids), len(ids))
        assert await store.delete("a")
        proof = await store.verify()
        assert (proof.ok, proof.rows) == (True, len(ids))
        assert (await store.stats("b", "2026-01-01")).total == len(ids)


async def test_the_indexes_of_an_older_version_give_way(url):
    async with opened(url, link()) as (store, calls):
        await run(
            calls,
            "DROP INDEX clicks_by_segment",
            "DROP INDEX clicks_by_given_id",
            "CREATE UNIQUE INDEX clicks_by_click_id ON clicks (code, click_id)",
            f"INSERT INTO clicks (code, clicked_at, click_id) VALUES ('a', '{NOW}', 'old')",
            "UPDATE links SET clicks = 1",
        )
        await store.open()
        found = await calls.bus.trigger("database::query", {"sql": "SELECT name FROM pragma_index_list('clicks')"})
        assert {row["name"] for row in found["rows"]} == {"clicks_by_segment", "clicks_by_given_id"}
        assert (await store.count(Click("a", NOW, "old"), NOW)).outcome is Outcome.REPEATED
        assert (await store.count(Click("a", NOW), NOW)).outcome is Outcome.COUNTED
        assert (await store.stats("a", "2026-01-01")).total == 2


async def test_without_a_worker_for_databases_the_error_says_what_to_do():
    async with running_engine() as bus:
        with pytest.raises(LinklyError, match=r"add the worker `database`.*or set `store: memory`"):
            await SqlStore(bus.trigger, "primary").open()
