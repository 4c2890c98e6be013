"""Where the statements of a text end, in each dialect."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkly_workers._sql.statements import Piece, statements_of
from linkly_workers._sql.tokens import MYSQL, POSTGRES, SQLITE

EVERY = (POSTGRES, SQLITE, MYSQL)

ONE_STATEMENT = [
    (SQLITE, "CREATE TRIGGER a AFTER INSERT ON t BEGIN UPDATE u SET n = 1; DELETE FROM v; END"),
    (
        SQLITE,
        "create temp trigger if not exists a before update of begin on t\nbegin select case when new.a then 1 end; end",
    ),
    (SQLITE, "CREATE TRIGGER a AFTER INSERT ON t BEGIN SELECT CASE 1 WHEN 1 THEN 'a' ELSE NEW.end END; SELECT 1; END"),
    (SQLITE, "CREATE TABLE \"a;b\" ([c;d] TEXT DEFAULT ';', `e;f` INT) -- ;"),
    (SQLITE, 'CREATE TABLE trigger (begin INT, "end" INT)'),
    (POSTGRES, "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $f$ BEGIN RETURN 1; END; $f$"),
    (POSTGRES, "CREATE FUNCTION f(begin int) RETURNS int LANGUAGE sql AS $$ SELECT 1; $$"),
    (
        POSTGRES,
        "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN a THEN 1 END FROM t; END",
    ),
    (POSTGRES, "CREATE RULE r AS ON INSERT TO t DO ALSO (INSERT INTO u VALUES (1); DELETE FROM v)"),
    (POSTGRES, "CREATE TRIGGER a AFTER INSERT ON t EXECUTE FUNCTION f()"),
    (POSTGRES, "DO $$ BEGIN PERFORM 1; END $$"),
    (POSTGRES, "COMMENT ON TABLE t IS E'it\\'s; so' /* ; /* ; */ ; */"),
    (MYSQL, "CREATE TRIGGER a BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1"),
    (
        MYSQL,
        "CREATE DEFINER = `root`@localhost PROCEDURE p() BEGIN IF a THEN SELECT 1; END IF; BEGIN END; SELECT 2; END",
    ),
    (
        MYSQL,
        "CREATE PROCEDURE p() top: BEGIN DECLARE CONTINUE HANDLER FOR NOT FOUND BEGIN SET @a = 1; END; "
        "inside: LOOP LEAVE inside; END LOOP inside; "
        "CASE 1 WHEN 1 THEN SELECT begin FROM t; ELSE BEGIN END; END CASE; END top",
    ),
    (MYSQL, "CREATE TABLE event (id INT, begin INT) # ;"),
    (MYSQL, "INSERT INTO t VALUES ('a\\';b', \"c;\", ';')"),
]


@pytest.mark.parametrize("dialect, sql", ONE_STATEMENT)
def test_a_semicolon_inside_is_no_end(dialect, sql):
    text = f"SELECT 1;\n{sql}\n;SELECT 2"
    assert statements_of(text, dialect) == [
        Piece("SELECT 1", 1),
        Piece(sql, 2),
        Piece("SELECT 2", text.count("\n") + 1),
    ]


@pytest.mark.parametrize("dialect", EVERY, ids=lambda each: each.driver)
def test_comments_and_semicolons_alone_are_no_statement(dialect):
    text = "-- a;\n;;\n/* b; */\n\n  -- about c\nSELECT 1; -- d\n+;\n-- e"
    assert statements_of(text, dialect) == [Piece("/* b; */\n\n  -- about c\nSELECT 1", 6), Piece("-- d\n+", 7)]
    assert statements_of(" \n;-- a", dialect) == []


@pytest.mark.parametrize("dialect", EVERY, ids=lambda each: each.driver)
def test_what_never_ends_goes_to_the_end_of_the_text(dialect):
    for unfinished in ("SELECT 'a; b; ", "SELECT (1; SELECT 2", "SELECT 1 /* ; "):
        assert statements_of(unfinished, dialect) == [Piece(unfinished.strip(), 1)]


@pytest.mark.parametrize("dialect", EVERY, ids=lambda each: each.driver)
@given(data=st.data())
def test_statements_that_are_put_together_come_apart_again(dialect, data):
    known = [sql for of, sql in ONE_STATEMENT if of is dialect] + ["SELECT 1", "COMMIT", "UPDATE t SET a = ';'"]
    chosen = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=6))
    end = data.draw(st.sampled_from(["\n;", "\n;\n", "\n;-- ;\n", "\n; ;\n/* ; */"]))
    found = [piece.text for piece in statements_of(end.join(chosen) + "\n", dialect)]
    assert [text.removeprefix("-- ;").removeprefix("/* ; */").strip() for text in found] == chosen


@given(
    st.lists(st.sampled_from([*(sql for of, sql in ONE_STATEMENT if of is SQLITE), "/* ; */", "-- ;", "SELECT ';'"]))
)
def test_sqlite_itself_sees_the_same_ends(statements):
    text = "".join(f"{each}\n;" for each in statements)
    ends, start = [], 0
    for place, character in enumerate(text):
        if character == ";" and sqlite3.complete_statement(text[start : place + 1]):
            ends.append(text[start:place].strip())
            start = place + 1
    # To SQLite a semicolon behind comments ends a statement that is empty.
    assert [piece.text for piece in statements_of(text, SQLITE)] == [
        each for each in ends if each not in ("/* ; */", "-- ;")
    ]
