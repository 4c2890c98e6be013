"""Statements without an end of their own: how long they may run, and how much they may answer."""

import asyncio

import pytest

from linkly import LinklyError
from linkly.errors import ConfigError
from linkly.testing import ManualClock, running_engine, settle
from linkly_workers._sqlite.connection import ANY_VALUE_BYTES
from linkly_workers._sqlite.execution import ROW_BYTES, VALUE_BYTES
from support.database_calls import WAIT_S, call, database_worker, refused

LIMIT = 10_000
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS a FROM n"
LARGE = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000) SELECT i AS a FROM n"
SLOW = (
    ENDLESS.replace("SELECT i AS a", "SELECT max(i) AS a")
    .replace("UNION ALL SELECT i + 1 FROM n", "{}")
    .format("UNION ALL SELECT i + 1 FROM n WHERE i < 300000")
)
# How an error, a deadline and a cancellation pass a wire is shown in test_database and test_database_transactions.
pytestmark = pytest.mark.transports("in process")


@pytest.fixture(params=["file", "memory"])
def url(request, tmp_path):
    """Where the database is."""
    return f"sqlite:{tmp_path}/a.db" if request.param == "file" else "sqlite::memory:"


# --- how much -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sql", [ENDLESS, LARGE], ids=["endless", "many rows"])
async def test_a_result_beyond_the_limit_is_an_error_at_every_door(run, url, sql):
    async with run(database_worker(url, max_result_bytes=LIMIT)) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        handle = (await call(bus, "prepareStatement", sql=sql))["handle"]["id"]
        for name, payload in [
            ("query", {"sql": sql}),
            ("query", {"sql": sql}),
            ("execute", {"sql": sql, "returning": ["a"]}),
            ("runStatement", {"handle_id": handle}),
            ("explain", {"sql": sql, "analyze": True}),
        ]:
            error = await refused(bus, name, **payload)
            assert (error.code, error.details["max_result_bytes"]) == ("RESULT_TOO_LARGE", LIMIT), name
            assert "`max_result_bytes`" in error.message
        done = await call(bus, "transaction", statements=["INSERT INTO t VALUES (1)", sql])
        assert (done["committed"], done["failed_index"], done["error"]["code"]) == (False, 1, "RESULT_TOO_LARGE")
        held = (await call(bus, "beginTransaction"))["transaction"]["id"]
        await call(bus, "transactionExecute", transaction_id=held, sql="INSERT INTO t VALUES (2)")
        error = await refused(bus, "transactionQuery", transaction_id=held, sql=sql)
        assert error.code == "RESULT_TOO_LARGE"
        await call(bus, "commitTransaction", transaction_id=held)
        assert (await call(bus, "query", sql="SELECT a FROM t"))["rows"] == [{"a": 2}]


async def test_a_write_whose_rows_are_too_large_writes_nothing(run, url):
    async with run(database_worker(url, max_result_bytes=LIMIT)) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        wide, long = f"INSERT INTO t {LARGE} RETURNING a", "INSERT INTO t VALUES (?) RETURNING a"
        for sql, params in [(wide, []), (long, ["x" * LIMIT]), (wide, [])]:
            neighbours = [call(bus, "execute", sql="INSERT INTO t VALUES ('kept')") for _ in range(3)]
            answers = await asyncio.gather(
                refused(bus, "execute", sql=sql, params=params, returning=["a"]), *neighbours
            )
            assert answers[0].code == "RESULT_TOO_LARGE"
            assert [answer["affected_rows"] for answer in answers[1:]] == [1, 1, 1]
        assert (await call(bus, "query", sql="SELECT a, count(*) AS n FROM t GROUP BY a"))["rows"] == [
            {"a": "kept", "n": 9}
        ]


async def test_the_results_of_one_transaction_count_together(run, url):
    half = f"SELECT printf('%.{LIMIT // 2}c', 'x') AS a"
    async with run(database_worker(url, max_result_bytes=LIMIT)) as bus:
        assert (await call(bus, "transaction", statements=[half]))["committed"]
        done = await call(bus, "transaction", statements=[half, "SELECT 1", half])
        assert (done["committed"], done["failed_index"]) == (False, 2)
        assert (await call(bus, "transaction", statements=[half, "CREATE TABLE IF NOT EXISTS t (a)"]))["committed"]


@pytest.mark.parametrize("rows", [1, 3])
async def test_a_result_of_exactly_the_limit_is_answered(run, url, rows):
    values = ", ".join(["('abc', 1)"] * rows)
    size = rows * (ROW_BYTES + 2 * VALUE_BYTES + 3)
    for limit, fits in ((size, True), (size - 1, False)):
        async with run(database_worker(url, max_result_bytes=limit)) as bus:
            if fits:
                assert (await call(bus, "query", sql=f"VALUES {values}"))["row_count"] == rows
            else:
                assert (await refused(bus, "query", sql=f"VALUES {values}")).code == "RESULT_TOO_LARGE"


@pytest.mark.parametrize("limit", [0, -1, 1_000_000_001])
def test_a_limit_that_cannot_be_is_refused(limit):
    with pytest.raises(ConfigError, match="max_result_bytes"):
        database_worker("sqlite::memory:", max_result_bytes=limit)


@pytest.mark.parametrize("name", ["query", "execute"])
@pytest.mark.parametrize(
    "sql", ["SELECT hex(zeroblob(400000000)) AS a", "SELECT replace(hex(zeroblob(30000)), '0', ?)"]
)
async def test_a_value_that_nobody_could_be_answered_is_not_made(run, url, name, sql):
    params = ["x" * 10_000] if "?" in sql else []
    async with run(database_worker(url)) as bus:
        error = await refused(bus, name, sql=sql, params=params, returning=["a"])
        assert error.details["inner_code"] == "SQLITE_TOOBIG"
        assert "`max_result_bytes`" in error.message
        length = (await call(bus, "query", sql=f"SELECT length(zeroblob({ANY_VALUE_BYTES})) AS n"))["rows"]
        assert length == [{"n": ANY_VALUE_BYTES}]


# --- how long -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, payload",
    [
        ("execute", {"sql": f"INSERT INTO t {ENDLESS.replace('i AS a', 'max(i) AS a')}"}),
        ("transaction", {"statements": ["INSERT INTO t VALUES (1)", ENDLESS.replace("i AS a", "max(i) AS a")]}),
        ("executeBatch", {"statements": [f"INSERT INTO t {ENDLESS.replace('i AS a', 'max(i) AS a')}"]}),
    ],
)
async def test_a_write_ends_after_thirty_seconds_by_default(url, name, payload):
    clock = ManualClock()
    async with running_engine(database_worker(url), clock=clock) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        writing = asyncio.create_task(bus.trigger(f"database::{name}", payload, timeout_s=3600))
        await settle()
        await clock.advance(29.9)
        assert not writing.done()
        await clock.advance(0.2)
        with pytest.raises(LinklyError) as failure:
            async with asyncio.timeout(WAIT_S):
                await writing
        assert (failure.value.code, failure.value.details["timeout_ms"]) == ("QUERY_TIMEOUT", 30_000)
        assert (await call(bus, "query", sql="SELECT a FROM t"))["rows"] == []


@pytest.mark.parametrize("timeout_ms, lasts_s", [(0, 7200), (2**40, 3599), (100_000, 99)])
async def test_a_caller_may_give_a_write_more_time_up_to_an_hour_or_without_end(url, timeout_ms, lasts_s):
    clock = ManualClock()
    async with running_engine(database_worker(url), clock=clock) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        payload = {"sql": f"INSERT INTO t {ENDLESS.replace('i AS a', 'max(i) AS a')}", "timeout_ms": timeout_ms}
        writing = asyncio.create_task(bus.trigger("database::execute", payload, timeout_s=10**6))
        await settle()
        await clock.advance(lasts_s)
        await settle()
        assert not writing.done()
        if timeout_ms:
            await clock.advance(2)
            with pytest.raises(LinklyError) as failure:
                await writing
            assert failure.value.details["timeout_ms"] == min(timeout_ms, 3_600_000)
        else:
            writing.cancel()
            await asyncio.wait([writing])


@pytest.mark.parametrize("name", ["query", "execute"])
async def test_no_time_limit_is_a_choice(run, url, name):
    async with run(database_worker(url)) as bus:
        answer = await call(bus, name, sql=SLOW, timeout_ms=0, **({"returning": ["a"]} if name == "execute" else {}))
        assert (answer.get("rows") or answer.get("returned_rows")) == [{"a": 300_000}]


@pytest.mark.parametrize("name", ["query", "execute", "transaction"])
async def test_a_negative_time_is_refused(run, url, name):
    async with run(database_worker(url)) as bus:
        sql = {"statements": ["SELECT 1"]} if name == "transaction" else {"sql": "SELECT 1"}
        assert "timeout_ms" in (await refused(bus, name, timeout_ms=-1, **sql)).message
