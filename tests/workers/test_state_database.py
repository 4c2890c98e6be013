"""The store in a database: several of them on one database, and what happens when that fails."""

import asyncio
import contextlib
import random
import signal
from collections import Counter

import pytest

from linkly.context import current_invocation
from linkly.errors import ConfigError, LinklyError, OutcomeUnknown
from linkly.invocation import Invocation
from linkly.testing import running_engine
from linkly_workers.database import DatabaseWorker
from linkly_workers.state import StateSettings, StateWorker
from linkly_workers.state.errors import StoreError
from linkly_workers.state.shapes import AdapterSettings, StoreSettings
from linkly_workers.state.stores.database import store as store_module
from linkly_workers.state.stores.database.store import DatabaseStore
from support.cutting_proxy import CuttingProxy
from support.database_calls import database_worker, execute, until
from support.database_servers import MARIADB, POSTGRES
from support.link_databases import KINDS, plain_url_of
from support.state_stores import IN_A_DATABASE

WAIT_S = 30.0


@pytest.fixture(params=IN_A_DATABASE)
def kind_of_state(request):
    """Name one of the databases."""
    return request.param


@pytest.fixture
def url(url_of_state):
    """Return the url of a database of one's own."""
    return url_of_state


@pytest.fixture(scope="module", params=[POSTGRES, MARIADB], ids=lambda kind: kind.driver)
def kind_of_server(request):
    """Name a kind of server."""
    return request.param


@pytest.fixture(scope="module")
def server(kind_of_server):
    """A server that may be killed: nobody else's."""
    if kind_of_server.missing is not None:
        pytest.skip(kind_of_server.missing)
    with kind_of_server.run() as server:
        yield server


@contextlib.contextmanager
def stopped(server):
    """Stop a server; yields what starts it, which is done at the end at the latest."""
    server.stop()
    start_once = contextlib.ExitStack()
    start_once.callback(server.start)
    with start_once:
        yield start_once.close


def worker(db="primary"):
    """Make a state worker over a database."""
    return StateWorker(StateSettings(adapter=AdapterSettings(name="database", config=StoreSettings(db=db))))


@contextlib.asynccontextmanager
async def running_stores(url, count=2):
    """Run stores on one database; where engines can share it, each has an engine of its own."""
    async with contextlib.AsyncExitStack() as stack:
        stores, bus = [], None
        for _ in range(count):
            if bus is None or not url.startswith("sqlite"):
                bus = await stack.enter_async_context(running_engine(database_worker(url)))
            store = DatabaseStore(bus.trigger, "primary")
            await stack.enter_async_context(store.opened())
            stores.append(store)
        yield stores, bus


def untold(old, new):
    """Nobody wants to know."""


def increment(old):
    return b"%d" % (int(old or 0) + 1)


def put(store, key, value):
    return store.write("s", key, lambda _: value, untold)


def is_one_history(outcomes, last):
    """Return whether a key that was absent first may have had these changes one after another, and is `last` now.

    It was every value as often as it became it, but for the first and the last.
    """
    became = Counter(new for _, new in outcomes)
    became[None] += 1
    was = Counter(old for old, _ in outcomes)
    was[last] += 1
    return was == became


# --- several on one database --------------------------------------------------------------------------------------


async def test_increments_of_several_stores_are_all_counted_and_told_exactly(url):
    async with running_stores(url, 3) as (stores, _):

        async def count(store, key):
            return [await store.write("s", key, increment, untold) for _ in range(15)]

        keys = ["hot"] * 6 + ["a", "b"]
        answers = await asyncio.gather(*(count(store, key) for store in stores for key in keys))
        for key in set(keys):
            total = 15 * keys.count(key) * len(stores)
            told = [each for number, each in enumerate(answers) if keys[number % len(keys)] == key]
            assert sorted(int(new) for each in told for _, new in each) == list(range(1, total + 1))
            assert await stores[0].get("s", key) == b"%d" % total


async def test_what_is_told_of_sets_and_deletes_of_several_stores_is_one_history(url):
    """Keys that come, go and come again, in batches that have them in different orders: nobody is deadlocked."""
    dice = random.Random(7)
    async with running_stores(url, 3) as (stores, _):
        told = {f"k{number}": [] for number in range(10)}

        async def meddle(store, name):
            for number in range(15):
                keys = list(told)
                dice.shuffle(keys)
                values = [None if dice.random() < 0.5 else f"{name} {number} {key}".encode() for key in keys]
                outcomes = await asyncio.gather(*map(put, [store] * len(keys), keys, values))
                for key, outcome in zip(keys, outcomes, strict=True):
                    told[key].append(outcome)

        await asyncio.gather(*(meddle(store, f"{number}") for number, store in enumerate(stores)))
        for key, outcomes in told.items():
            assert is_one_history(outcomes, await stores[0].get("s", key))


async def test_a_read_sees_what_another_store_has_answered(url):
    async with running_stores(url) as ((one, other), _):
        for number in range(20):
            await put(one, "k", b"%d" % number)
            assert await other.get("s", "k") == b"%d" % number
            assert await other.keys("s") == ["k"]
        await put(other, "k", None)
        assert await one.get("s", "k") is None
        assert await one.scopes() == []


async def test_stores_that_start_at_once_make_the_tables_and_one_identity(url):
    async with running_stores(url, 4) as (stores, _):
        identities = await asyncio.gather(*(store.identity() for store in stores))
        assert len(set(identities)) == 1


async def test_a_write_that_always_comes_second_is_refused_in_the_end(url, monkeypatch):
    monkeypatch.setattr(store_module, "RACES", 3)
    async with running_stores(url, 1) as ((ready,), bus):
        await put(ready, "k", b"1")

        async def trigger(function_id, payload, **options):
            if function_id == "database::transaction" and has_begun:
                await execute(bus, "UPDATE linkly_state SET version = version + 1")
            return await bus.trigger(function_id, payload, **options)

        has_begun = False
        store, tries = DatabaseStore(trigger, "primary"), []
        async with store.opened():
            await store.prepare()
            has_begun = True
            with pytest.raises(StoreError, match="others have written it first 3 times") as failure:
                await store.write("s", "k", lambda old: tries.append(old) or b"mine", untold)
            assert failure.value.retryable
            assert tries == [b"1"] * 3
            assert await store.get("s", "k") == b"1"


async def test_what_is_asked_for_several_callers_belongs_to_the_trace_of_the_first(tmp_path):
    async with running_engine(database_worker(f"sqlite:{tmp_path}/a.db")) as bus:
        seen = []

        async def trigger(function_id, payload, **options):
            seen.append((function_id, current_invocation.get()))
            return await bus.trigger(function_id, payload, **options)

        store = DatabaseStore(trigger, "primary")
        async with store.opened():
            await store.prepare()
            seen.clear()
            for number in range(2):
                call = Invocation(function_id="state::set", traceparent=f"trace {number}", origin="me", deadline=0.0)
                current_invocation.set(call)
                writing = asyncio.ensure_future(put(store, f"k{number}", b"1"))
                await asyncio.sleep(0)
            await writing
        assert [name for name, _ in seen] == ["database::query", "database::transaction"] * 2
        assert [(call.traceparent, call.origin, call.deadline) for _, call in seen] == [
            (f"trace {number}", None, None) for number in (0, 0, 1, 1)
        ]


@pytest.fixture(params=[(old, new) for old in KINDS for new in KINDS if old != new], ids="-".join)
def urls(request):
    """Return the urls of two empty databases of different kinds."""
    return [plain_url_of(kind, request) for kind in request.param]


async def test_values_that_were_copied_into_another_database_go_on_there(urls):
    databases = {name: {"url": url} for name, url in zip(("old", "new"), urls, strict=True)}
    worker = DatabaseWorker.from_config({"databases": databases})
    async with running_engine(worker) as bus:
        old, new = (DatabaseStore(bus.trigger, db) for db in ("old", "new"))
        async with old.opened(), new.opened():
            for key in ("b", "\0a", "gone", "c"):
                await put(old, key, b"1")
            await put(old, "gone", None)
            assert (await bus.trigger("database::copy", {"from": "old", "to": "new"}))["complete"]
            assert await new.keys("s") == ["b", "\0a", "c"]
            assert await new.identity() == await old.identity()
            assert await put(new, "b", b"2") == (b"1", b"2")
            assert await put(new, "d", b"3") == (None, b"3")
            assert await new.keys("s") == ["b", "\0a", "c", "d"]


# --- what a database refuses --------------------------------------------------------------------------------------


async def test_a_refused_row_fails_its_own_caller_alone(url):
    in_a_file = (
        "CREATE TRIGGER refuse BEFORE INSERT ON linkly_state WHEN length(NEW.value) > 20 "
        "BEGIN SELECT RAISE(ABORT, 'no room for this'); END"
    )
    on_a_server = "ALTER TABLE linkly_state ADD CONSTRAINT room CHECK (octet_length(value) <= 20)"
    async with running_stores(url, 1) as ((store,), bus):
        await put(store, "k1", b"old")
        await execute(bus, in_a_file if url.startswith("sqlite") else on_a_server)
        values = [b"x" * (30 if number == 5 else 1) for number in range(10)]
        answers = await asyncio.gather(
            *(put(store, f"k{number}", value) for number, value in enumerate(values)), return_exceptions=True
        )
        assert [number for number, each in enumerate(answers) if isinstance(each, StoreError)] == [5]
        assert "room" in str(answers[5])
        assert sorted(await store.keys("s")) == [f"k{number}" for number in range(10) if number != 5]


async def test_names_that_no_index_takes_are_refused(url):
    async with running_engine(worker(), database_worker(url)) as bus:
        await bus.trigger("state::set", {"scope": "s" * 1000, "key": "ä" * 500, "value": 1})
        for scope, key, what in (("s", "ä" * 501, "key has 1002 bytes"), ("s" * 1001, "k", "scope has 1001 bytes")):
            with pytest.raises(LinklyError, match=what) as failure:
                await bus.trigger("state::set", {"scope": scope, "key": key, "value": 1})
            assert failure.value.code == "SET_ERROR"
            assert await bus.trigger("state::get", {"scope": scope, "key": key}) is None


async def test_what_is_too_large_to_be_read_says_how_to_read_it(url):
    async with running_engine(worker(), database_worker(url, max_result_bytes=2000)) as bus:
        values = [str(number) * 1500 for number in range(3)]
        sets = [bus.trigger("state::set", {"scope": "s", "key": value[0], "value": value}) for value in values]
        assert [each["new_value"] for each in await asyncio.gather(*sets)] == values
        again = [bus.trigger("state::set", {"scope": "s", "key": value[0], "value": value}) for value in values]
        assert [each["old_value"] for each in await asyncio.gather(*again)] == values
        with pytest.raises(LinklyError, match=r"max_result_bytes.*state::list_entries") as failure:
            await bus.trigger("state::list", {"scope": "s"})
        assert failure.value.code == "LIST_ERROR"
        assert await bus.trigger("state::get", {"scope": "s", "key": "1"}) == values[1]


async def test_a_value_that_could_not_be_read_again_is_refused(url):
    async with running_engine(worker(), database_worker(url, max_result_bytes=2000)) as bus:
        largest = "x" * (2000 - store_module.ROW_BYTES - 2)
        for key, value in (("k", largest), ("ä" * 500, largest)):
            await bus.trigger("state::set", {"scope": "s", "key": key, "value": value})
            with pytest.raises(LinklyError, match=r"1745 bytes.*max_result_bytes") as failure:
                await bus.trigger("state::set", {"scope": "s", "key": key, "value": value + "x"})
            assert failure.value.code == "SET_ERROR"
            assert await bus.trigger("state::delete", {"scope": "s", "key": key}) == value


async def test_numbers_that_the_database_answers_as_text_are_read(url):
    async with running_engine(worker(), database_worker(url, integers="string")) as bus:
        for number in range(3):
            answer = await bus.trigger("state::set", {"scope": "s", "key": "k", "value": number})
            assert answer["old_value"] == (number - 1 if number else None)
        assert (await bus.trigger("state::list_entries", {"scope": "s"}))["total"] == 1


async def test_an_answer_that_nobody_expects_fails_those_that_wait_and_nobody_later(tmp_path, caplog):
    async with running_engine(database_worker(f"sqlite:{tmp_path}/a.db")) as bus:
        is_strange = False

        async def trigger(function_id, payload, **options):
            answer = await bus.trigger(function_id, payload, **options)
            return {"committed": True} if is_strange and function_id == "database::transaction" else answer

        store = DatabaseStore(trigger, "primary")
        async with store.opened():
            await put(store, "k", b"1")
            is_strange = True
            with pytest.raises(OutcomeUnknown, match="results"):
                await put(store, "k", b"2")
            is_strange = False
            assert await put(store, "k", b"3") == (b"2", b"3")
    assert "a batch of writes has failed" in caplog.text


# --- a database that is not there ---------------------------------------------------------------------------------


async def test_an_unknown_database_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(ConfigError, match="no database `values`; configured: primary"):
        async with running_engine(worker("values"), database_worker(f"sqlite:{tmp_path}/a.db")):
            pass


async def test_without_a_database_worker_the_error_says_what_to_add():
    with pytest.raises(ConfigError, match=r"add the worker `database`.*adapter: \{name: kv\}"):
        async with running_engine(worker()):
            pass


async def test_the_state_worker_may_stand_behind_the_database_worker(url):
    async with running_engine(database_worker(url), worker()) as bus:
        await bus.trigger("state::set", {"scope": "s", "key": "k", "value": 1})
        assert await bus.trigger("state::get", {"scope": "s", "key": "k"}) == 1
        assert await bus.trigger("state::readiness") == {"ready": True, "reasons": []}


async def test_a_database_in_which_no_tables_can_be_made_stops_the_start(postgres_url):
    no_schema = postgres_url.rpartition("search_path%3D")[0] + "search_path%3Dnowhere"
    with pytest.raises(ConfigError, match=r"state: the store cannot be opened.*no schema"):
        async with running_engine(worker(), database_worker(no_schema)):
            pass


async def test_a_server_that_is_away_at_the_start_is_waited_for(server):
    address = {"scope": "away", "key": "k"}
    with stopped(server) as start_again:
        async with running_engine(worker(), database_worker(server.url, pool={"acquire_timeout_ms": 200})) as bus:
            readiness = await bus.trigger("state::readiness")
            assert not readiness["ready"]
            assert "primary" in readiness["reasons"][0]
            for name, payload, code in (
                ("get", {}, "GET_ERROR"),
                ("set", {"value": 1}, "SET_ERROR"),
                ("delete", {}, "DELETE_ERROR"),
            ):
                with pytest.raises(LinklyError) as failure:
                    await bus.trigger(f"state::{name}", {**address, **payload})
                assert (failure.value.code, failure.value.details) == (code, {"retryable": True})
            start_again()

            async def is_ready():
                return (await bus.trigger("state::readiness"))["ready"]

            await until(is_ready)
            assert (await bus.trigger("state::set", {**address, "value": 1}))["old_value"] is None


async def test_a_server_that_is_killed_loses_no_answered_write_and_counts_none_twice(server, kind_of_server):
    ops = [{"type": "increment", "path": "n", "by": 1}]
    asked = answered = 0
    failures = []
    hundred = asyncio.Event()
    async with running_engine(worker(), database_worker(server.url)) as bus:
        is_up_again = False

        async def count():
            nonlocal asked, answered
            while not is_up_again or answered < 200:
                asked += 1
                try:
                    await bus.trigger("state::update", {"scope": "killed", "key": "k", "ops": ops})
                except LinklyError as error:
                    failures.append(error)
                    continue
                answered += 1
                if answered == 100:
                    hundred.set()

        callers = [asyncio.ensure_future(count()) for _ in range(8)]
        async with asyncio.timeout(WAIT_S):
            await hundred.wait()
            server.stop(signal.SIGQUIT if kind_of_server is POSTGRES else signal.SIGKILL)
            server.start()
            is_up_again = True
            await asyncio.gather(*callers)
        assert all(each.code == "outcome_unknown" or each.details == {"retryable": True} for each in failures), failures
        value = (await bus.trigger("state::get", {"scope": "killed", "key": "k"}))["n"]
        assert answered <= value <= asked


async def test_a_connection_lost_during_the_commit_is_told_as_that(server, kind_of_server):
    async with CuttingProxy(server.port).open() as proxy:
        url = server.url.replace(f":{server.port}/", f":{proxy.port}/")
        async with running_engine(worker(), database_worker(url)) as bus:
            address = {"scope": "lost", "key": "k"}
            await bus.trigger("state::set", {**address, "value": 1})
            # As each protocol has it, because READ COMMITTED is asked for as well.
            proxy.cut_at = b"COMMIT\0" if kind_of_server is POSTGRES else b"\3COMMIT"
            with pytest.raises(OutcomeUnknown):
                await bus.trigger("state::set", {**address, "value": 2})
            proxy.cut_at = None
            assert (await bus.trigger("state::set", {**address, "value": 3}))["old_value"] in (1, 2)
