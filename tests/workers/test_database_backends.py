"""What every backend of the database worker promises, and that the worker knows none of them."""

import asyncio
import re
from pathlib import Path

import pytest

import linkly_workers.database
from linkly import Function, LinklyError, trigger
from linkly.errors import ConfigError
from linkly.schema import read_settings
from linkly.testing import running_engine, settle
from linkly_workers.database import DatabaseSettings, DatabaseWorker
from linkly_workers.database.backends import BACKENDS

URLS = {"sqlite file": "sqlite:{folder}/a.db", "sqlite memory": "sqlite::memory:", "scratch": "scratch:name"}
"""One of each backend; a new one gets a line here."""

ROOM = Path(linkly_workers.database.__file__).parent


def settings(url, **more):
    return read_settings(DatabaseSettings, {"databases": {"primary": {"url": url}}, **more}, "$")


@pytest.fixture
def scratch(monkeypatch):
    """Add a backend as CONTRIBUTING.md says: a folder, and a line."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "backends"))
    monkeypatch.setitem(BACKENDS, "scratch", "scratch_database")


@pytest.fixture(params=URLS)
def url(request, tmp_path, scratch):
    return URLS[request.param].format(folder=tmp_path)


@pytest.fixture
async def bus(url):
    async with running_engine(DatabaseWorker(settings(url, max_result_bytes=10_000))) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE)")
        yield bus


async def call(bus, name, **payload):
    return await bus.trigger(f"database::{name}", payload)


async def refused(bus, name, **payload):
    with pytest.raises(LinklyError) as failure:
        await call(bus, name, **payload)
    return failure.value


async def values(bus):
    return [row["a"] for row in (await call(bus, "query", sql="SELECT a FROM t ORDER BY id"))["rows"]]


async def test_a_write_says_what_it_changed(bus):
    made = await call(bus, "execute", sql="INSERT INTO t (a) VALUES (?), (?)", params=["one", "two"])
    assert made == {"affected_rows": 2, "last_insert_id": "2", "returned_rows": []}
    gone = await call(bus, "execute", sql="DELETE FROM t WHERE id = 1 RETURNING a", returning=["a"])
    assert gone == {"affected_rows": 1, "last_insert_id": None, "returned_rows": [{"a": "one"}]}


async def test_a_query_answers_rows_and_a_type_for_each_column(bus):
    await call(bus, "execute", sql="INSERT INTO t (a) VALUES ('one')")
    answer = await call(bus, "query", sql="SELECT id, a FROM t")
    assert answer["rows"] == [{"id": 1, "a": "one"}]
    assert answer["row_count"] == 1
    assert [column["name"] for column in answer["columns"]] == ["id", "a"]
    assert all(isinstance(column["type"], str) for column in answer["columns"])


async def test_a_query_that_may_only_read_writes_nothing(bus):
    await call(bus, "execute", sql="INSERT INTO t (a) VALUES ('one')")
    answer = await call(bus, "query", sql="SELECT id, a FROM t", read_only=True)
    assert answer["rows"] == [{"id": 1, "a": "one"}]
    assert [column["name"] for column in answer["columns"]] == ["id", "a"]
    for sql in ("INSERT INTO t (a) VALUES ('two')", "DELETE FROM t", "UPDATE t SET a = 'two' RETURNING a"):
        error = await refused(bus, "query", sql=sql, read_only=True)
        assert (error.code, error.details["reason"]) == ("INVALID_PARAM", "the statement writes")
        assert "`read_only` is for statements that only read" in error.message
    assert await values(bus) == ["one"]


async def test_a_query_that_writes_is_kept(bus):
    await call(bus, "query", sql="INSERT INTO t (a) VALUES ('one')")
    assert await values(bus) == ["one"]


async def test_a_statement_that_the_database_refuses_is_a_driver_error(bus):
    for name in ("query", "execute"):
        error = await refused(bus, name, sql="SELECT * FROM missing")
        assert (error.code, "missing" in error.message) == ("DRIVER_ERROR", True)
        assert set(error.details) >= {"driver", "inner_code"}


@pytest.mark.parametrize("sql, code", [("COMMIT", "INVALID_PARAM"), (" ; ", "DRIVER_ERROR")])
async def test_what_callers_may_not_send_is_refused_at_every_door(bus, sql, code):
    for name in ("query", "execute", "prepareStatement", "explain"):
        assert (await refused(bus, name, sql=sql)).code == code
    error = await refused(bus, "transaction", statements=[sql])
    assert error.code == code
    assert error.details["failed_index"] == 0


async def test_a_transaction_happens_all_or_not_at_all(bus):
    insert = "INSERT INTO t (a) VALUES ('{}')".format
    done = await call(bus, "transaction", statements=[insert("one"), insert("two")])
    assert (done["committed"], len(done["results"])) == (True, 2)
    failed = await call(bus, "transaction", statements=[insert("three"), insert("one")])
    assert (failed["committed"], failed["failed_index"], failed["error"]["code"]) == (False, 1, "DRIVER_ERROR")
    assert await values(bus) == ["one", "two"]


async def test_a_statement_without_an_end_is_stopped_at_its_time(bus):
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    assert (await refused(bus, "query", sql=endless, timeout_ms=50)).code == "QUERY_TIMEOUT"
    assert await values(bus) == []


async def test_a_result_beyond_the_limit_is_refused(bus):
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000) SELECT i * 10000 FROM n"
    assert (await refused(bus, "query", sql=many)).code == "RESULT_TOO_LARGE"


async def test_a_transaction_over_several_calls_is_written_at_its_commit(bus):
    begun = (await call(bus, "beginTransaction"))["transaction"]["id"]
    insert = {"transaction_id": begun, "sql": "INSERT INTO t (a) VALUES ('one')"}
    assert (await call(bus, "transactionExecute", **insert))["affected_rows"] == 1
    assert (await refused(bus, "transactionExecute", **insert)).code == "DRIVER_ERROR"
    inside = await call(bus, "transactionQuery", transaction_id=begun, sql="SELECT a FROM t")
    assert inside["rows"] == [{"a": "one"}]
    assert await call(bus, "commitTransaction", transaction_id=begun) == {"committed": True}
    assert await values(bus) == ["one"]
    assert (await refused(bus, "commitTransaction", transaction_id=begun)).code == "TRANSACTION_NOT_FOUND"


async def test_a_transaction_that_is_rolled_back_leaves_no_trace(bus):
    begun = (await call(bus, "beginTransaction", isolation="serializable"))["transaction"]["id"]
    await call(bus, "transactionExecute", transaction_id=begun, sql="INSERT INTO t (a) VALUES ('one')")
    await call(bus, "rollbackTransaction", transaction_id=begun)
    assert await values(bus) == []


async def test_writes_beside_an_open_transaction_wait_for_its_end(bus):
    begun = (await call(bus, "beginTransaction"))["transaction"]["id"]
    await call(bus, "transactionExecute", transaction_id=begun, sql="INSERT INTO t (a) VALUES ('one')")
    beside = asyncio.ensure_future(call(bus, "execute", sql="INSERT INTO t (a) VALUES ('two')"))
    await settle()
    assert not beside.done()
    await call(bus, "commitTransaction", transaction_id=begun)
    assert (await beside)["affected_rows"] == 1


async def test_what_was_committed_is_told_in_order(bus):
    told = []

    async def hear(event: dict) -> None:
        told.append((event["op"], event["table"], event["affected_rows"]))

    bus.register_function(Function("test::hear", hear))
    bus.register_trigger("test::hear", trigger("database::row-changed", {"db": "primary"}))
    await settle()
    await call(bus, "execute", sql="INSERT INTO t (a) VALUES ('one'), ('two')")
    await call(bus, "transaction", statements=["UPDATE t SET a = a || '!'", "SELECT 1", "DELETE FROM t WHERE id = 1"])
    await call(bus, "transaction", statements=["DELETE FROM t", "INSERT INTO missing VALUES (1)"])
    begun = (await call(bus, "beginTransaction"))["transaction"]["id"]
    await call(bus, "transactionExecute", transaction_id=begun, sql="INSERT INTO t (a) VALUES ('three')")
    await settle()
    assert len(told) == 3
    await call(bus, "commitTransaction", transaction_id=begun)
    await settle()
    assert told == [("insert", "t", 2), ("update", "t", 2), ("delete", "t", 1), ("insert", "t", 1)]


async def test_a_prepared_statement_is_checked_and_run(bus):
    assert (await refused(bus, "prepareStatement", sql="SELECT nothing FROM t")).code == "DRIVER_ERROR"
    handle = (await call(bus, "prepareStatement", sql="SELECT ? AS a"))["handle"]["id"]
    assert (await call(bus, "runStatement", handle_id=handle, params=["x"]))["rows"] == [{"a": "x"}]


async def test_tools_see_the_tables(bus, url):
    (database,) = (await call(bus, "listDatabases"))["databases"]
    assert (database["name"], database["driver"]) == ("primary", url.partition(":")[0])
    assert {"name": "t", "type": "table"} in (await call(bus, "listTables"))["tables"]
    described = await call(bus, "describeTable", table="t")
    assert [(column["name"], column["type"]) for column in described["columns"]] == [("id", "INTEGER"), ("a", "TEXT")]
    assert (await refused(bus, "describeTable", table="missing")).code == "NOT_FOUND"


async def test_only_what_reads_is_explained_by_running_it(bus):
    assert (await call(bus, "explain", sql="SELECT * FROM t", analyze=True))["row_count"] == 0
    error = await refused(bus, "explain", sql="INSERT INTO t (a) VALUES ('one')", analyze=True)
    assert (error.code, error.details["reason"]) == ("INVALID_PARAM", "the statement writes")
    assert await values(bus) == []


async def test_a_database_that_works_is_ready(bus):
    assert (await call(bus, "readiness"))["ready"] is True


# --- how a backend is found ---------------------------------------------------------------------------------


def test_a_url_of_no_backend_names_those_that_there_are(scratch):
    with pytest.raises(ConfigError) as caught:
        settings("mongo://x")
    assert "scheme `mongo` is not supported by this version" in caught.value.message
    assert "`sqlite:./data/name.db` or `sqlite::memory:` or `scratch:name`" in caught.value.message


def test_a_backend_refuses_settings_by_their_key(scratch):
    with pytest.raises(ConfigError, match=r"databases\.primary.*url: `forbidden` cannot be used"):
        settings("scratch:forbidden")


async def test_a_database_that_cannot_be_opened_stops_the_worker(scratch):
    with pytest.raises(ConfigError, match="cannot be opened"):
        async with running_engine(DatabaseWorker(settings("scratch:broken"))):
            pass


def test_the_worker_names_no_backend_outside_its_folder():
    allowed = {'BACKENDS = {"sqlite": "linkly_workers.database.sqlite"}', 'OneDatabase(url="sqlite:./data/iii.db")'}
    for path in ROOM.glob("*.py"):
        for line in path.read_text().splitlines():
            if re.search("sqlite", line, re.IGNORECASE):
                assert any(each in line for each in allowed), f"{path.name}: {line.strip()}"
