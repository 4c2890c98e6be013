"""What a caller leaves in a session of MySQL or MariaDB ends with his call, and what the server does in its own way."""

import asyncio
import re
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from linkly_workers.database.backends import OneDatabase
from support.cutting_proxy import CuttingProxy
from support.database_calls import begin, call, execute, refused, rows, running, until, value, values

TWO = "SELECT 1 AS a UNION ALL SELECT 2"


@pytest.fixture
async def bus(mysql_url):
    """One connection for everybody."""
    async with running(mysql_url, pool={"max": 1}) as bus:
        yield bus


@pytest.fixture
async def several(mysql_url):
    async with running(mysql_url) as bus:
        await execute(bus, "CREATE TABLE t (id INT PRIMARY KEY, a INT)")
        await execute(bus, "INSERT INTO t VALUES (1, 0), (2, 0)")
        yield bus


# --- what is left -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "left, seen, clean",
    [
        ("SELECT @who := 'ann'", "SELECT @who", None),
        ("SELECT GET_LOCK('mine', 0)", "SELECT IS_USED_LOCK('mine')", None),
        ("CREATE TEMPORARY TABLE leftover (a INT)", "SELECT COUNT(*) FROM leftover", "1146"),
        ("SELECT SQL_CALC_FOUND_ROWS 1 UNION SELECT 2", "SELECT @@time_zone", "+00:00"),
    ],
)
async def test_what_a_call_leaves_in_its_session_ends_with_it(bus, left, seen, clean):
    await call(bus, "query", sql=left)
    if clean == "1146":
        assert (await refused(bus, "query", sql=seen)).details["inner_code"] == clean
    else:
        assert await value(bus, seen) == clean


async def test_what_a_procedure_sets_ends_with_the_call(bus):
    body = "BEGIN SET SESSION time_zone = '+05:00'; SET SESSION sql_mode = ''; SET SESSION autocommit = 0; END"
    await execute(bus, f"CREATE PROCEDURE p() {body}")
    mine = await value(bus, "SELECT CONNECTION_ID()")
    await execute(bus, "CALL p()")
    assert await value(bus, "SELECT CONNECTION_ID()") == mine
    assert await value(bus, "SELECT @@time_zone") == "+00:00"
    assert await value(bus, "SELECT @@autocommit") == 1
    assert "STRICT_ALL_TABLES" in await value(bus, "SELECT @@sql_mode")


async def test_who_drops_the_database_leaves_no_session_without_one(bus, mysql_url):
    async with running(mysql_url) as other:
        name = await value(bus, "SELECT DATABASE()")
        await execute(bus, f"DROP DATABASE `{name}`")
        await execute(other, f"CREATE DATABASE `{name}`")
        assert await value(bus, "SELECT DATABASE()") == name


async def test_what_an_open_transaction_left_ends_with_it(bus):
    begun = await begin(bus)
    await call(bus, "transactionQuery", transaction_id=begun, sql="SELECT @who := 'ann'")
    assert (await call(bus, "transactionQuery", transaction_id=begun, sql="SELECT @who AS a"))["rows"] == [{"a": "ann"}]
    await call(bus, "commitTransaction", transaction_id=begun)
    assert await value(bus, "SELECT @who") is None


async def test_a_connection_serves_one_caller_after_another(bus):
    mine = await value(bus, "SELECT CONNECTION_ID()")
    answers = await asyncio.gather(*(value(bus, "SELECT CONNECTION_ID() + ?", number) for number in range(50)))
    assert answers == [mine + number for number in range(50)]


async def test_a_statement_that_was_stopped_leaves_its_connection_to_the_next_caller(bus):
    mine = await value(bus, "SELECT CONNECTION_ID()")
    for _ in range(20):
        error = await refused(bus, "query", sql="SELECT SLEEP(600)", timeout_ms=5)
        assert error.code == "QUERY_TIMEOUT"
        assert await value(bus, "SELECT CONNECTION_ID()") == mine


async def test_a_statement_may_be_stopped_at_any_moment(bus):
    """The KILL comes while the statement begins, runs, is answered or has been answered; it never hits the next one."""
    mine = await value(bus, "SELECT CONNECTION_ID()")
    for number in range(100):
        asked = asyncio.ensure_future(rows(bus, f"{TWO} UNION ALL SELECT SLEEP({number / 100_000})"))
        for _ in range(number % 10):
            await asyncio.sleep(0)
        asked.cancel()
        assert await values(bus, TWO) == [1, 2]
    assert await value(bus, "SELECT CONNECTION_ID()") == mine


async def test_a_statement_ends_although_the_server_is_asked_to_stop_it_before_it_begins(bus, mysql_url):
    """The server ignores that."""
    async with one_held_back(mysql_url, b"SLEEP(608)") as (through, proxy):
        mine = await value(through, "SELECT CONNECTION_ID()")
        asked = asyncio.ensure_future(value(through, "SELECT SLEEP(608)"))
        await stopped_too_early(bus, proxy, asked)
        assert await value(through, "SELECT CONNECTION_ID()") == mine


async def test_a_stream_ends_although_the_server_is_asked_to_stop_it_before_it_begins(bus, mysql_url):
    async with one_held_back(mysql_url, b"AS endless") as (through, proxy):
        mine = await value(through, "SELECT CONNECTION_ID()")
        writer = (await through.create_channel()).writer
        sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) AS endless FROM n"
        asked = asyncio.ensure_future(call(through, "stream", sql=sql, writer=writer))
        await stopped_too_early(bus, proxy, asked)

        async def is_gone():
            return await value(bus, "SELECT COUNT(*) FROM information_schema.processlist WHERE id = ?", mine) == 0

        await until(is_gone)


@asynccontextmanager
async def one_held_back(url, text):
    """Have a worker with one connection, and the proxy through which that goes and which holds back a statement."""
    port = urlsplit(url).port or 3306
    async with CuttingProxy(port).open() as proxy:
        proxy.hold_at = text
        async with running(url.replace(f":{port}/", f":{proxy.port}/"), pool={"max": 1}) as through:
            yield through, proxy


async def stopped_too_early(bus, proxy, asked):
    """Cancel a statement that is held back, and let it go on when the server has been asked to stop it."""

    async def kills():
        return int((await rows(bus, "SHOW GLOBAL STATUS LIKE 'Com_kill'"))[0]["Value"])

    await proxy.held.wait()
    before = await kills()

    async def has_been_asked():
        return await kills() > before

    asked.cancel()
    await until(has_been_asked)
    proxy.goes_on.set()


# --- transactions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sql", ["CREATE TABLE other (a INT)", "ALTER TABLE t ADD b INT", "TRUNCATE t", "DROP TABLE t"])
async def test_what_commits_by_itself_is_refused_in_a_transaction(several, sql):
    change = "UPDATE t SET a = 7"
    error = await refused(several, "transaction", statements=[change, sql])
    assert (error.code, error.details["failed_index"]) == ("INVALID_PARAM", 1)
    assert error.details["reason"] == "commits by itself"
    begun = {"transaction_id": await begin(several)}
    await call(several, "transactionExecute", **begun, sql=change)
    assert (await refused(several, "transactionExecute", **begun, sql=sql)).details["reason"] == "commits by itself"
    await call(several, "rollbackTransaction", **begun)
    assert await values(several, "SELECT a FROM t") == [0, 0]


async def test_a_transaction_that_a_procedure_has_ended_is_told(several):
    await execute(several, "CREATE PROCEDURE p() BEGIN UPDATE t SET a = 1; COMMIT; END")
    error = (await call(several, "transaction", statements=["CALL p()", "UPDATE t SET a = 2"]))["error"]
    assert (error["code"], "has ended the transaction by itself" in error["message"]) == ("DRIVER_ERROR", True)
    begun = {"transaction_id": await begin(several)}
    await call(several, "transactionExecute", **begun, sql="CALL p()")
    assert (await refused(several, "transactionExecute", **begun, sql="UPDATE t SET a = 3")).code == "DRIVER_ERROR"
    assert await values(several, "SELECT a FROM t") == [1, 1]


@pytest.mark.parametrize("end", ["ROLLBACK", "COMMIT"])
async def test_a_transaction_that_its_last_statement_has_ended_is_not_said_to_be_committed(several, end):
    await execute(several, f"CREATE PROCEDURE p() BEGIN {end}; END")
    error = (await call(several, "transaction", statements=["UPDATE t SET a = 1", "CALL p()"]))["error"]
    assert (error["code"], "has ended the transaction by itself" in error["message"]) == ("DRIVER_ERROR", True)
    begun = {"transaction_id": await begin(several)}
    await call(several, "transactionExecute", **begun, sql="UPDATE t SET a = 1")
    await call(several, "transactionExecute", **begun, sql="CALL p()")
    assert (await refused(several, "commitTransaction", **begun)).code == "DRIVER_ERROR"
    await execute(several, "CALL p()")


async def test_a_connection_that_is_lost_in_a_procedure_leaves_the_outcome_unknown(several):
    body = "UPDATE t SET a = 1; COMMIT; KILL CONNECTION_ID()"
    await execute(several, f"CREATE PROCEDURE p() BEGIN {body}; END")
    assert (await refused(several, "execute", sql="CALL p()")).code == "outcome_unknown"
    begun = {"transaction_id": await begin(several)}
    assert (await refused(several, "transactionExecute", **begun, sql="CALL p()")).code == "outcome_unknown"
    assert (await refused(several, "commitTransaction", **begun)).code == "TRANSACTION_NOT_FOUND"
    assert await values(several, "SELECT a FROM t") == [1, 1]


async def test_isolation_is_what_was_asked_for(several):
    sees = {"read_committed": 1, "repeatable_read": 0}
    for level, seen in sees.items():
        await execute(several, "UPDATE t SET a = 0")
        inside = {"transaction_id": await begin(several, isolation=level), "sql": "SELECT MAX(a) AS a FROM t"}
        assert (await call(several, "transactionQuery", **inside))["rows"] == [{"a": 0}]
        await execute(several, "UPDATE t SET a = 1")
        assert (await call(several, "transactionQuery", **inside))["rows"] == [{"a": seen}]
        await call(several, "rollbackTransaction", transaction_id=inside["transaction_id"])
    inside = {"transaction_id": await begin(several, isolation="serializable")}
    await call(several, "transactionQuery", **inside, sql="SELECT * FROM t")
    assert (await refused(several, "execute", sql="UPDATE t SET a = 2", timeout_ms=100)).code == "QUERY_TIMEOUT"
    await call(several, "rollbackTransaction", **inside)


async def test_a_failed_statement_takes_nothing_else_with_it(bus):
    await execute(bus, "CREATE TABLE t (a INT UNIQUE)")
    await execute(bus, "CREATE PROCEDURE p(n INT) BEGIN INSERT INTO t VALUES (n); INSERT INTO t VALUES (1); END")
    inside = {"transaction_id": await begin(bus)}
    for number in (1, 2, 3):
        await call(bus, "transactionExecute", **inside, sql="INSERT INTO t VALUES (?)", params=[number])
        for sql in ("INSERT INTO t VALUES (9), (1)", "CALL p(9)"):
            error = await refused(bus, "transactionExecute", **inside, sql=sql)
            assert (error.code, error.details["inner_code"]) == ("DRIVER_ERROR", "1062")
    await call(bus, "commitTransaction", **inside)
    assert await values(bus, "SELECT a FROM t ORDER BY a") == [1, 2, 3]


async def test_a_lock_that_is_waited_for_too_long_ends_the_transaction(several, mysql_url):
    async with running(mysql_url) as other:
        held = {"transaction_id": await begin(several)}
        await call(several, "transactionExecute", **held, sql="UPDATE t SET a = 1 WHERE id = 1")
        waiting = {"transaction_id": await begin(other)}
        await call(other, "transactionExecute", **waiting, sql="UPDATE t SET a = 2 WHERE id = 2")
        sql = "SELECT id FROM t WHERE id = 1 FOR UPDATE WAIT 1"
        if "MariaDB" not in await value(other, "SELECT VERSION()"):
            pytest.skip("only MariaDB has WAIT in a statement")
        error = await refused(other, "transactionQuery", **waiting, sql=sql)
        assert (error.code, error.details["inner_code"], error.details["retryable"]) == ("DRIVER_ERROR", "1205", True)
        assert (await refused(other, "commitTransaction", **waiting)).code == "TRANSACTION_NOT_FOUND"
        await call(several, "commitTransaction", **held)
        assert await values(other, "SELECT a FROM t ORDER BY id") == [1, 0]


# --- statements ---------------------------------------------------------------------------------------------


async def test_several_statements_in_one_text_never_run(several):
    for sql in ("UPDATE t SET a = 1; UPDATE t SET a = 2", "SELECT 1; DELETE FROM t"):
        error = await refused(several, "execute", sql=sql)
        assert (error.code, error.details["inner_code"]) == ("DRIVER_ERROR", "MULTI_STATEMENT")
    await execute(several, "UPDATE t SET a = 5;")
    assert await values(several, "SELECT a FROM t") == [5, 5]


async def test_a_value_with_quotes_and_backslashes_stays_a_value(several):
    await execute(several, "CREATE TABLE s (a TEXT CHARACTER SET utf8mb4)")
    hostile = ["'; DROP TABLE t; --", "\\'; DROP TABLE t; -- ", "\\", "'", '"', "\0\x1a\n\r", "%s %%", "😀 \\' ''"]
    for text in hostile:
        await execute(several, "INSERT INTO s VALUES (?)", text)
    assert await values(several, "SELECT a FROM s") == hostile
    assert await values(several, "SELECT a FROM t") == [0, 0]


async def test_returning_is_refused_where_the_server_has_none(several):
    error = await refused(several, "execute", sql="UPDATE t SET a = 1 RETURNING a", returning=["a"])
    assert (error.code, error.details["inner_code"]) == ("DRIVER_ERROR", "UNSUPPORTED")
    assert await values(several, "SELECT a FROM t") == [0, 0]


async def test_rows_that_matched_are_affected(several):
    changed = await execute(several, "UPDATE t SET a = 0")
    assert changed["affected_rows"] == 2


async def test_the_number_of_a_row_is_told(bus):
    await execute(bus, "CREATE TABLE t (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, a INT)")
    assert (await execute(bus, "INSERT INTO t (a) VALUES (1)"))["last_insert_id"] == "1"
    assert (await execute(bus, "INSERT INTO t (a) VALUES (2), (3)"))["last_insert_id"] == "2"
    assert (await execute(bus, "INSERT INTO t VALUES (18446744073709551610, 4)"))["last_insert_id"] in (
        "18446744073709551610",
        None,
    )
    assert (await execute(bus, "UPDATE t SET a = 9"))["last_insert_id"] is None


async def test_the_rows_of_a_procedure_are_those_of_its_first_result(several):
    await execute(several, "CREATE PROCEDURE p() BEGIN SELECT 1 AS a; UPDATE t SET a = 4; SELECT 2 AS b; END")
    assert await rows(several, "CALL p()") == [{"a": 1}]
    assert await values(several, "SELECT a FROM t") == [4, 4]


async def test_a_statement_larger_than_the_server_takes_is_refused_before_it_is_sent(bus):
    largest = await value(bus, "SELECT @@max_allowed_packet")
    error = await refused(bus, "query", sql="SELECT LENGTH(?)", params=["x" * int(largest)])
    assert (error.code, error.details["inner_code"]) == ("DRIVER_ERROR", "1153")
    assert await value(bus, "SELECT LENGTH(?)", "x" * 20_000_000) == 20_000_000


async def test_a_row_of_several_packets_comes_whole(mysql_url):
    async with running(mysql_url, max_result_bytes=60_000_000) as bus:
        assert len(await value(bus, "SELECT REPEAT('x', 40000000)")) == 40_000_000


async def test_a_prepared_handle_survives_an_alter(bus):
    await execute(bus, "CREATE TABLE t (a INT)")
    await execute(bus, "INSERT INTO t VALUES (1)")
    handle = (await call(bus, "prepareStatement", sql="SELECT * FROM t"))["handle"]["id"]
    assert (await call(bus, "runStatement", handle_id=handle))["rows"] == [{"a": 1}]
    await execute(bus, "ALTER TABLE t MODIFY a VARCHAR(10), ADD b BIGINT DEFAULT 2")
    assert (await call(bus, "runStatement", handle_id=handle))["rows"] == [{"a": "1", "b": 2}]


async def test_a_recursive_with_is_not_cut_short(bus):
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT COUNT(*) FROM n"
    assert await value(bus, many) == 3000


# --- the pool -----------------------------------------------------------------------------------------------


async def test_who_waits_for_himself_is_told(mysql_url):
    async with running(mysql_url, pool={"max": 1, "acquire_timeout_ms": 500}) as bus:
        begun = await begin(bus)
        error = await refused(bus, "query", sql="SELECT 1")
        assert (error.code, error.details["in_use"]) == ("POOL_TIMEOUT", 1)
        assert error.details["oldest"]["function"] == "database::beginTransaction"
        assert "this caller has 1 of them itself" in error.message
        await call(bus, "rollbackTransaction", transaction_id=begun)
        assert await value(bus, "SELECT 1") == 1


async def test_there_are_never_more_connections_than_the_setting_says_and_one_that_stops(mysql_url):
    async with running(mysql_url, pool={"max": 3}) as bus:
        asked = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND SLEEP(0.01) = 0"
        found = await asyncio.gather(*(value(bus, asked) for _ in range(20)))
        assert 1 < max(found) <= 4


async def test_a_password_is_in_no_listing(mysql_url):
    password = re.search(r"://[^:]*:([^@]*)@", mysql_url)[1]
    async with running(mysql_url) as bus:
        assert password
        assert password not in str(await call(bus, "listDatabases"))


def test_a_missing_driver_is_an_error_with_the_command(monkeypatch):
    import linkly_workers.database.mysql as backend

    monkeypatch.setattr(backend, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'linkly\[mysql\]'"):
        OneDatabase(url="mysql://a@b/c")
