"""What a text tells of its statement."""

import pytest

from linkly_workers.database.postgres.text import findings_of


@pytest.mark.parametrize(
    "sql, target",
    [
        ("INSERT INTO t VALUES (1)", ("insert", "t")),
        ("insert into Public.T values (1)", ("insert", "t")),
        ('INSERT INTO "My ""T""" VALUES (1)', ("insert", 'My "T"')),
        ('INSERT INTO a."B"(c) VALUES (1)', ("insert", "B")),
        ("UPDATE ONLY t SET a = 1", ("update", "t")),
        ("UPDATE/**/t SET a = (SELECT b FROM c)", ("update", "t")),
        ("DELETE FROM ONLY a . t", ("delete", "t")),
        ("MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE", ("other", "t")),
        ("WITH a AS (INSERT INTO b VALUES (1) RETURNING *) UPDATE t SET c = 1", ("update", "t")),
        ("WITH RECURSIVE a(n) AS (SELECT 1), b AS (DELETE FROM c) INSERT INTO t SELECT 1", ("insert", "t")),
        ("-- DELETE FROM x\nINSERT INTO t VALUES ('DELETE FROM y')", ("insert", "t")),
        ("SELECT 1", None),
        ("WITH a AS (DELETE FROM b RETURNING *) SELECT * FROM a", None),
        ("CREATE TABLE t (a int)", None),
        ("DELETE", ("delete", None)),
    ],
)
def test_operation_and_table_of_a_change(sql, target):
    assert findings_of(sql).target == target


@pytest.mark.parametrize(
    "sql, inside",
    [
        ("WITH a AS (DELETE FROM b RETURNING *) SELECT * FROM a", (("delete", "b"),)),
        ("WITH a AS NOT MATERIALIZED (SELECT 1), c AS (INSERT INTO d SELECT 1) TABLE a", (("insert", "d"),)),
        ("WITH a AS (UPDATE s.b SET c = 1), e AS (DELETE FROM f) SELECT 1", (("update", "b"), ("delete", "f"))),
        ("WITH a AS (SELECT * FROM b FOR UPDATE) SELECT * FROM a", ()),
        ("WITH a AS (DELETE FROM b RETURNING *) INSERT INTO c SELECT * FROM a", ()),
        ("SELECT 1 AS insert", ()),
        ("SELECT 1", ()),
    ],
)
def test_what_a_with_changes_before_a_select(sql, inside):
    assert findings_of(sql).inside == inside


@pytest.mark.parametrize(
    "sql, reads",
    [
        ("SELECT 1", True),
        ("(SELECT 1) UNION (SELECT 2)", True),
        ("VALUES (1)", True),
        ("TABLE t", True),
        ("SHOW TimeZone", True),
        ("WITH a AS (SELECT 1) SELECT * FROM a", True),
        ("SELECT 'FOR UPDATE' AS \"INTO\"", True),
        ("SELECT $$DELETE$$", True),
        ("SELECT 1 FOR UPDATE", False),
        ("SELECT 1 INTO t", False),
        ("WITH a AS (DELETE FROM b RETURNING *) SELECT * FROM a", False),
        ("EXPLAIN ANALYZE DELETE FROM t", False),
        ("CALL p()", False),
        ("CREATE TABLE t (a int)", False),
    ],
)
def test_what_only_reads(sql, reads):
    assert findings_of(sql).reads is reads


@pytest.mark.parametrize(
    "sql, only_changes",
    [
        ("INSERT INTO t VALUES ('RETURNING')", True),
        ("WITH a AS (SELECT 1) UPDATE t SET b = 2", True),
        ("DELETE FROM t RETURNING *", False),
        ("WITH a AS (DELETE FROM b RETURNING *) INSERT INTO t SELECT * FROM a", False),
        ("SELECT 1", False),
        ("WITH a AS (DELETE FROM b) SELECT 1", False),
        ("CREATE TABLE t (a int)", False),
        ("VACUUM t", False),
        ("LOCK TABLE t", False),
    ],
)
def test_what_changes_rows_and_returns_none(sql, only_changes):
    assert findings_of(sql).only_changes is only_changes


@pytest.mark.parametrize("sql", ["", " ; ", "-- nothing\n;", "/* /* */ ; */"])
def test_what_is_empty(sql):
    assert findings_of(sql).empty


@pytest.mark.parametrize("sql", ["(", "'a'", "SELECT", "1", "+"])
def test_what_the_server_has_to_judge(sql):
    found = findings_of(sql)
    assert not found.empty
    assert found.refusal is None


@pytest.mark.parametrize(
    "sql, reason",
    [
        ("/* /* */ */ ; COMMIT", "transaction control"),
        ("end", "transaction control"),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "transaction control"),
        ("PREPARE TRANSACTION 'a'", "transaction control"),
        ("PREPARE a AS SELECT 1", "changes a shared connection"),
        ("SET a = 1", "changes a shared connection"),
        ("SET ROLE a", "changes a shared connection"),
        ("COPY t FROM PROGRAM 'a'", "reaches outside the database"),
    ],
)
def test_what_callers_may_not_send(sql, reason):
    refusal = findings_of(sql).refusal
    assert refusal is not None
    assert refusal[1] == reason


@pytest.mark.parametrize("sql", ["SET LOCAL a = 1", "SET CONSTRAINTS ALL DEFERRED", "SELECT 'COMMIT'", "LOCK TABLE t"])
def test_what_ends_with_its_transaction_is_allowed(sql):
    assert findings_of(sql).refusal is None
