"""What a text tells of its statement for MySQL and MariaDB."""

import pytest

from linkly import LinklyError
from linkly_workers.database.mysql.statement import statement_of
from linkly_workers.database.mysql.text import findings_of
from support.mysql_session import driver_session


def refused(sql):
    with pytest.raises(LinklyError) as caught:
        statement_of(sql)
    return caught.value


@pytest.mark.parametrize(
    "sql, target",
    [
        ("INSERT INTO t VALUES (1)", ("insert", "t")),
        ("insert ignore shop.T values (1)", ("insert", "T")),
        ("INSERT LOW_PRIORITY INTO `My ``T`` #1` VALUES (1)", ("insert", "My `T` #1")),
        ("INSERT INTO a . `B`(c) VALUES (1)", ("insert", "B")),
        ("INSERT INTO t (a, b) SELECT c, d FROM u JOIN v USING (e)", ("insert", "t")),
        ("INSERT INTO t SET a = 1, b = 2", ("insert", "t")),
        ("INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = 2", ("insert", "t")),
        ("REPLACE INTO t VALUES (1)", ("insert", "t")),
        ("UPDATE IGNORE t SET a = (SELECT b FROM c), d = 1", ("update", "t")),
        ("UPDATE/**/t AS x # , \n SET a = 1", ("update", "t")),
        ("UPDATE t PARTITION (p0, p1) SET a = 1", ("update", "t")),
        ("UPDATE t, u SET t.a = u.a", ("update", None)),
        ("UPDATE t LEFT JOIN u ON t.a = u.a SET u.b = 1", ("update", None)),
        ("DELETE FROM a . t WHERE b IN (1, 2) ORDER BY c, d LIMIT 1", ("delete", "t")),
        ("DELETE QUICK FROM t", ("delete", "t")),
        ("DELETE x FROM t AS x JOIN u", ("delete", None)),
        ("DELETE FROM x, u USING t AS x JOIN u", ("delete", None)),
        ("WITH a AS (SELECT 1) DELETE FROM t", ("delete", "t")),
        ("-- DELETE FROM x\nINSERT INTO t VALUES ('DELETE FROM y', \"DELETE\")", ("insert", "t")),
        ("SELECT INSERT('a', 1, 1, 'b'), REPLACE(a, b, c) FROM t", None),
        ("CREATE TABLE t (a INT)", None),
        ("DELETE", ("delete", None)),
        ("CALL p()", ("other", None)),
    ],
)
def test_operation_and_table_of_a_change(sql, target):
    assert findings_of(sql).target == target


@pytest.mark.parametrize(
    "sql, reads",
    [
        ("SELECT 1", True),
        ("(SELECT 1) UNION (SELECT 2)", True),
        ("VALUES (1)", True),
        ("TABLE t", True),
        ("SHOW TABLES", True),
        ("DESC t", True),
        ("EXPLAIN SELECT 1", True),
        ("WITH a AS (SELECT 1) SELECT * FROM a", True),
        ("SELECT 'FOR UPDATE', \"INTO\", `INTO`", True),
        ("SELECT REPLACE(a, b, c), INSERT(a, 1, 1, 'x') FROM t", True),
        ("SELECT 1 -- \n # INTO @a", True),
        ("SELECT 1 FOR UPDATE", False),
        ("SELECT 1 FOR SHARE", False),
        ("SELECT 1 LOCK IN SHARE MODE", False),
        ("SELECT 1 INTO @a", False),
        ("WITH a AS (SELECT 1) DELETE FROM t", False),
        ("EXPLAIN ANALYZE SELECT 1", False),
        ("EXPLAIN UPDATE t SET a = 1", False),
        ("ANALYZE FORMAT=JSON DELETE FROM t", False),
        ("CALL p()", False),
        ("DO SLEEP(1)", False),
    ],
)
def test_what_only_reads(sql, reads):
    assert findings_of(sql).reads is reads


@pytest.mark.parametrize(
    "sql, commits",
    [
        ("CREATE TABLE t (a INT)", "CREATE TABLE"),
        ("/* a */ create or replace view v AS SELECT 1", "CREATE OR"),
        ("ALTER TABLE t ADD b INT", "ALTER TABLE"),
        ("DROP TABLE t", "DROP TABLE"),
        ("TRUNCATE t", "TRUNCATE"),
        ("RENAME TABLE a TO b", "RENAME TABLE"),
        ("GRANT SELECT ON t TO u", "GRANT SELECT"),
        ("ANALYZE TABLE t", "ANALYZE TABLE"),
        ("OPTIMIZE TABLE t", "OPTIMIZE TABLE"),
        ("CREATE TEMPORARY TABLE t (a INT)", None),
        ("CREATE OR REPLACE TEMPORARY TABLE t (a INT)", None),
        ("DROP TEMPORARY TABLE t", None),
        ("DROP TEMPORARY TABLES t, u", None),
        ("CREATE TABLE t (temporary INT)", "CREATE TABLE"),
        ("DROP TABLE temporary", "DROP TABLE"),
        ("CREATE TEMPORARY SEQUENCE s", "CREATE TEMPORARY"),
        ("CREATE TEMPORARY", "CREATE TEMPORARY"),
        ("ANALYZE SELECT 1", None),
        ("INSERT INTO t SELECT 'DROP TABLE'", None),
        ("CALL p()", None),
    ],
)
def test_what_commits_by_itself(sql, commits):
    assert findings_of(sql).commits == commits


IN_ORDER = (
    *("CREATE TABLE u AS SELECT 1", "CREATE OR REPLACE VIEW v AS SELECT 1", "ALTER TABLE t COMMENT 'a'", "DROP VIEW v"),
    *("TRUNCATE t", "RENAME TABLE u TO w", "DROP TABLE w", "CREATE INDEX i ON t (a)", "DROP INDEX i ON t"),
    *("CREATE PROCEDURE p() SELECT 1 INTO @a", "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET @a = 1"),
    *("DROP TRIGGER g", "ANALYZE TABLES t", "OPTIMIZE LOCAL TABLE t", "CHECK TABLE t", "REPAIR TABLE t", "CALL p()"),
    *("CREATE TEMPORARY TABLE u (a INT)", "INSERT INTO u VALUES (1)", "DROP TEMPORARY TABLE u", "DROP PROCEDURE p"),
    *("SELECT 1", "INSERT INTO t VALUES (1)", "REPLACE INTO t SELECT 2", "UPDATE t SET a = 2", "DELETE FROM t"),
    *("SHOW TABLES", "DESC t", "EXPLAIN SELECT 1", "DO 1", "CHECKSUM TABLE t", "SELECT 1 FOR UPDATE", "HELP 'a'"),
    *("LOAD INDEX INTO CACHE t", "CREATE TABLE w (temporary INT)", "DROP TABLE w"),
)


def test_the_server_commits_where_the_text_says_so(mysql_server):
    with driver_session(mysql_server) as session:
        session.text("CREATE TABLE t (a INT)")
        for sql in IN_ORDER:
            session.text("START TRANSACTION")
            session.text("INSERT INTO t VALUES (0)")
            session.text(sql)
            assert (sql, session.is_in_transaction) == (sql, findings_of(sql).commits is None)
            session.text("ROLLBACK")


@pytest.mark.parametrize("sql", ["", " ; ", "-- nothing\n;", "/* ; */", "# a"])
def test_what_is_empty(sql):
    assert findings_of(sql).empty
    assert refused(sql).code == "DRIVER_ERROR"


@pytest.mark.parametrize("sql", ["(", "'a'", "SELECT", "1", "+", "SELECT 1;", "--", "SELECT '; DROP TABLE t' /* ; */;"])
def test_what_the_server_has_to_judge(sql):
    found = findings_of(sql)
    assert not found.empty or sql == "--"
    assert found.refusal is None


@pytest.mark.parametrize(
    "sql, reason",
    [
        ("/* */ ; COMMIT", "transaction control"),
        ("BEGIN NOT ATOMIC DELETE FROM t; END", "transaction control"),
        ("START TRANSACTION", "transaction control"),
        ("RELEASE SAVEPOINT a", "transaction control"),
        ("XA START 'a'", "transaction control"),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "transaction control"),
        ("set session transaction read only", "transaction control"),
        ("SET @a = 1", "changes a shared connection"),
        ("SET STATEMENT max_statement_time = 1 FOR SELECT 1", "changes a shared connection"),
        ("USE other", "changes a shared connection"),
        ("LOCK TABLES t WRITE", "changes a shared connection"),
        ("UNLOCK TABLES", "changes a shared connection"),
        ("HANDLER t OPEN", "changes a shared connection"),
        ("PREPARE a FROM 'SELECT 1'", "changes a shared connection"),
        ("DROP PREPARE a", "changes a shared connection"),
        ("FLUSH TABLES WITH READ LOCK", "changes a shared connection"),
        ("FLUSH TABLES t FOR EXPORT", "changes a shared connection"),
        ("BACKUP STAGE START", "changes a shared connection"),
        ("LOAD DATA LOCAL INFILE 'a' INTO TABLE t", "reaches outside the database"),
        ("LOAD/**/XML INFILE 'a' INTO TABLE t", "reaches outside the database"),
        ("SELECT 1 INTO OUTFILE 'a'", "reaches outside the database"),
        ("SELECT 1 INTO -- \n DUMPFILE 'a'", "reaches outside the database"),
        ("IF 1 THEN COMMIT; END IF", "several statements"),
        ("a: LOOP COMMIT; END LOOP", "several statements"),
        ("SELECT 1 /*! INTO OUTFILE 'a' */", "unclear code"),
        ("/*M!100000 SET @a = 1 */", "unclear code"),
        ("/*!99999 SELECT */ DELETE FROM t", "unclear code"),
    ],
)
def test_what_callers_may_not_send(sql, reason):
    error = refused(sql)
    assert (error.code, error.details["reason"]) == ("INVALID_PARAM", reason)


@pytest.mark.parametrize("sql", ["SELECT :a", "SELECT:a, b FROM t", "CALL :a"])
def test_a_parameter_with_a_name_is_refused_with_what_to_write(sql):
    error = refused(sql)
    assert error.message == "`:a` is no parameter here: write `?` in order, or `$1`, `$2`, ... by number"
    assert (error.code, error.details["reason"]) == ("INVALID_PARAM", "unclear placeholders")


@pytest.mark.parametrize(
    "sql",
    [
        *(
            "SELECT 'COMMIT'",
            "SELECT \"'\" -- '\n",
            "SELECT '\\'' -- ; COMMIT",
            "FLUSH PRIVILEGES",
            "LOAD INDEX INTO CACHE t",
        ),
        *(
            "START SLAVE",
            "SELECT GET_LOCK('a', 1)",
            "SELECT @a := 1",
            "CREATE TRIGGER a BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1",
        ),
        "CREATE PROCEDURE p() BEGIN DECLARE a INT; SET a = 1; IF a THEN COMMIT; END IF; END",
        "SELECT /*+ MAX_EXECUTION_TIME(1) */ 1",
    ],
)
def test_what_leaves_nothing_behind_is_allowed(sql):
    assert findings_of(sql).refusal is None
    statement_of(sql)


@pytest.mark.parametrize(
    "sql", ["SELECT 1; SELECT 2", "SELECT 'a\\'; '; DELETE FROM t", "SELECT 1 # ;\n; DROP TABLE t"]
)
def test_several_statements_in_one_text_are_refused(sql):
    error = refused(sql)
    assert (error.code, error.details["inner_code"]) == ("DRIVER_ERROR", "MULTI_STATEMENT")


@pytest.mark.parametrize(
    "sql, on_mariadb",
    [
        ("INSERT INTO t VALUES (1) RETURNING a", True),
        ("INSERT INTO t VALUES ('a')\nRETURNING *", True),
        ("INSERT INTO t SELECT 1 RETURNING a", True),
        ("REPLACE INTO t VALUES (?) RETURNING a", True),
        ("DELETE FROM t WHERE a = ? RETURNING a", True),
        ("DELETE FROM t WHERE a = 'x' returning a", True),
        ("UPDATE t SET a = 1 RETURNING a", False),
        ("WITH b AS (SELECT 1) UPDATE t SET a = 1 WHERE c RETURNING a", False),
    ],
)
def test_returning_is_refused_where_the_server_has_none(sql, on_mariadb):
    statement = statement_of(sql)
    for mariadb in (False, True):
        if mariadb and on_mariadb:
            statement.check_for(mariadb=True)
            continue
        with pytest.raises(LinklyError) as caught:
            statement.check_for(mariadb=mariadb)
        assert (caught.value.code, caught.value.details["inner_code"]) == ("DRIVER_ERROR", "UNSUPPORTED")


@pytest.mark.parametrize(
    "sql",
    [
        *("UPDATE t SET a = 1, returning = 2", "UPDATE t SET returning = 2", "DELETE FROM t WHERE returning > 1"),
        *("INSERT INTO t (returning) VALUES (1)", "SELECT returning FROM t", "DELETE FROM t WHERE a = returning"),
        *(
            "INSERT INTO t VALUES ('RETURNING a')",
            "DELETE FROM t WHERE `RETURNING` = 1",
            "UPDATE t SET a = t.returning",
        ),
    ],
)
def test_a_name_or_a_text_is_no_returning_clause(sql):
    statement_of(sql).check_for(mariadb=False)
