"""What ends a call to the database worker: time, a full pool, a deadline, and what it must not run at all."""

import asyncio

import pytest

from linkly.schema import read_settings
from linkly.testing import ManualClock, running_engine, settle
from linkly_workers.database import DatabaseSettings, DatabaseWorker
from support.database_calls import WAIT_S, begin, call, refused, values

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) AS n FROM n"
SLOW = ENDLESS.replace("FROM n)", "FROM n WHERE i < 200000)")
"""Too long for the loop's thread, so that it needs a reading connection."""

# How an error, a deadline and a cancellation pass a wire is shown in test_database and test_database_transactions.
pytestmark = pytest.mark.transports("in process")


@pytest.fixture(params=["file", "memory"])
def url(request, tmp_path):
    """Where the database is."""
    return f"sqlite:{tmp_path}/a.db" if request.param == "file" else "sqlite::memory:"


def worker(*urls, **pool):
    """Make a database worker; its databases are called primary, second, third."""
    names = ("primary", "second", "third")
    entries = {name: {"url": url, "pool": pool} for name, url in zip(names, urls, strict=False)}
    return DatabaseWorker(read_settings(DatabaseSettings, {"databases": entries}, "$"))


async def idle_connections(bus):
    return (await call(bus, "listDatabases"))["databases"][0]["idle_connections"]


# --- timeout_ms ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, payload",
    [
        ("query", {"sql": ENDLESS}),
        ("query", {"sql": f"INSERT INTO t {ENDLESS} RETURNING a"}),
        ("execute", {"sql": f"INSERT INTO t {ENDLESS}"}),
        ("transaction", {"statements": ["INSERT INTO t VALUES (1)", f"INSERT INTO t {ENDLESS}"]}),
        ("executeBatch", {"statements": ["INSERT INTO t VALUES (1)", ENDLESS, "INSERT INTO t VALUES (2)"]}),
    ],
    ids=["query", "query that writes", "execute", "transaction", "executeBatch"],
)
async def test_nothing_is_written_of_what_takes_too_long(run, url, name, payload):
    async with run(worker(url)) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        for _ in range(2):  # the second time it is known to be slow
            error = await refused(bus, name, **payload, timeout_ms=40)
            assert (error.code, error.details) == ("QUERY_TIMEOUT", {"db": "primary", "timeout_ms": 40})
        assert await values(bus) == []
        assert (await call(bus, "execute", sql="INSERT INTO t VALUES (3)"))["affected_rows"] == 1
        assert (await call(bus, "transaction", statements=["INSERT INTO t VALUES (4)"]))["committed"]
        assert await values(bus) == [3, 4]


async def test_neighbours_of_what_takes_too_long_are_written(run, url):
    async with run(worker(url)) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        endless = asyncio.create_task(refused(bus, "execute", sql=f"INSERT INTO t {ENDLESS}", timeout_ms=60))
        await asyncio.gather(*(call(bus, "execute", sql="INSERT INTO t VALUES (?)", params=[n]) for n in range(20)))
        assert (await endless).code == "QUERY_TIMEOUT"
        assert await values(bus) == list(range(20))


@pytest.mark.parametrize("name", ["execute", "transaction"])
async def test_a_write_that_waited_too_long_for_a_transaction_is_not_written_later(run, url, name):
    async with run(worker(url)) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        held = await begin(bus, isolation="serializable")
        insert = {"sql": "INSERT INTO t VALUES (1)"}
        payload = insert if name == "execute" else {"statements": [insert, insert]}
        assert (await refused(bus, name, **payload, timeout_ms=30)).code == "QUERY_TIMEOUT"
        await call(bus, "commitTransaction", transaction_id=held)
        await call(bus, "execute", sql="INSERT INTO t VALUES (2)")
        assert await values(bus) == [2]


@pytest.mark.parametrize(
    "name, timeout_ms",
    [
        ("beginTransaction", 0),
        *[(name, given) for name in ("query", "execute", "beginTransaction") for given in (-1, "soon")],
    ],
)
async def test_a_timeout_that_is_none_is_refused(run, url, name, timeout_ms):
    async with run(worker(url)) as bus:
        payload = {} if name == "beginTransaction" else {"sql": "SELECT 1"}
        error = await refused(bus, name, **payload, timeout_ms=timeout_ms)
        assert error.code == "deserialization_error"
        assert "timeout_ms" in error.message


# --- the pool -----------------------------------------------------------------------------------------------


async def test_a_long_query_has_a_limit_to_its_wait_for_a_transaction(run, tmp_path):
    clock = ManualClock()
    async with run(worker(f"sqlite:{tmp_path}/a.db", max=1, acquire_timeout_ms=5000), clock=clock) as bus:
        held = await begin(bus)
        for name, payload in (("query", {"sql": SLOW}), ("beginTransaction", {})):
            waiting = asyncio.create_task(refused(bus, name, **payload))
            await settle()
            await clock.advance(4.9)
            assert not waiting.done()
            await clock.advance(0.1)
            error = await waiting
            assert (error.code, error.details) == ("POOL_TIMEOUT", {"db": "primary", "waited_ms": 5000})
        # What is quick needs no connection of its own, and a write is the writer's.
        assert (await call(bus, "query", sql="SELECT 1 AS a"))["rows"] == [{"a": 1}]
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        await call(bus, "rollbackTransaction", transaction_id=held)
        assert (await call(bus, "query", sql=SLOW))["rows"] == [{"n": 200_000}]


@pytest.mark.parametrize("end", ["commitTransaction", "rollbackTransaction"])
async def test_an_ended_transaction_gives_its_connection_back(run, url, end):
    async with run(worker(url, max=1, acquire_timeout_ms=30)) as bus:
        for _ in range(5):
            await call(bus, end, transaction_id=await begin(bus))


async def test_a_transaction_that_sqlite_has_ended_gives_its_connection_back(run, url):
    async with run(worker(url, max=1, acquire_timeout_ms=30)) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a UNIQUE)")
        await call(bus, "execute", sql="INSERT INTO t VALUES (1)")
        for _ in range(3):
            name = await begin(bus)
            await call(bus, "transactionExecute", transaction_id=name, sql="INSERT INTO t VALUES (2)")
            twice = "INSERT OR ROLLBACK INTO t VALUES (1)"
            assert (await refused(bus, "transactionExecute", transaction_id=name, sql=twice)).code == "DRIVER_ERROR"
            error = await refused(bus, "transactionExecute", transaction_id=name, sql="INSERT INTO t VALUES (3)")
            assert error.code == "TRANSACTION_NOT_FOUND"
        assert await values(bus) == [1]


async def test_idle_connections_are_closed_by_the_clock(run, tmp_path):
    clock = ManualClock()
    async with run(worker(f"sqlite:{tmp_path}/a.db", max=4, idle_timeout_ms=10_000), clock=clock) as bus:
        assert await idle_connections(bus) == 0
        await asyncio.gather(*(call(bus, "query", sql=SLOW) for _ in range(3)))
        assert await idle_connections(bus) == 3
        await clock.advance(6)
        await call(bus, "query", sql=SLOW)  # one of them has been used again
        await clock.advance(6)
        assert await idle_connections(bus) == 1
        await clock.advance(6)
        assert await idle_connections(bus) == 0
        assert (await call(bus, "query", sql=SLOW))["rows"] == [{"n": 200_000}]


# --- abandoned transactions ---------------------------------------------------------------------------------


async def test_the_connection_of_an_abandoned_transaction_is_freed_by_the_clock(run, url):
    clock = ManualClock()
    async with run(worker(url, max=1), clock=clock) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        name = await begin(bus, timeout_ms=5000)
        await call(bus, "transactionExecute", transaction_id=name, sql="INSERT INTO t VALUES (1)")
        await clock.advance(4.9)
        await call(bus, "transactionExecute", transaction_id=name, sql="INSERT INTO t VALUES (2)")
        await clock.advance(0.2)
        for method, payload in (
            ("transactionExecute", {"sql": "INSERT INTO t VALUES (3)"}),
            ("transactionQuery", {"sql": "SELECT 1"}),
            ("commitTransaction", {}),
            ("rollbackTransaction", {}),
        ):
            error = await refused(bus, method, transaction_id=name, **payload)
            assert (error.code, error.details) == ("TRANSACTION_NOT_FOUND", {"transaction_id": name})
        after = await begin(bus)
        await call(bus, "transactionExecute", transaction_id=after, sql="INSERT INTO t VALUES (4)")
        await call(bus, "commitTransaction", transaction_id=after)
        assert await values(bus) == [4]


async def test_a_statement_that_runs_at_the_deadline_is_stopped_alone(run, url):
    clock = ManualClock()
    async with run(worker(url, max=1), clock=clock) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        name = await begin(bus, timeout_ms=5000)
        await call(bus, "transactionExecute", transaction_id=name, sql="INSERT INTO t VALUES (1)")
        endless = asyncio.create_task(refused(bus, "transactionQuery", transaction_id=name, sql=ENDLESS))
        other = asyncio.create_task(call(bus, "execute", sql="INSERT INTO t VALUES (2)"))
        await settle()
        assert not endless.done()
        assert not other.done()
        await clock.advance(5.1)
        async with asyncio.timeout(WAIT_S):
            assert (await endless).code in ("DRIVER_ERROR", "TRANSACTION_NOT_FOUND")
            assert (await other)["affected_rows"] == 1
        assert await values(bus) == [2]


async def test_a_deadline_of_more_than_five_minutes_is_five_minutes(run, url):
    clock = ManualClock()
    async with run(worker(url), clock=clock) as bus:
        name = await begin(bus, timeout_ms=3_600_000)
        await clock.advance(299)
        assert (await call(bus, "transactionQuery", transaction_id=name, sql="SELECT 1 AS a"))["rows"] == [{"a": 1}]
        await clock.advance(2)
        assert (await refused(bus, "commitTransaction", transaction_id=name)).code == "TRANSACTION_NOT_FOUND"


async def test_transactions_that_are_open_at_the_end_are_rolled_back(run, tmp_path):
    url = f"sqlite:{tmp_path}/a.db"
    async with run(worker(url)) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        name = await begin(bus)
        await call(bus, "transactionExecute", transaction_id=name, sql="INSERT INTO t VALUES (1)")
        await begin(bus)
    async with run(worker(url)) as bus:
        assert await values(bus) == []


# --- what is not run at all ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sql", ["INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)", "SELECT 1; DROP TABLE t"])
async def test_of_several_statements_in_one_text_none_runs(run, url, sql):
    async with run(worker(url)) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        for name in ("query", "execute", "prepareStatement"):
            error = await refused(bus, name, sql=sql)
            assert (error.code, error.details["inner_code"]) == ("DRIVER_ERROR", "MULTI_STATEMENT")
        done = await call(bus, "transaction", statements=["INSERT INTO t VALUES (0)", sql])
        assert (done["committed"], done["failed_index"]) == (False, 1)
        assert done["error"]["inner_code"] == "MULTI_STATEMENT"
        assert await values(bus) == []
        # One statement may end like this.
        await call(bus, "execute", sql="INSERT INTO t VALUES (9); -- that was all")
        assert await values(bus) == [9]


@pytest.mark.parametrize(
    "sql",
    [
        "BEGIN",
        "begin immediate",
        "COMMIT",
        "End",
        "ROLLBACK",
        "ROLLBACK TO a",
        "SAVEPOINT a",
        "RELEASE a",
        "START TRANSACTION",
        "COMMIT;",
        "COMMIT/**/",
    ],
)
async def test_transaction_control_is_refused_behind_anything(tmp_path, sql):
    async with running_engine(worker(f"sqlite:{tmp_path}/a.db")) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        held = await begin(bus)
        for before in ("", "  \n\t", "-- a comment\n", "/* one\n two */", "; ;", "-- a\n/* b */ ;--c\n "):
            for name, payload in (
                ("query", {"sql": before + sql}),
                ("execute", {"sql": before + sql}),
                ("prepareStatement", {"sql": before + sql}),
                ("transaction", {"statements": ["INSERT INTO t VALUES (1)", before + sql]}),
                ("transactionExecute", {"transaction_id": held, "sql": before + sql}),
            ):
                error = await refused(bus, name, **payload)
                assert (error.code, error.details["reason"]) == ("INVALID_PARAM", "transaction control"), (name, before)
        assert await values(bus) == []


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH ':memory:' AS other",
        "/* x */ DETACH other",
        "PRAGMA journal_mode = DELETE",
        "-- x\npragma main.synchronous(0)",
        "PRAGMA foreign_keys = OFF",
        "PRAGMA writable_schema=ON",
    ],
)
async def test_what_would_change_the_connection_of_all_callers_is_refused(run, url, sql):
    async with run(worker(url)) as bus:
        for name in ("query", "execute"):
            error = await refused(bus, name, sql=sql)
            assert (error.code, error.details["reason"]) == ("INVALID_PARAM", "changes a shared connection")


# --- which database -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, payload",
    [
        ("query", {"sql": "SELECT 1"}),
        ("execute", {"sql": "SELECT 1"}),
        ("transaction", {"statements": []}),
        ("executeBatch", {"statements": ["SELECT 1"]}),
        ("prepareStatement", {"sql": "SELECT 1"}),
        ("beginTransaction", {}),
        ("listTables", {}),
        ("describeTable", {"table": "t"}),
        ("explain", {"sql": "SELECT 1"}),
    ],
)
async def test_the_error_of_an_unknown_database_names_those_there_are(run, url, name, payload):
    async with run(worker(url, "sqlite::memory:")) as bus:
        error = await refused(bus, name, **payload, db="Primary")
        assert (error.code, error.details) == ("UNKNOWN_DB", {"db": "Primary", "available": ["primary", "second"]})


async def test_no_name_means_the_only_database_or_the_one_called_primary(run, url):
    both = {"left": {"url": url}, "right": {"url": "sqlite::memory:"}}
    for entries, code in (
        ({"left": both["left"]}, None),
        ({**both, "primary": {"url": "sqlite::memory:"}}, None),
        (both, "MISSING_DB"),
    ):
        async with run(DatabaseWorker(read_settings(DatabaseSettings, {"databases": entries}, "$"))) as bus:
            if code is None:
                assert (await call(bus, "query", sql="SELECT 1 AS a"))["rows"] == [{"a": 1}]
                continue
            for name, payload in (("query", {"sql": "SELECT 1"}), ("beginTransaction", {}), ("listTables", {})):
                error = await refused(bus, name, **payload)
                assert (error.code, error.details) == (code, {"available": ["left", "right"]})
            assert (await call(bus, "query", sql="SELECT 1 AS a", db="right"))["rows"] == [{"a": 1}]
