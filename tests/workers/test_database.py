"""The database worker on SQLite, in process and over the wire."""

import asyncio
import base64
import contextlib
import gc
import os
import sqlite3

import pytest

from linkly import LinklyError
from linkly.errors import ConfigError
from linkly.schema import read_settings
from linkly.testing import settle
from linkly_workers.database import DatabaseSettings, DatabaseWorker
from support.database_calls import database_worker, execute, rows

pytestmark = pytest.mark.transports("in process", "native wire", "json wire")


@pytest.fixture
def database(tmp_path):
    """Make database workers on one folder."""

    def make(**databases):
        entries = {"primary": {"url": f"sqlite:{tmp_path}/new/folder/a.db", "pool": {"max": 2}}, **databases}
        return DatabaseWorker(read_settings(DatabaseSettings, {"databases": entries}, "$"))

    make.path = tmp_path / "new" / "folder" / "a.db"
    return make


async def refusal(bus, function_id, payload):
    with pytest.raises(LinklyError) as failure:
        await bus.trigger(function_id, payload)
    return failure.value


async def test_file_and_folder_are_made_and_rows_come_back(run, database):
    async with run(database()) as bus:
        await execute(bus, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, data BLOB)")
        made = await execute(bus, "INSERT INTO t (name) VALUES (?), (?)", "a", "ü")
        assert made == {"affected_rows": 2, "last_insert_id": "2", "returned_rows": []}
        returned = await execute(bus, "UPDATE t SET name = 'b' WHERE id = 1 RETURNING id, name", returning=["id"])
        assert returned["returned_rows"] == [{"id": 1, "name": "b"}]
        answer = await bus.trigger("database::query", {"db": "primary", "sql": "SELECT id, name FROM t ORDER BY id"})
        assert answer["rows"] == [{"id": 1, "name": "b"}, {"id": 2, "name": "ü"}]
        assert answer["row_count"] == 2
        assert [column["name"] for column in answer["columns"]] == ["id", "name"]
        assert await rows(bus, "SELECT 1 AS a, 2 AS a") == [{"a": 2}]
    assert database.path.exists()


async def test_values_are_mapped_both_ways(run, database):
    async with run(database()) as bus:
        blob = {"$blob": base64.b64encode(b"\x00\xff").decode()}
        found = await rows(
            bus, "SELECT ? AS n, ? AS i, ? AS f, ? AS t, ? AS j, hex(?) AS b", None, 2**53, 1.5, "x", {"a": [1]}, blob
        )
        assert found == [{"n": None, "i": 2**53, "f": 1.5, "t": "x", "j": '{"a":[1]}', "b": "00FF"}]
        assert await rows(bus, "SELECT ? AS yes", True) == [{"yes": 1}]
        listed = await bus.trigger("database::query", {"sql": "SELECT ? AS a", "params": "[7]"})
        assert listed["rows"] == [{"a": 7}]


async def test_a_query_that_writes_is_written_durably(run, database):
    async with run(database()) as bus:
        await execute(bus, "CREATE TABLE t (a)")
        assert await rows(bus, "INSERT INTO t VALUES (1) RETURNING a") == [{"a": 1}]
        assert await rows(bus, "SELECT COUNT(*) AS n FROM t") == [{"n": 1}]


async def test_the_old_ids_are_aliases_and_databases_are_listed(run, database):
    async with run(database(other={"url": "sqlite::memory:"})) as bus:
        for prefix in ("database", "iii-database"):
            answer = await bus.trigger(f"{prefix}::query", {"db": "primary", "sql": "SELECT 1 AS a"})
            assert answer["rows"] == [{"a": 1}]
        listed = await bus.trigger("database::listDatabases")
        assert sorted(each["name"] for each in listed["databases"]) == ["other", "primary"]
        await execute(bus, "CREATE TABLE t (a)", db="other")
        assert (await execute(bus, "INSERT INTO t VALUES (1)", db="other"))["affected_rows"] == 1


@pytest.mark.parametrize(
    "payload, code, part",
    [
        ({"db": "none", "sql": "SELECT 1"}, "UNKNOWN_DB", "primary"),
        ({"sql": "SELEC 1"}, "DRIVER_ERROR", "syntax error"),
        ({"sql": "SELECT * FROM none"}, "DRIVER_ERROR", "none"),
        ({"sql": "   "}, "DRIVER_ERROR", "empty SQL"),
        ({"sql": "SELECT 1; SELECT 2"}, "DRIVER_ERROR", "one statement"),
        ({"sql": "-- sly\n /* very */ begin"}, "INVALID_PARAM", "transaction control"),
        ({"sql": "SELECT ?", "params": [2**64]}, "INVALID_PARAM", "64 bits"),
        ({"sql": "SELECT ?", "params": []}, "DRIVER_ERROR", "binding"),
        ({"sql": "SELECT ?", "params": "no json"}, "INVALID_PARAM", "params"),
        ({"sql": "SELECT ?", "params": '{"a": 1}'}, "INVALID_PARAM", "expected a list"),
        ({"sql": "SELECT ?", "params": [{"$blob": "?"}]}, "INVALID_PARAM", r"params\[0\]"),
        ({"params": []}, "deserialization_error", "sql"),
    ],
)
@pytest.mark.parametrize("function_id", ["database::query", "database::execute"])
async def test_what_cannot_run_is_refused_with_its_code_and_reason(run, database, function_id, payload, code, part):
    async with run(database()) as bus:
        with pytest.raises(LinklyError, match=part) as failure:
            await bus.trigger(function_id, payload)
        assert failure.value.code == code


async def test_several_databases_without_a_primary_ask_which_one(run, tmp_path):
    entries = {name: {"url": "sqlite::memory:"} for name in ("a", "b")}
    async with run(DatabaseWorker(read_settings(DatabaseSettings, {"databases": entries}, "$"))) as bus:
        error = await refusal(bus, "database::query", {"sql": "SELECT 1"})
        assert (error.code, error.details["available"]) == ("MISSING_DB", ["a", "b"])


async def test_a_transaction_happens_whole_or_not_at_all(run, database):
    async with run(database()) as bus:
        await execute(bus, "CREATE TABLE t (a UNIQUE)")
        done = await bus.trigger(
            "database::transaction",
            {"statements": [{"sql": "INSERT INTO t VALUES (?)", "params": [1]}, {"sql": "SELECT a FROM t"}]},
        )
        assert done["committed"] is True
        assert done["results"] == [{"affected_rows": 1, "rows": []}, {"affected_rows": 0, "rows": [[1]]}]
        failed = await bus.trigger(
            "database::executeBatch",
            {"statements": ["INSERT INTO t VALUES (2)", {"sql": "INSERT INTO t VALUES (?)", "params": [1]}]},
        )
        assert (failed["committed"], failed["failed_index"]) == (False, 1)
        assert failed["error"]["code"] == "DRIVER_ERROR"
        assert failed["error"]["inner_code"] == "SQLITE_CONSTRAINT_UNIQUE"
        assert await rows(bus, "SELECT a FROM t") == [{"a": 1}]
        error = await refusal(bus, "database::transaction", {"statements": ["COMMIT"]})
        assert error.code == "INVALID_PARAM"


async def test_one_callers_failing_statement_fails_that_caller_alone(run, database):
    async with run(database()) as bus:
        await execute(bus, "CREATE TABLE t (a UNIQUE)")
        await execute(bus, "INSERT INTO t VALUES (0)")
        verbs = ["INSERT", "INSERT OR ROLLBACK", "INSERT OR ABORT"]

        async def insert(number):
            if number % 4:
                return await execute(bus, "INSERT INTO t VALUES (?)", number)
            return await refusal(bus, "database::execute", {"sql": f"{verbs[number % 3]} INTO t VALUES (0)"})

        outcomes = await asyncio.gather(*(insert(number) for number in range(1, 101)))
        assert sum(isinstance(each, LinklyError) for each in outcomes) == 25
        assert (await rows(bus, "SELECT COUNT(*) AS n FROM t"))[0]["n"] == 76


async def test_a_slow_query_is_interrupted_at_its_timeout(run, database):
    async with run(database()) as bus:
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
        error = await refusal(bus, "database::query", {"sql": endless, "timeout_ms": 30})
        assert (error.code, error.details["timeout_ms"]) == ("QUERY_TIMEOUT", 30)
        assert await rows(bus, "SELECT 1 AS a") == [{"a": 1}]


async def test_a_query_waits_for_a_connection_only_so_long(run, database):
    pool = {"max": 1, "acquire_timeout_ms": 20}
    async with run(database(one={"url": f"sqlite:{database.path}", "pool": pool})) as bus:
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
        slow = {"db": "one", "sql": endless, "timeout_ms": 500}
        refusals = await asyncio.gather(*(refusal(bus, "database::query", slow) for _ in range(2)))
        assert sorted(error.code for error in refusals) == ["POOL_TIMEOUT", "QUERY_TIMEOUT"]


@pytest.mark.parametrize("function_id", ["database::query", "database::execute"])
async def test_a_cancelled_caller_stops_its_statement(run, database, function_id):
    if run.framing == "json":
        return  # iii's protocol has no message for it: the statement ends at its time-out
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
    async with run(database(one={"url": f"sqlite:{database.path}", "pool": {"max": 1}})) as bus:
        for turns in range(0, 60, 3):
            call = asyncio.create_task(bus.trigger(function_id, {"db": "one", "sql": endless}))
            await settle(turns)
            call.cancel()
            await asyncio.wait([call])
            assert call.cancelled()
        answer = await bus.trigger(function_id, {"db": "one", "sql": "SELECT 1 AS a", "returning": ["a"]})
        assert answer.get("rows", answer.get("returned_rows")) == [{"a": 1}]


@pytest.fixture
def open_files():
    """Return what lists the names of this process's open files; nothing is closed by the garbage collector."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("open files are listed in /proc")

    def names():
        found = []
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"/proc/self/fd/{number}"))
        return found

    gc.collect()
    gc.disable()
    yield names
    gc.enable()


@pytest.mark.parametrize("function_id", ["database::query", "database::beginTransaction"])
async def test_a_cancelled_caller_leaves_no_connection_open(run, database, open_files, function_id):
    if run.framing == "json":
        return  # iii's protocol has no message for it
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
    payload = {"sql": endless} if function_id == "database::query" else {"isolation": "serializable"}
    async with run(database()) as bus:
        for turns in range(0, 60, 3):
            call = asyncio.create_task(bus.trigger(function_id, payload))
            await settle(turns)
            call.cancel()
            await asyncio.wait([call])
    async with asyncio.timeout(10):  # over the wire, a caller is told before the transaction's thread has ended
        while any(name.startswith(str(database.path)) for name in open_files()):
            await settle(1)


@pytest.mark.parametrize("url", ["mongo://localhost/a", "a.db", "sqlite:"])
async def test_a_url_that_cannot_be_used_is_a_config_error(url):
    with pytest.raises(ConfigError, match="primary"):
        database_worker(url)


async def test_a_file_that_is_no_database_is_a_config_error(run, tmp_path):
    (tmp_path / "text.db").write_text("this is no database, whatever its name says" * 40)
    with pytest.raises(ConfigError, match="cannot be opened"):
        async with run(database_worker(f"sqlite:{tmp_path}/text.db")):
            pass


async def test_a_reader_of_the_file_beside_the_engine_sees_what_was_answered(run, database):
    async with run(database()) as bus:
        await execute(bus, "CREATE TABLE t (a)")
        await execute(bus, "INSERT INTO t VALUES (42)")
        with sqlite3.connect(database.path) as beside:
            assert beside.execute("SELECT a FROM t").fetchall() == [(42,)]
        beside.close()
