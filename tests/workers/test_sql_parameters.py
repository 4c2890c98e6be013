"""Which value each placeholder of a statement means; SQLite and a parser that is not ours are asked as well."""

import asyncio
import importlib
import sqlite3

import pytest
import sqlglot
from hypothesis import example, given
from hypothesis import strategies as st
from sqlglot.tokens import TokenType

from linkly_workers._sql.parameters import UnclearPlaceholders, WrongNumberOfValues, parameters_of, with_nulls
from linkly_workers._sql.tokens import MYSQL, POSTGRES, SQLITE
from linkly_workers.database.mysql.parameters import bound
from linkly_workers.database.mysql.statement import statement_of
from support.mysql_session import driver_session

EVERY = (POSTGRES, SQLITE, MYSQL)


def numbers(sql, dialect):
    return [each.number for each in parameters_of(sql, dialect).placeholders]


@pytest.mark.parametrize("dialect", EVERY, ids=lambda each: each.driver)
@pytest.mark.parametrize(
    "sql, expected",
    [
        ("SELECT ?, ?", [1, 2]),
        ("SELECT $2, $1, $2", [2, 1, 2]),
        ("SELECT ?2, ?1", [2, 1]),
        ("SELECT $1, ?2", [1, 2]),
        ("SELECT $01, $2", [1, 2]),
        ("SELECT '?', 'it''s ?', ?", [1]),
        ('SELECT "?", ?', [1]),
        ("SELECT 1 -- ?\n, ?", [1]),
        ("SELECT /* ? -- ' */ ?", [1]),
        ("SELECT x$1, a_$2 FROM t$3", []),
        ("SELECT größe$1, ?", [1]),
        ("SELECT 'never closed, ?", []),
        ("SELECT 1 /* never closed, ?", []),
        ("SELECT a FROM t WHERE b=?AND c IN(?,?)LIMIT?", [1, 2, 3, 4]),
    ],
)
def test_placeholders_are_found_outside_strings_names_and_comments(dialect, sql, expected):
    assert numbers(sql, dialect) == expected


@pytest.mark.parametrize(
    "dialect, sql, expected",
    [
        (POSTGRES, r"SELECT '\', ?", [1]),
        (POSTGRES, r"SELECT E'\'?', e'\\', ?", [1]),
        (POSTGRES, "SELECT E'a' -- '\n  '\\'?', ?", [1]),
        (POSTGRES, r"SELECT E'a', '\', ?", [1]),
        (POSTGRES, r"SELECT some'\', ?", [1]),
        (POSTGRES, "SELECT $$ ? $1 $$, $a$ ? $$ ? $a$, ?", [1]),
        (POSTGRES, "SELECT x$a$, ?, $a$ ? ", [1]),
        (POSTGRES, "SELECT $1$a$?$a$", [1]),
        (POSTGRES, "SELECT /* /* ? */ ? */ ?", [1]),
        (POSTGRES, "SELECT ?::int, a::text, b[1:2], c[?:?]", [1, 2, 3]),
        (POSTGRES, "SELECT a @> ?, b ?? ?, c ??| ?, d ??& ?, e @?? ?", [1, 2, 3, 4, 5]),
        (POSTGRES, "SELECT a@>?, b???, 1 -- x\r, ?", [1, 2, 3]),
        (POSTGRES, "SELECT a[?], [?]", [1, 2]),
        (POSTGRES, "SELECT a # ?", [1]),
        (POSTGRES, "SELECT 1$1", [1]),
        (SQLITE, "SELECT [?], [a'], ?", [1]),
        (SQLITE, "SELECT `?`, ?", [1]),
        (SQLITE, "SELECT /* /* ? */ ?", [1]),
        (SQLITE, r"SELECT '\', ?", [1]),
        (SQLITE, "SELECT :a, @a, $a, #a, :a", [1, 2, 3, 4, 1]),
        (SQLITE, "SELECT $a::b(c), $größe", [1, 2]),
        (SQLITE, "SELECT :2, @1", [2, 1]),
        (SQLITE, "SELECT a::int, ?", [1]),
        (SQLITE, "SELECT \ufeff$1", [1]),
        (SQLITE, "SELECT 1 -- x\r?\n, ?", [1]),
        (MYSQL, r"SELECT '\'?', " r'"\"?", ?', [1]),
        (MYSQL, "SELECT `?`, `a``?`, ?", [1]),
        (MYSQL, "SELECT 1 # ?\n, ?", [1]),
        (MYSQL, "SELECT 1--?, ? --\t?", [1, 2]),
        (MYSQL, "SELECT 1 --", []),
        (MYSQL, "SELECT /* /* ? */ ?", [1]),
        (MYSQL, "SELECT /*! STRAIGHT_JOIN ? */ 1", []),
        (MYSQL, "SELECT 1a$1, :a, @b, ?", [1]),
    ],
)
def test_each_database_reads_a_text_its_own_way(dialect, sql, expected):
    assert numbers(sql, dialect) == expected


@pytest.mark.parametrize(
    "dialect, sql, text",
    [
        (POSTGRES, "SELECT $2, $1", "SELECT $2, $1"),
        (POSTGRES, "SELECT a=$1::int", "SELECT a=$1::int"),
        (POSTGRES, "SELECT ?, '?', ?", "SELECT $1, '?', $2"),
        (POSTGRES, "SELECT a ??| ?, b??$1", None),
        (POSTGRES, "SELECT a ??| ?, b@??'$'", "SELECT a ?| $1, b@?'$'"),
        (POSTGRES, "SELECT 1 LIMIT?", "SELECT 1 LIMIT $1"),
        (POSTGRES, "SELECT ?and b=?", "SELECT $1 and b=$2"),
        (SQLITE, "SELECT $2, :1", "SELECT ?2, ?1"),
        (SQLITE, "SELECT :b, :a, :b", "SELECT ?1, ?2, ?1"),
        (MYSQL, "SELECT ?, '100%' WHERE a % ? = 0", "SELECT ?, '100%' WHERE a % ? = 0"),
        (MYSQL, "SELECT $2, $1", "SELECT ?, ?"),
        (MYSQL, "SELECT 1--$1", "SELECT 1--?"),
        (MYSQL, "SELECT ?1and ?2", "SELECT ?and ?"),
    ],
)
def test_a_statement_is_written_as_its_driver_takes_it(dialect, sql, text):
    if text is None:
        with pytest.raises(UnclearPlaceholders):
            parameters_of(sql, dialect)
    else:
        assert parameters_of(sql, dialect).text == text


@pytest.mark.parametrize(
    "dialect, sql, sentence",
    [
        (
            POSTGRES,
            "SELECT $1, ?",
            r"mixes `\$1` \(by number\) with `\?` \(by order\).* operator `\?` is written `\?\?`",
        ),
        (
            MYSQL,
            "SELECT ?, ?1",
            r"mixes `\?` \(by order\) with `\?1` \(by number\); write `\?` for each value in order",
        ),
        (SQLITE, "SELECT :a, ?1", r"mixes `:a` \(by name\) with `\?1` \(by number\)"),
        (POSTGRES, "SELECT $1, $3", r"uses `\$3`, but not `\$2`; number its parameters from 1"),
        (SQLITE, f"SELECT ?{'9' * 5000}", r"uses `\?9+`, but not `\?1`"),
        (MYSQL, "SELECT $0", r"`\$0`: parameters are numbered from 1"),
        (MYSQL, "SELECT ? /*!50000 , ? */", r"cannot have `/\*! \.\.\. \*/`"),
    ],
)
def test_a_text_that_nobody_can_be_sure_of_is_refused_with_what_to_write(dialect, sql, sentence):
    with pytest.raises(UnclearPlaceholders, match=sentence):
        parameters_of(sql, dialect)


def test_the_number_of_values_is_checked_and_an_operator_suspected_where_there_are_some():
    by_order = parameters_of("SELECT data ? 'key' AND id = ?", POSTGRES)
    with pytest.raises(WrongNumberOfValues, match=r"uses 2, and there are 1 supplied\. .* operators `\?`.* as `\?\?`"):
        by_order.check(1)
    for sql, dialect in (("SELECT $1, $1", POSTGRES), ("SELECT ?", MYSQL)):
        with pytest.raises(WrongNumberOfValues, match=r"uses 1, and there are 2 supplied\.$"):
            parameters_of(sql, dialect).check(2)


@pytest.mark.parametrize("dialect", [POSTGRES, MYSQL], ids=lambda each: each.driver)
def test_who_names_a_parameter_where_there_are_no_names_is_told_what_to_write(dialect):
    with pytest.raises(WrongNumberOfValues, match=r"`:id` is no parameter here: write `\?` in order, or `\$1`, `\$2`"):
        parameters_of("SELECT ':a', b FROM t /* :c */ WHERE id = :id", dialect).check(1)
    with pytest.raises(WrongNumberOfValues, match=r"there are 1 supplied\.$"):
        parameters_of("SELECT ':a', 1::int /* :c */", dialect).check(1)


def test_placeholders_stand_in_the_order_of_the_text_with_their_numbers():
    assert [each.number for each in parameters_of("SELECT $2, $1, $2", MYSQL).placeholders] == [2, 1, 2]


def test_every_placeholder_can_be_null():
    assert with_nulls("SELECT :a, '?' LIMIT:b", SQLITE) == "SELECT NULL, '?' LIMIT NULL"


@pytest.mark.parametrize("dialect", EVERY, ids=lambda each: each.driver)
@pytest.mark.parametrize(
    "piece", ["'", '"', "`", "[", "$a", "$a$", "/*", "*/", "--", "E'\\", "?", "[:", "E'' \n", ":a("]
)
def test_a_text_of_nothing_but_beginnings_takes_linear_time(dialect, piece):
    # Quadratic, a megabyte would take hours.
    assert parameters_of(piece * 100_000, dialect).text


SOUP = st.text(alphabet="?$1aE:@#[]'\"`-/*\\ \n;%é", max_size=8)
"""What may stand inside a string, a name or a comment."""


def escaped(text):
    return text.replace("\\", "\\\\")


def literals(dialect):
    """Return string literals with the value that each stands for."""
    plain = SOUP.map(lambda text: ("'" + (escaped(text) if dialect.backslash else text).replace("'", "''") + "'", text))
    with_backslash = SOUP.map(lambda text: ("E'" + escaped(text).replace("'", "\\'") + "'", text))
    tags = st.sampled_from(("$$", "$a$", "$é1$"))
    in_dollars = st.builds(lambda tag, text: (tag + text + tag, text), tags, SOUP.filter(lambda text: "$" not in text))
    return plain | with_backslash | in_dollars if dialect is POSTGRES else plain


def comments(dialect):
    line = st.builds(lambda text: f"-- {text.replace(chr(10), '')}\n", SOUP)
    block = st.builds(lambda text: f"/*.{text.replace('*', '').replace('/', '')}*/", SOUP)
    nested = st.builds(lambda one, two: f"/*{one}{two}*/", block, block) if dialect.nested_comments else block
    hashed = st.builds(lambda text: f"#{text.replace(chr(10), '')}\n", SOUP) if dialect.hash_comments else block
    return st.just(" ") | line | block | nested | hashed


@st.composite
def statements(draw, dialect):
    """Make a SELECT, with its values and the row that it has to answer."""
    how_many = draw(st.integers(1, 4))
    values = [f"value {number}" for number in range(1, how_many + 1)]
    used = draw(st.permutations(range(how_many)))
    used += draw(st.lists(st.integers(0, how_many - 1), max_size=2))
    mark = draw(st.sampled_from("?$")) if dialect is not POSTGRES else "$"
    ordered = draw(st.booleans())
    columns, row = [], []
    for place in range(how_many) if ordered else used:
        if draw(st.booleans()):
            text, value = draw(literals(dialect))
            columns.append(text)
            row.append(value)
        columns.append("?" if ordered else f"{mark}{place + 1}")
        row.append(values[place])
    noise = comments(dialect)
    return "SELECT" + ",".join(f" {draw(noise)}{column} {draw(noise)}" for column in columns), values, row


@given(statements(SQLITE))
def test_sqlite_answers_the_row_that_was_meant(statement):
    sql, values, row = statement
    text = parameters_of(sql, SQLITE).text
    named = {str(number): value for number, value in enumerate(values, 1)}
    connection = sqlite3.connect(":memory:")
    assert connection.execute(text, named).fetchall() == [tuple(row)]
    connection.close()


@pytest.fixture(scope="module")
def postgres(postgres_server):
    """Return what runs a text with values on PostgreSQL, and answers its row."""
    connect = importlib.import_module("asyncpg").connect
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(connect(postgres_server))
    yield lambda text, values: tuple(loop.run_until_complete(connection.fetchrow(text, *values)).values())
    loop.run_until_complete(connection.close())
    loop.close()


@given(statement=statements(POSTGRES))
def test_postgres_answers_the_row_that_was_meant(postgres, statement):
    sql, values, row = statement
    assert postgres(parameters_of(sql, POSTGRES).text, values) == tuple(row)


def test_postgres_has_its_operators(postgres):
    sql = """SELECT '{"a": 1}'::jsonb ?? ?, '["b"]'::jsonb ??| ARRAY[?], '["b"]'::jsonb ??& ARRAY[?, 'c']LIMIT?"""
    found = parameters_of(sql, POSTGRES)
    assert postgres(found.text, ["a", "b", "b", 1]) == (True, True, False)


@pytest.fixture(scope="module")
def mysql(mysql_server):
    with driver_session(mysql_server) as session:
        session.text("SET @a = 1")  # which says also how the session reads a text
        yield session


@given(statement=statements(MYSQL))
def test_mysql_answers_the_row_that_was_meant(mysql, statement):
    sql, values, row = statement
    assert mysql.text(with_values(sql, values)) == (tuple(row),)


@given(statement=statements(MYSQL))
def test_mysql_counts_as_many_placeholders(mysql, statement):
    sql, _, _ = statement
    found = parameters_of(sql, MYSQL)
    assert mysql.placeholders(found.text) == len(found.placeholders)


PIECES = (
    "'",
    '"',
    "`",
    "\\",
    "#",
    "--",
    "-- ",
    "/*",
    "*/",
    "/*+",
    "?",
    "\n",
    " ",
    "''",
    "\\'",
    "a",
    "1",
    ",",
    "@x",
    "é",
    "🐍",
)


@example(["?", "--", "?", "-- ", "?"])
@example(["'", "\\'", "?", "'", "?"])
@example(["`", "'", "`", "?", "#", "'", "\n", "?"])
@given(st.lists(st.sampled_from(PIECES), max_size=14))
def test_whatever_mysql_can_read_it_reads_as_we_do(mysql, pieces):
    sql = f"SELECT 1, {''.join(pieces)}"
    try:
        found = parameters_of(sql, MYSQL)
        counted = mysql.placeholders(found.text)
    except (UnclearPlaceholders, mysql.refusal):
        return
    assert counted == len(found.placeholders)


def test_mysql_reads_a_number_before_and_a_name_behind_a_value(mysql):
    assert mysql.text(with_values("SELECT 1-?, 1--?, ?AS a, ?b LIMIT?", [-2, -3, "x", "y", 1])) == ((3, -2, "x", "y"),)


def with_values(sql, values):
    return bound(statement_of(sql), values)


NAMES_OF_A_PARSER = {POSTGRES: "postgres", SQLITE: "sqlite", MYSQL: "mysql"}


@pytest.mark.parametrize("dialect", EVERY, ids=lambda each: each.driver)
@given(data=st.data())
def test_a_parser_of_its_own_finds_the_same_placeholders(dialect, data):
    sql, _, _ = data.draw(statements(dialect))
    found = [(each.start, sql[each.start : each.end]) for each in parameters_of(sql, dialect).placeholders]
    others = sqlglot.tokenize(sql, read=NAMES_OF_A_PARSER[dialect])
    marks = (TokenType.PLACEHOLDER, TokenType.PARAMETER)
    theirs = [
        each.start
        for each in others
        if each.token_type in marks or (each.text.startswith("$") and each.token_type is TokenType.VAR)
    ]
    assert [start for start, _ in found] == theirs
