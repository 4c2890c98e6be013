"""Statements as callers write them: semicolons at the end, WITH before INSERT, what changes no row."""

import time

import pytest

from linkly.testing import running_engine
from linkly_workers._sqlite.statement import Statement
from linkly_workers._sqlite.text import is_vacuum, without_end
from support.database_calls import call


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1;", "SELECT 1;;", "SELECT 1 ; ;\n", "SELECT 1;\ufeff;", "SELECT 1; /* a; */ ; -- b;\n;", ";;SELECT 1;;"],
)
async def test_semicolons_behind_a_statement_are_no_second_one(database, sql):
    sql = sql.replace("1", "';;' AS a", 1)
    async with running_engine(database) as bus:
        assert (await call(bus, "query", sql=sql))["rows"] == [{"a": ";;"}]
        handle = (await call(bus, "prepareStatement", sql=sql))["handle"]["id"]
        assert (await call(bus, "runStatement", handle_id=handle))["rows"] == [{"a": ";;"}]
        done = await call(bus, "transaction", statements=[sql, {"sql": sql}])
        assert [result["rows"] for result in done["results"]] == [[[";;"]], [[";;"]]]
        begun = (await call(bus, "beginTransaction"))["transaction"]["id"]
        assert (await call(bus, "transactionQuery", transaction_id=begun, sql=sql))["rows"] == [{"a": ";;"}]
        await call(bus, "rollbackTransaction", transaction_id=begun)
        assert (await call(bus, "explain", sql=sql, analyze=True))["row_count"] == 1


@pytest.mark.parametrize(
    "sql, left",
    [
        ("SELECT ';;", "SELECT '"),
        ("SELECT [;;]", "SELECT [;;]"),
        ("SELECT 1 -- a;", "SELECT 1 -- a"),
        ("SELECT ';' -- a;\n;", "SELECT ';'"),
        ("SELECT '/*;' -- */;;", "SELECT '/*;'"),
        ("CREATE TRIGGER g BEGIN SELECT 1; END;;", "CREATE TRIGGER g BEGIN SELECT 1; END"),
        ("SELECT 1;; SELECT 2;", "SELECT 1;; SELECT 2"),
    ],
)
def test_only_what_stands_behind_the_statement_is_left_out(sql, left):
    assert without_end(sql) == left


@pytest.mark.parametrize("sql", ["VACUUM INTO 'a'", "VACUUM temp", "VACUUM; SELECT 1", "SELECT 'VACUUM'", "VACUUMx"])
def test_vacuum_and_more_is_not_vacuum(sql):
    assert not is_vacuum(sql)


@pytest.mark.parametrize("sql", ["VACUUM", "/* c */ vacuum main -- end", ';VACUUM"main";;', "VACUUM\ufeff"])
def test_blanks_comments_and_the_usual_name_do_not_hide_a_vacuum(sql):
    assert is_vacuum(sql)


@pytest.mark.parametrize("piece", ["[", "'", '"', "`", "/*", "--", "-", "a ", "main", "[a]", "'a' ", "; "])
@pytest.mark.parametrize("first", ["VACUUM ", "PRAGMA ", "BEGIN ", ""])
def test_a_long_text_is_judged_in_linear_time(first, piece):
    before = time.process_time()
    assert not Statement(first + piece * 100_000 + "\nx").vacuum
    assert time.process_time() - before < 1  # 0.02 s; quadratic, a text of one kind of bracket took 10 s


@pytest.mark.parametrize(
    "sql, inserted",
    [
        ("WITH v(a) AS (VALUES (7), (8)) INSERT INTO t (a) SELECT a FROM v", "{second}"),
        ("/* c */ with v(a) as (values (7), (8)) replace into t (a) select a from v", "{second}"),
        ("WITH v(a) AS (VALUES (7), (8)) INSERT INTO t (a) SELECT a FROM v WHERE a > 9", None),
        ("WITH v(a) AS (VALUES (7)) INSERT INTO keyed SELECT a FROM v", None),
        ("WITH v(a) AS (VALUES ('INSERT')) UPDATE t SET a = (SELECT a FROM v)", None),
        ("WITH v(a) AS (VALUES ('INSERT')) SELECT a FROM v", None),
        ("INSERT INTO t (a) VALUES (7), (8)", "{second}"),
    ],
)
async def test_an_insert_behind_with_answers_its_rowid(database, sql, inserted):
    async with running_engine(database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
        await call(bus, "execute", sql="CREATE TABLE keyed (a PRIMARY KEY) WITHOUT ROWID")
        await call(bus, "execute", sql="INSERT INTO t (a) VALUES (1)")
        for time in (0, 1):
            if time:
                await call(bus, "execute", sql="DELETE FROM keyed WHERE true")
            done = await call(bus, "execute", sql=sql)
            wanted = None if inserted is None else inserted.format(second=3 + 2 * time)
            assert done["last_insert_id"] == wanted


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE VIRTUAL TABLE words USING fts5 (a)",
        "CREATE VIRTUAL TABLE boxes USING rtree (id, a, b)",
        "CREATE TABLE copied AS SELECT a FROM t",
        "CREATE INDEX i ON t (a)",
        "ALTER TABLE t ADD COLUMN b DEFAULT 1",
        "ANALYZE",
        "REINDEX",
        "VACUUM",
        "DROP TABLE t",
        "WITH v(a) AS (VALUES (7)) SELECT a FROM v",
    ],
)
async def test_what_changes_no_row_says_so(database, sql):
    async with running_engine(database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        await call(bus, "execute", sql="INSERT INTO t VALUES (1), (2)")
        done = await call(bus, "execute", sql=sql)
        assert (done["affected_rows"], done["last_insert_id"]) == (0, None)
