"""What MySQL and MariaDB answer over the bus, where they have ways of their own."""

import pytest

from support.database_calls import call, execute, refused, rows, running, value


@pytest.fixture
async def bus(mysql_url):
    async with running(mysql_url, pool={"max": 1}) as bus:  # one connection for everybody
        await execute(bus, "CREATE TABLE t (id BIGINT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(200) UNIQUE, b INT)")
        yield bus


@pytest.fixture
async def is_mariadb(bus):
    return "MariaDB" in await value(bus, "SELECT VERSION()")


async def count(bus):
    return await value(bus, "SELECT COUNT(*) FROM t")


async def test_a_temporary_table_serves_within_a_transaction_and_ends_with_it(bus):
    done = await call(
        bus,
        "transaction",
        statements=[
            "CREATE TEMPORARY TABLE kept AS SELECT 'ann' AS who",
            "INSERT INTO t (a) SELECT who FROM kept",
            "SELECT who FROM kept",
        ],
    )
    assert done["results"][2]["rows"] == [["ann"]]
    assert (await refused(bus, "query", sql="SELECT * FROM kept")).details["inner_code"] == "1146"
    assert await count(bus) == 1


async def test_a_procedure_of_several_statements_may_be_made_and_called(bus):
    made = "CREATE PROCEDURE p(IN x INT) BEGIN INSERT INTO t (b) VALUES (x); INSERT INTO t (b) VALUES (x + 1); END"
    await execute(bus, made)
    await execute(bus, "CALL p(?)", 5)
    assert await rows(bus, "SELECT b FROM t ORDER BY id") == [{"b": 5}, {"b": 6}]


async def test_a_call_that_may_only_read_calls_no_procedure(bus):
    """It could commit, and then write what nobody can undo."""
    await execute(bus, "CREATE PROCEDURE p() BEGIN COMMIT; INSERT INTO t (b) VALUES (1); END")
    error = await refused(bus, "query", sql="CALL p()", read_only=True)
    assert error.code == "INVALID_PARAM"
    assert await count(bus) == 0


async def test_returning_answers_rows_where_the_server_has_it_and_is_unsupported_elsewhere(bus, is_mariadb):
    for sql, has in (
        ("INSERT INTO t (a, b) VALUES ('x', 1), ('y', 2) RETURNING a", is_mariadb),
        ("UPDATE t SET b = 3 RETURNING a", False),
        ("DELETE FROM t WHERE b = 1 RETURNING a", is_mariadb),
    ):
        if has:
            found = await execute(bus, sql, returning=["a"])
            assert found["affected_rows"] == len(found["returned_rows"]) > 0
        else:
            error = await refused(bus, "execute", sql=sql, returning=["a"])
            assert error.details["inner_code"] == "UNSUPPORTED"
    assert await count(bus) == (1 if is_mariadb else 0)


@pytest.mark.parametrize(
    "sql, params, number",
    [
        ("INSERT INTO t (a) VALUES (?)", ["x" * 201], "1406"),
        ("INSERT INTO t (b) VALUES (?)", [2**31], "1264"),
        ("INSERT INTO t (b) VALUES (?)", ["one"], "1366"),
    ],
)
async def test_a_value_that_does_not_fit_is_an_error_and_never_cut(bus, sql, params, number):
    error = await refused(bus, "execute", sql=sql, params=params)
    assert (error.code, error.details["inner_code"]) == ("DRIVER_ERROR", number)
    assert await count(bus) == 0


async def test_bytes_and_json_go_both_ways(bus):
    await execute(bus, "CREATE TABLE v (a BLOB, b JSON)")
    blob = {"$blob": "AAH/Jw=="}
    await execute(bus, "INSERT INTO v VALUES (?, ?)", blob, {"a": ["\\", "'", None]})
    assert await value(bus, "SELECT a FROM v", blobs="object") == blob
    assert await value(bus, "SELECT a FROM v") == "AAH/Jw=="
    assert await value(bus, "SELECT JSON_UNQUOTE(JSON_EXTRACT(b, '$.a[0]')) FROM v") == "\\"


async def test_a_value_that_cannot_be_sent_is_refused_with_its_index(bus):
    error = await refused(bus, "query", sql="SELECT ?, ?", params=[1, 10**65])
    assert (error.code, error.details["index"]) == ("INVALID_PARAM", 1)
    assert "uses 2, and there are 1" in (await refused(bus, "query", sql="SELECT ?, ?", params=[1])).message
