"""What callers' SQL must not do to the connections that everybody shares, however it is written."""

import asyncio
import sqlite3

import pytest

from linkly import LinklyError
from linkly.testing import running_engine
from linkly_workers._sqlite import GroupCommitWriter, connect, execute
from linkly_workers._sqlite.batch import LostTransaction
from support.database_calls import call, refused, values

CONTROL = ["BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT a", "RELEASE a", "BEGIN IMMEDIATE"]
SHARED = [
    "ATTACH ':memory:' AS other",
    "DETACH other",
    'PRAGMA "synchronous" = OFF',
    "PRAGMA/**/synchronous=OFF",
    "PRAGMA -- x\n locking_mode = EXCLUSIVE",
    "PRAGMA [foreign_keys] = OFF",
    "PRAGMA 'journal_mode' = DELETE",
    "PRAGMA main./**/synchronous/**/(0)",
    "PRAGMA synchronous/**/=OFF",
]
TEMPORARY = [
    "CREATE TEMP TABLE t (a)",
    "CREATE TABLE temp.t (a)",
    "CREATE TEMPORARY VIEW t AS SELECT 9 AS a",
    "CREATE TEMP TRIGGER g AFTER INSERT ON main.t BEGIN SELECT 1; END",
    "CREATE VIRTUAL TABLE temp.t USING fts5 (a)",
    "CREATE TEMP TABLE t AS SELECT 1 AS a",
]
BEFORE = ["", "\ufeff", " \ufeff/* x */\ufeff;"]


async def refuse_everywhere(bus, sql, reason):
    """Send it through every door, beside somebody else's write, which happens once."""
    await call(bus, "execute", sql="CREATE TABLE t (a)")
    for number, (name, payload) in enumerate(
        [
            ("query", {"sql": sql}),
            ("execute", {"sql": sql}),
            ("prepareStatement", {"sql": sql}),
            ("transaction", {"statements": ["INSERT INTO t VALUES ('half')", sql]}),
        ]
    ):
        error, done = await asyncio.gather(
            refused(bus, name, **payload), call(bus, "execute", sql="INSERT INTO t VALUES (?)", params=[number])
        )
        assert (error.code, error.details["reason"]) == ("INVALID_PARAM", reason), name
        assert done["affected_rows"] == 1
    assert await values(bus) == [0, 1, 2, 3]
    begun = await call(bus, "beginTransaction")
    held = begun["transaction"]["id"]
    await call(bus, "transactionExecute", transaction_id=held, sql="INSERT INTO t VALUES ('half')")
    error = await refused(bus, "transactionExecute", transaction_id=held, sql=sql)
    assert (error.code, error.details["reason"]) == ("INVALID_PARAM", reason)
    await call(bus, "rollbackTransaction", transaction_id=held)
    assert await values(bus) == [0, 1, 2, 3]


@pytest.mark.parametrize("before", BEFORE, ids=["plain", "bom", "bom and comment"])
@pytest.mark.parametrize("sql", CONTROL)
async def test_transaction_control_takes_no_neighbour_with_it(database, sql, before):
    async with running_engine(database) as bus:
        await refuse_everywhere(bus, before + sql, "transaction control")


@pytest.mark.parametrize("before", BEFORE, ids=["plain", "bom", "bom and comment"])
@pytest.mark.parametrize("sql", SHARED)
async def test_what_changes_a_shared_connection_is_refused_however_it_is_written(database, sql, before):
    async with running_engine(database) as bus:
        await refuse_everywhere(bus, before + sql, "changes a shared connection")


@pytest.mark.parametrize("sql", TEMPORARY)
async def test_what_is_temporary_is_refused_because_everybody_would_have_it(database, sql):
    async with running_engine(database) as bus:
        await refuse_everywhere(bus, sql, "changes a shared connection")
        assert "ordinary table" in (await refused(bus, "execute", sql=sql)).message


@pytest.mark.parametrize(
    "sql", ["PRAGMA synchronous", "/* x */ PRAGMA/**/ user_version = 3", "PRAGMA table_info(t)", "/*c*/ VACUUM"]
)
async def test_what_harms_nobody_is_still_run(database, sql):
    async with running_engine(database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        await call(bus, "execute", sql=sql)
        assert await values(bus) == []


# --- the writer itself, which checks no text ----------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 30], ids=["alone", "among neighbours"])
@pytest.mark.parametrize(
    "sql", ["commit", "rollback", "savepoint x", "attach ':memory:' as x", "create temp table t (a)"]
)
async def test_the_writers_connection_refuses_what_no_text_check_has_seen(tmp_path, sql, size):
    async with GroupCommitWriter(str(tmp_path / "a.db")) as writer:
        await writer.execute("CREATE TABLE t (a)")
        calls = [writer.execute("INSERT INTO t VALUES (?)", [number]) for number in range(size)]
        calls.insert(size // 2, writer.execute(sql))
        results = await asyncio.gather(*calls, return_exceptions=True)
        refusal = results.pop(size // 2)
        assert isinstance(refusal, sqlite3.DatabaseError)
        assert refusal.sqlite_errorcode == sqlite3.SQLITE_AUTH
        assert [result.affected_rows for result in results] == [1] * size
        assert (await writer.execute("SELECT a FROM t ORDER BY a")).rows == [(number,) for number in range(size)]


def lose(connection):
    """Write, and end the transaction that all of a batch share."""
    execute(connection, "INSERT INTO t VALUES ('once')")
    connection.own("COMMIT")


async def test_what_a_lost_transaction_has_written_is_not_written_again(tmp_path):
    async with GroupCommitWriter(str(tmp_path / "a.db")) as writer:
        await writer.execute("CREATE TABLE t (a)")
        with pytest.raises(LostTransaction):
            await writer.run(lose)
        assert (await writer.execute("SELECT a FROM t")).rows == [("once",)]
        await writer.execute("INSERT INTO t VALUES ('later')")


async def test_a_lost_transaction_is_told_to_everybody_in_it(tmp_path):
    def fail(connection):
        raise ValueError("no")

    async with GroupCommitWriter(str(tmp_path / "a.db")) as writer:
        await writer.execute("CREATE TABLE t (a)")
        # From now on they run on the writing thread, where no shortage of time parts a batch.
        with pytest.raises(ValueError, match="no"):
            await writer.run(fail)
        calls = [writer.run(lambda connection: execute(connection, "INSERT INTO t VALUES (1)")), writer.run(lose)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [LostTransaction, LostTransaction]
        assert (await writer.execute("SELECT a FROM t")).rows == [(1,), ("once",)]


# --- what writes or loads files, and what nobody's text may be compiled without ------------------------------


OUTSIDE = [
    "VACUUM INTO '{path}'",
    "VACUUM main INTO '{path}'",
    "vacuum/**/into\n'file:{path}?mode=rwc'",
    "/* x */ VACUUM -- y\n INTO ('{path}' || '')",
    "SELECT load_extension('{path}')",
    "SELECT \"load_extension\"('{path}', 'x')",
    "SELECT fts3_tokenizer('simple', x'0000000000000000')",
    "SELECT sql FROM sqlite_stmt",
    "SELECT count(*) FROM sqlite_stmt AS s",
]
FOR_ALL = [
    "ATTACH 'file:{path}?mode=rwc' AS other",
    "ATTACH DATABASE '{path}' AS other",
    "PRAGMA writable_schema = ON",
    "PRAGMA/**/writable_schema(1)",
    "PRAGMA main.writable_schema = RESET",
    "PRAGMA temp_store_directory = '{path}'",
]


async def through_every_door(bus, sql):
    """Send a statement to every function that takes SQL; yield the name of the function and what it answered."""
    for name, payload in [
        ("query", {"sql": sql}),
        ("execute", {"sql": sql}),
        ("execute", {"sql": sql, "returning": ["x"]}),
        ("transaction", {"statements": ["SELECT 1", sql]}),
        ("executeBatch", {"statements": [sql]}),
        ("explain", {"sql": sql}),
        ("explain", {"sql": sql, "analyze": True}),
    ]:
        yield name, await refused(bus, name, **payload)
    held = (await call(bus, "beginTransaction"))["transaction"]["id"]
    for name in ("transactionQuery", "transactionExecute"):
        yield name, await refused(bus, name, transaction_id=held, sql=sql)
    await call(bus, "rollbackTransaction", transaction_id=held)
    try:
        handle = (await call(bus, "prepareStatement", sql=sql))["handle"]["id"]
    except LinklyError as error:
        yield "prepareStatement", error
    else:
        yield "runStatement", await refused(bus, "runStatement", handle_id=handle)


@pytest.mark.parametrize("sql", OUTSIDE + FOR_ALL)
async def test_no_door_lets_out_what_reaches_outside_the_database(database, tmp_path, sql):
    path = tmp_path / "stolen"
    reason = "reaches outside the database" if sql in OUTSIDE else "changes a shared connection"
    async with running_engine(database) as bus:
        await call(bus, "execute", sql="CREATE TABLE secret (a)")
        before = sorted(tmp_path.iterdir())
        async for name, error in through_every_door(bus, sql.format(path=path)):
            assert (error.code, error.details["reason"]) == ("INVALID_PARAM", reason), name
        assert (await call(bus, "query", sql="PRAGMA writable_schema"))["rows"] == [{"writable_schema": 0}]
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "sql", ["VACUUM INTO ?", "VACUUM INTO '{path}'", "ATTACH 'file:{path}' AS x", "SELECT load_extension('{path}')"]
)
async def test_the_writer_itself_lets_nothing_out(tmp_path, sql):
    path = str(tmp_path / "stolen")
    async with GroupCommitWriter(str(tmp_path / "a.db")) as writer:
        for run in (writer.execute, lambda *args: writer.run(lambda connection: execute(connection, *args))):
            with pytest.raises(sqlite3.DatabaseError, match=r"outside|callers share|VACUUM from within a transaction"):
                await run(sql.format(path=path), [path] if "?" in sql else [])
    assert not (tmp_path / "stolen").exists()


async def test_a_statement_of_ours_is_never_handed_to_a_caller_from_the_cache(tmp_path):
    async with GroupCommitWriter(str(tmp_path / "a.db")) as writer:
        await writer.execute("CREATE TABLE t (a)")
        texts = []
        await writer.run(lambda connection: connection.set_trace_callback(texts.append))
        await writer.execute("INSERT INTO t VALUES (1)")
        await writer.run(lambda connection: connection.set_trace_callback(None))
        plain = {text.split(" -- ")[0] for text in texts}
        assert {"BEGIN IMMEDIATE", "COMMIT"} <= plain
        for text in plain & {"BEGIN IMMEDIATE", "COMMIT"}:
            with pytest.raises(sqlite3.DatabaseError, match="transaction control"):
                await writer.execute(text)


async def test_only_own_statements_lift_the_guard(tmp_path):
    connection = connect(str(tmp_path / "a.db"))
    connection.own("BEGIN").close()
    for sql in ("COMMIT", "ATTACH ':memory:' AS x", "PRAGMA foreign_keys = OFF"):
        with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
            connection.execute(sql)
    connection.own("COMMIT").close()
    connection.close()


@pytest.mark.parametrize("sql", ["VACUUM", "vacuum;", "/* a */ VACUUM -- b\n;", "VACUUM main", 'VACUUM "main" ; ;'])
@pytest.mark.parametrize("name", ["query", "execute"])
async def test_a_plain_vacuum_is_still_run(database, name, sql):
    async with running_engine(database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        assert (await call(bus, name, sql=sql)).get("row_count", 0) == 0
        assert await values(bus) == []


async def test_a_view_that_is_ours_cannot_be_made_by_a_caller(database):
    async with running_engine(database) as bus:
        error = await refused(bus, "execute", sql="CREATE TEMP VIEW linkly_types AS SELECT 1 AS a")
        assert "ordinary table" in error.message


async def test_a_refusal_is_not_shown_for_a_later_statement(database):
    async with running_engine(database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        await call(
            bus,
            "execute",
            sql="CREATE TRIGGER g BEFORE DELETE ON t BEGIN SELECT RAISE(ABORT, 'not authorized'); END",
        )
        await call(bus, "execute", sql="INSERT INTO t VALUES (1)")
        for sql in ("SELECT 1 AS a FROM sqlite_stmt", "PRAGMA/**/synchronous = 1", "CREATE TEMP TABLE x (a)"):
            await refused(bus, "query", sql=sql)
            await refused(bus, "execute", sql=sql)
        error = await refused(bus, "execute", sql="DELETE FROM t")
        assert (error.code, error.message) == ("DRIVER_ERROR", "not authorized")
