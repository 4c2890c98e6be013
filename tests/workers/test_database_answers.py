"""What the database worker says: about columns in memory, tables, statements of a transaction, and what it explains."""

import asyncio

import pytest

from linkly.testing import running_engine
from linkly_workers.database import tools
from support.database_calls import call, refused

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) AS n FROM n"


async def types(bus, sql, **more):
    return [column["type"] for column in (await call(bus, "query", sql=sql, **more))["columns"]]


async def test_declared_types_are_told_and_follow_the_schema(database):
    async with running_engine(database) as bus:
        for kind in ("VARCHAR(9)", "BLOB"):
            await call(bus, "execute", sql=f"CREATE TABLE t (a {kind}, b INTEGER, c)")
            for _ in range(2):
                assert await types(bus, "SELECT a, b, c FROM t WHERE b = ?", params=[1]) == [kind, "INTEGER", ""]
            await call(bus, "execute", sql="DROP TABLE t")


async def test_declared_types_can_be_told_while_others_write(database):
    async with running_engine(database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a TEXT UNIQUE)")
        inserts = [call(bus, "execute", sql="INSERT INTO t VALUES (?)", params=[str(n)]) for n in range(50)]
        queries = [types(bus, f"SELECT a FROM t WHERE a = '{n}'") for n in range(20)]
        results = await asyncio.gather(*inserts, *queries)
        assert [done["affected_rows"] for done in results[:50]] == [1] * 50
        assert results[50:] == [["TEXT"]] * 20


async def test_only_an_integer_that_is_the_whole_key_cannot_be_null(database):
    async with running_engine(database) as bus:
        await call(bus, "execute", sql="CREATE TABLE single (a INTEGER PRIMARY KEY, b INTEGER)")
        await call(bus, "execute", sql="CREATE TABLE pair (a INTEGER, b INTEGER NOT NULL, PRIMARY KEY (a, b))")
        nullable = {}
        for table in ("single", "pair"):
            columns = (await call(bus, "describeTable", table=table))["columns"]
            nullable[table] = [column["nullable"] for column in columns]
        assert nullable == {"single": [False, True], "pair": [True, False]}
        await call(bus, "execute", sql="INSERT INTO pair VALUES (NULL, 1)")


@pytest.mark.parametrize(
    "second, code, part, index",
    [
        ("", "DRIVER_ERROR", "statements[1]: empty SQL", 1),
        ("-- nothing", "DRIVER_ERROR", "statements[1]: empty SQL", 1),
        ("COMMIT", "INVALID_PARAM", "statements[1]: `COMMIT`", 1),
        ("PRAGMA synchronous = OFF", "INVALID_PARAM", "statements[1]: `PRAGMA synchronous`", 1),
        ({"sql": "SELECT ?, ?", "params": [0, {"$blob": "?"}]}, "INVALID_PARAM", "statements[1]: params[1]", 1),
        ({"sql": "SELECT ?, ?, ?", "params": [0, 0, 2**64]}, "INVALID_PARAM", f"params[2]: {2**64} does not fit", 2),
    ],
    ids=["empty", "comment", "control", "pragma", "blob", "integer"],
)
async def test_what_is_wrong_in_a_transaction_is_told_with_its_place(database, second, code, part, index):
    async with running_engine(database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        error = await refused(bus, "transaction", statements=["INSERT INTO t VALUES (1)", second])
        assert error.code == code
        assert part in error.message
        assert (error.details["failed_index"], error.details["index"]) == (1, index)
        assert (await call(bus, "query", sql="SELECT a FROM t"))["rows"] == []


@pytest.mark.parametrize("name", ["query", "execute"])
async def test_a_parameter_beyond_64_bits_is_named(database, name):
    async with running_engine(database) as bus:
        for value in (2**63, -(2**63) - 1):
            error = await refused(bus, name, sql="SELECT ?, ?, ?", params=[2**63 - 1, value, "a"])
            assert (error.code, error.details["index"]) == ("INVALID_PARAM", 1)
            assert error.message.startswith(f"params[1]: {value} does not fit 64 bits")


async def test_what_begins_with_explain_can_be_prepared(database):
    async with running_engine(database) as bus:
        for sql in ("EXPLAIN SELECT 1", "/* c */ explain query plan SELECT 1"):
            handle = (await call(bus, "prepareStatement", sql=sql))["handle"]["id"]
            assert (await call(bus, "runStatement", handle_id=handle))["row_count"] > 0
        assert (await refused(bus, "prepareStatement", sql="EXPLAIN SELEC 1")).code == "DRIVER_ERROR"


@pytest.mark.parametrize(
    "sql", ["/*c*/ VACUUM", "-- c\n VACUUM", "/*c*/PRAGMA wal_checkpoint", "\ufeffPRAGMA wal_checkpoint"]
)
async def test_what_cannot_run_in_a_transaction_runs_alone(database, sql):
    async with running_engine(database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        inserts = [call(bus, "execute", sql="INSERT INTO t VALUES (1)") for _ in range(10)]
        await asyncio.gather(*inserts[:5], call(bus, "execute", sql=sql), *inserts[5:])
        assert (await call(bus, "query", sql="SELECT count(*) AS n FROM t"))["rows"] == [{"n": 10}]


async def test_explaining_by_running_ends_at_its_timeout(database, monkeypatch):
    monkeypatch.setattr(tools, "TOOL_TIMEOUT_MS", 40)
    async with running_engine(database) as bus:
        assert (await refused(bus, "explain", sql=ENDLESS, analyze=True)).code == "QUERY_TIMEOUT"
        assert (await call(bus, "query", sql="SELECT 1 AS n"))["rows"] == [{"n": 1}]
        monkeypatch.undo()  # a busy machine takes longer than that to say anything
        error = await refused(bus, "explain", sql="CREATE TABLE t (a)", analyze=True)
        assert (error.code, error.details["reason"]) == ("INVALID_PARAM", "the statement writes")


@pytest.mark.parametrize("sql", ["CREATE TABLE u (a)", "VACUUM", "PRAGMA user_version = 4", "ANALYZE"])
async def test_what_is_no_reading_is_refused_where_only_reading_was_wanted(database, sql):
    async with running_engine(database) as bus:
        error = await refused(bus, "query", sql=sql, read_only=True)
        assert (error.code, error.details["reason"]) == ("INVALID_PARAM", "the statement writes")
        assert (await call(bus, "query", sql="PRAGMA user_version", read_only=True))["rows"] == [{"user_version": 0}]
