"""Values of MySQL and MariaDB: both ways without loss, as literals that no value leaves and no `sql_mode` changes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkly import LinklyError
from linkly_workers.database.mysql.codecs import big_integers, type_name
from linkly_workers.database.mysql.parameters import bound
from linkly_workers.database.mysql.statement import statement_of
from support.mysql_session import MODE, driver_session

MODES = (MODE, f"{MODE},NO_BACKSLASH_ESCAPES")
"""As a session has it, and where a backslash is a letter like any other."""


@pytest.fixture(scope="module")
def session(mysql_server):
    with driver_session(mysql_server) as session:
        yield session


VALUES = [
    ("BOOL", 1),
    ("TINYINT", -128),
    ("TINYINT UNSIGNED", 255),
    ("SMALLINT", -32768),
    ("MEDIUMINT UNSIGNED", 2**24 - 1),
    ("INT", -(2**31)),
    ("BIGINT", -(2**63)),
    ("BIGINT", 2**63 - 1),
    ("BIGINT UNSIGNED", 2**64 - 1),
    ("DOUBLE", 0.1),
    ("DOUBLE", 5e-324),
    ("DOUBLE", 1e308),
    ("DOUBLE", -1.7976931348623157e308),
    ("FLOAT", 0.1),
    ("FLOAT", 123456.0),
    ("DECIMAL(65,30)", "-99999999999999999999999999999999999.123456789012345678901234567890"),
    ("DECIMAL(5,2)", "1.10"),
    ("DECIMAL(65,0)", "9" * 65),
    ("DATE", "0000-00-00"),
    ("DATE", "9999-12-31"),
    ("DATETIME", "2026-11-26T18:32:53"),
    ("DATETIME(6)", "0000-00-00T00:00:00.000000"),
    ("DATETIME(6)", "9999-12-31T23:59:59.999999"),
    ("TIMESTAMP(6) NULL", "2026-11-26T18:32:53.123456"),
    ("TIME", "-838:59:59"),
    ("TIME(6)", "23:59:59.999999"),
    ("TIME", "24:00:00"),
    ("YEAR", 0),
    ("YEAR", 2155),
    ("BIT(1)", 1),
    ("BIT(5)", 21),
    ("BIT(64)", 2**64 - 1),
    ("CHAR(3)", "abc"),
    ("VARCHAR(40)", "grüße 🐍 \u202e \\ ' \" ` % ? $1 :a"),
    ("VARCHAR(40)", "\0 \n \r \t \x1a"),
    ("TEXT", ""),
    ("LONGTEXT", "\\" * 70000),
    ("BINARY(3)", b"\0\xff'"),
    ("VARBINARY(9)", b"\\\\''\0\x1a"),
    ("BLOB", b""),
    ("LONGBLOB", bytes(range(256)) * 300),
    ("ENUM('a', 'b''c')", "b'c"),
    ("SET('x', 'y')", "x,y"),
    ("GEOMETRY", b"\0\0\0\0\1\1\0\0\0" + b"\0" * 6 + b"\xf0\x3f" + b"\0" * 7 + b"\x40"),
    ("INT", None),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind, given", VALUES, ids=lambda each: str(each)[:40])
def test_a_value_comes_back_as_it_was_sent(session, kind, given, mode):
    session.text("DROP TABLE IF EXISTS v")
    session.text(f"CREATE TABLE v (a {kind})")
    session.rows("INSERT INTO v VALUES (?)", given, mode=mode)
    assert session.value("SELECT a FROM v", mode=mode) == given
    if kind != "FLOAT" and given is not None:
        assert session.value("SELECT count(*) FROM v WHERE a = ?", given, mode=mode) == 1


@pytest.mark.parametrize("mode", MODES)
@given(
    value=st.text()
    | st.text(alphabet="\\'\"`%?$1;#-/*! \n\0é🐍")
    | st.binary()
    | st.integers(-(10**65) + 1, 10**65 - 1)
)
def test_any_value_comes_back_and_ends_where_it_began(session, mode, value):
    """A value that left its literal would change what stands behind it, or be a statement that the server refuses."""
    ((before, found, behind),) = session.rows("SELECT 'a', ?, 'b' FROM DUAL # '", value, mode=mode)
    expected = str(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value
    assert (before, str(found) if isinstance(expected, str) and isinstance(found, int) else found, behind) == (
        "a",
        expected,
        "b",
    )


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_any_double_comes_back(session, value):
    session.text("CREATE TEMPORARY TABLE IF NOT EXISTS doubles (a DOUBLE)")
    session.text("DELETE FROM doubles")
    session.rows("INSERT INTO doubles VALUES (?)", value)
    assert session.value("SELECT a FROM doubles") == value
    assert session.value("SELECT COUNT(*) FROM doubles WHERE a = ?", value) == 1


def test_a_float_has_six_digits_as_text_and_as_a_double_all_of_them(session):
    session.text("DROP TABLE IF EXISTS floats")
    session.text("CREATE TABLE floats (a FLOAT)")
    session.rows("INSERT INTO floats VALUES (?)", 16777213)
    assert session.rows("SELECT a, a + 0e0 FROM floats") == ((16777200.0, 16777213.0),)


def test_a_moment_with_a_zone_is_not_stored(session):
    session.text("DROP TABLE IF EXISTS moments")
    session.text("CREATE TABLE moments (a TIMESTAMP NULL)")
    with pytest.raises(session.refusal, match="Incorrect datetime value"):
        session.rows("INSERT INTO moments VALUES (?)", "2026-01-01T00:00:00Z")
    assert session.rows("SELECT a FROM moments") == ()


@given(values=st.lists(st.text(max_size=8) | st.none() | st.integers(-9, 9), min_size=3, max_size=3))
def test_values_go_where_their_numbers_stand(session, values):
    assert session.rows("SELECT $2,$1, '$1', $3,$2", *values) == ((values[1], values[0], "$1", values[2], values[1]),)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "text",
    ["'; DROP TABLE v; -- ", "\\'; DROP TABLE v; -- ", "\\", "\\\\'", "' OR 1=1 #", "\x1a'", "\0'", "¿'", "\u0127'"],
)
def test_a_text_that_is_written_to_leave_its_literal_stays_in_it(session, mode, text):
    assert session.rows("SELECT ?, 1 WHERE ? = ?", text, text, text, mode=mode) == ((text, 1),)


def test_a_number_stays_a_number_and_a_text_a_text(session):
    sql = "SELECT ? + 1, ? = 1, JSON_ARRAY(?, ?), ? || 0, 1-?, -?, ? IS NULL LIMIT ?"
    assert session.rows(sql, 1, True, False, "1", 0, -5, -5, None, 1) == (
        (2, 1, session.value("SELECT JSON_ARRAY(false, '1')"), 0, 6, 5, 1),
    )
    assert session.value("SELECT ? + 0", 0.1) == 0.1
    assert type_name(*session.fields(bound(statement_of("SELECT ?"), [0.1]))) == "double"


def test_a_literal_has_the_collation_of_any_text(session):
    session.text("DROP TABLE IF EXISTS words")
    session.text("CREATE TABLE words (a VARCHAR(9) COLLATE utf8mb4_bin, b VARCHAR(9))")
    session.rows("INSERT INTO words VALUES (?, ?)", "a\\b", "a\\b")
    assert session.rows("SELECT a, b FROM words WHERE a = ? AND b = ?", "a\\b", "A\\B") == (("a\\b", "a\\b"),)
    assert session.rows("SELECT a FROM words WHERE a = ?", "A\\b") == ()


@pytest.mark.parametrize(
    "values, words",
    [
        ([1, math.nan], "nan is no number that MySQL has"),
        ([1, -math.inf], "-inf is no number"),
        ([1, 10**65], "at most 65 digits"),
        ([1, -(10**400)], "at most 65 digits"),
        ([1, "a\ud800"], "half of a surrogate pair"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_its_index(values, words):
    with pytest.raises(LinklyError) as caught:
        bound(statement_of("SELECT ?, ?"), values)
    assert (caught.value.code, caught.value.details["index"]) == ("INVALID_PARAM", 1)
    assert words in caught.value.message


def test_a_wrong_number_of_values_is_told():
    with pytest.raises(LinklyError, match="uses 2, and there are 1"):
        bound(statement_of("SELECT ?, ?"), [1])
    with pytest.raises(LinklyError, match="uses 0, and there are 1"):
        bound(statement_of("SELECT 1"), [1])


TYPES = [
    ("a TINYINT", "tinyint"),
    ("b SMALLINT UNSIGNED", "smallint unsigned"),
    ("c MEDIUMINT", "mediumint"),
    ("d INT", "int"),
    ("e BIGINT", "bigint"),
    ("f BIGINT UNSIGNED", "bigint unsigned"),
    ("g FLOAT", "float"),
    ("h DOUBLE", "double"),
    ("i DECIMAL(5,2)", "decimal"),
    ("j BIT(53)", "bit"),
    ("k BIT(54)", "bit"),
    ("l YEAR", "year"),
    ("m DATE", "date"),
    ("n TIME", "time"),
    ("o DATETIME(6)", "datetime"),
    ("p TIMESTAMP", "timestamp"),
    ("q CHAR(3)", "char"),
    ("r VARCHAR(3)", "varchar"),
    ("s TEXT", "text"),
    ("t LONGTEXT", "text"),
    ("u BINARY(3)", "binary"),
    ("v VARBINARY(3)", "varbinary"),
    ("w BLOB", "blob"),
    ("x ENUM('a')", "enum"),
    ("y SET('a')", "set"),
    ("z GEOMETRY", "geometry"),
    ("aa VARCHAR(3) COLLATE utf8mb4_bin", "varchar"),
]


def test_columns_say_their_type_and_which_integers_are_big(session):
    session.text("DROP TABLE IF EXISTS types")
    session.text(f"CREATE TABLE types ({', '.join(declared for declared, _ in TYPES)})")
    fields = session.fields("SELECT *, COUNT(*), SUM(a), NULL FROM types")
    assert [type_name(field) for field in fields] == [*(name for _, name in TYPES), "bigint", "decimal", "null"]
    assert [fields[at].name for at in big_integers(fields)] == ["e", "f", "k", "COUNT(*)"]


def test_json_is_a_value_where_the_server_has_such_a_type(session):
    session.text("DROP TABLE IF EXISTS documents")
    session.text("CREATE TABLE documents (a JSON)")
    written = '{"a": [1, null, {"b": "ü\\\\"}], "c": 1.5}'
    session.rows("INSERT INTO documents VALUES (?)", written)
    found = session.value("SELECT a FROM documents")
    if type_name(*session.fields("SELECT a FROM documents")) == "json":
        assert found == {"a": [1, None, {"b": "ü\\"}], "c": 1.5}
    else:
        assert found == written  # MariaDB's JSON is a name for LONGTEXT
