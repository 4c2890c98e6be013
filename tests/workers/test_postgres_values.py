"""Values of PostgreSQL: both ways without loss, and what does not fit is refused with its index."""

import json

import pytest

from linkly import LinklyError
from support.database_calls import rows, running, value


@pytest.fixture
async def bus(postgres_url):
    async with running(postgres_url) as bus:
        yield bus


async def refused(bus, sql, *params):
    with pytest.raises(LinklyError) as failure:
        await rows(bus, sql, *params)
    return failure.value


NUMBERS = [
    ("bool", True),
    ("int2", -32768),
    ("int4", 2**31 - 1),
    ("int8", -(2**63)),
    ("int8", 2**63 - 1),
    ("float8", 0.1),
    ("float8", 5e-324),
    ("float4", 0.1),
    ("oid", 2**32 - 1),
]

TEXTS = [
    ("numeric", "1.10"),
    ("numeric", "0." + "1" * 300),
    ("numeric", "9" * 400),
    ("numeric", "NaN"),
    ("date", "4713-01-01 BC"),
    ("date", "10000-01-01"),
    ("date", "infinity"),
    ("time", "24:00:00"),
    ("time", "23:59:59.999999"),
    ("timetz", "24:00:00-15:59"),
    ("timestamp", "2026-11-26T18:32:53.123456"),
    ("timestamp", "4713-01-01 00:00:00 BC"),
    ("timestamp", "-infinity"),
    ("timestamp", "294276-12-31T23:59:59.999999"),
    ("timestamptz", "2026-11-26T18:32:53.123456Z"),
    ("timestamptz", "10000-01-01T00:00:00Z"),
    ("timestamptz", "4713-01-01 00:00:00+00 BC"),
    ("timestamptz", "infinity"),
    ("interval", "1 year 2 mons -3 days +04:05:06.789"),
    ("interval", "-178000000 years"),
    ("uuid", "00112233-4455-6677-8899-aabbccddeeff"),
    ("inet", "10.0.0.1/8"),
    ("inet", "::1"),
    ("cidr", "10.0.0.0/8"),
    ("macaddr", "08:00:2b:01:02:03"),
    ("bit(5)", "10101"),
    ("varbit", "1"),
    ("point", "(1,2.5)"),
    ("xml", "<a>1</a>"),
    ("tsvector", "'a':1 'b':2"),
    ("text", "grüße 🐍 \u202eabc"),
    ("text", ""),
    ("varchar(3)", "abc"),
    ("bpchar", "a  "),
    ('"char"', "x"),
    ("name", "n"),
    ("money", "$1.50"),
    ("pg_lsn", "16/B374D848"),
    ("jsonpath", '$."a"[*]'),
]


@pytest.mark.parametrize("kind, given", [*NUMBERS, *TEXTS])
async def test_a_value_comes_back_as_it_was_sent(bus, kind, given):
    await bus.trigger("database::execute", {"sql": f"CREATE TABLE v (a {kind})"})
    await bus.trigger("database::execute", {"sql": "INSERT INTO v VALUES (?)", "params": [given]})
    assert await value(bus, "SELECT a FROM v") == given
    assert await value(bus, "SELECT count(*) FROM v WHERE a::text = ?::text", given) in (0, 1)


@pytest.mark.parametrize("kind, given", [each for each in TEXTS if each[0] != '"char"'])
async def test_an_array_of_texts_comes_back_as_it_was_sent(bus, kind, given):
    assert await value(bus, f"SELECT ?::{kind}[]", [given, None]) == [given, None]


async def test_what_is_sent_is_what_the_server_has(bus):
    assert await value(bus, "SELECT ?::timestamptz = '2026-01-01 01:00:00+01'", "2026-01-01T00:00:00Z") is True
    assert await value(bus, "SELECT extract(epoch FROM ?::interval)::int8", "1 day") == 86400
    assert await value(bus, "SELECT ?::numeric + 1", "99999999999999999999") == "100000000000000000000"
    assert await value(bus, "SELECT current_setting('TimeZone')") == "UTC"


async def test_what_json_has_no_number_for_is_null_and_may_be_sent_as_text(bus):
    assert await rows(bus, "SELECT 'NaN'::float8 AS a, '-Infinity'::float8 AS b") == [{"a": None, "b": None}]
    assert await value(bus, "SELECT ?::float8 = 'NaN' AND ?::float8 = '-Infinity'", "NaN", "-Infinity") is True


async def test_arrays_are_lists(bus):
    assert await value(bus, "SELECT ?::int8[]", [1, None, 2**60]) == [1, None, 2**60]
    assert await value(bus, "SELECT ?::int4[][]", [[1, 2], [3, 4]]) == [[1, 2], [3, 4]]
    assert await value(bus, "SELECT ?::int8[]", [True, "7", 2.0]) == [1, 7, 2]
    assert await value(bus, "SELECT ?::text[]", ["\u00e4", 1, True]) == ["\u00e4", "1", "true"]
    assert await value(bus, "SELECT ?::float8[]", "[NaN, 1e400]") == [None, None]
    assert await value(bus, "SELECT ?::bool[]", [True, None]) == [True, None]
    assert await value(bus, "SELECT ?::text[]", ['"', "{", "a,b", "NULL", None]) == ['"', "{", "a,b", "NULL", None]
    assert await value(bus, "SELECT count(*) FROM generate_series(1, 5) n WHERE n = ANY(?)", [2, 3, 9]) == 2


async def test_json_is_a_value_of_json(bus):
    given = {"a": [1, None, {"b": "ü"}], "c": 2**60, "d": 1.5}
    assert await value(bus, "SELECT ?::jsonb", given) == given
    assert await value(bus, "SELECT ?::json", [1, "a"]) == [1, "a"]
    assert await value(bus, "SELECT ('[' || repeat('9', 30) || ']')::jsonb") == [int("9" * 30)]
    deep = await value(bus, "SELECT (repeat('[', 2000) || repeat(']', 2000))::jsonb")
    assert (
        deep == "[" * 2000 + "]" * 2000 or json.dumps(deep) == "[" * 2000 + "]" * 2000
    )  # as deep as this Python reads
    assert await value(bus, "SELECT repeat('9', 5000)::jsonb") == "9" * 5000
    assert await value(bus, "SELECT ?::jsonb -> 'a'", '{"a": {"b": null}}') == {"b": None}
    assert await value(bus, "SELECT ?::jsonb", 5) == 5
    assert await value(bus, "SELECT ?::jsonb ?? 'a'", {"a": 1}) is True
    assert await value(bus, "SELECT ?::jsonb[]", [{"a": 1}, [1], "x"]) == [{"a": 1}, [1], "x"]


async def test_bytes_go_both_ways(bus):
    blob = {"$blob": "AAH/"}
    assert await value(bus, "SELECT ?::bytea", blob, blobs="object") == blob
    assert await value(bus, "SELECT ?::bytea", "\\x0001ff") == "AAH/"


async def test_enums_and_domains_are_read(bus):
    await bus.trigger("database::execute", {"sql": "CREATE TYPE mood AS ENUM ('sad', 'ok')"})
    await bus.trigger("database::execute", {"sql": "CREATE DOMAIN small AS int4 CHECK (value < 10)"})
    assert await rows(bus, "SELECT ?::mood AS m, ?::small AS s, ?::mood[] AS l", "ok", 3, ["sad"]) == [
        {"m": "ok", "s": 3, "l": ["sad"]}
    ]
    assert (await refused(bus, "SELECT ?::mood", "bad")).code == "INVALID_PARAM"


async def test_values_are_made_what_the_statement_asks_for(bus):
    answer = await rows(
        bus,
        "SELECT ?::int4 a, ?::int8 b, ?::bool c, ?::bool d, ?::float8 e, ?::text f, ?::text g, ?::numeric h, ?::text i",
        *("12", 2.0, 1, "off", 3, 5, 1.5, 7, True),
    )
    assert list(answer[0].values()) == [12, 2, True, False, 3.0, "5", "1.5", "7", "true"]


@pytest.mark.parametrize(
    "sql, params, words",
    [
        ("SELECT ?::int4, ?::int4", [1, 2**31], "does not fit int4"),
        ("SELECT ?::text, ?::int8", ["a", 1.5], "is no integer"),
        ("SELECT ?::text, ?::int8", ["a", "1e3"], "is no integer"),
        ("SELECT ?::text, ?::bool", ["a", 2], "neither true nor false"),
        ("SELECT ?::text, ?::text", ["a", "b\0"], "NUL"),
        ("SELECT ?::text, ?::bytea", ["a", "b"], "is not bytes"),
        ("SELECT ?::text, ?::text", ["a", {"$blob": "AAH/"}], "it is bytes"),
        ("SELECT ?::text, ?::date", ["a", "2026-02-30"], "out of range"),
        ("SELECT ?::text, ?::uuid", ["a", "x"], "invalid input syntax for type uuid"),
        ("SELECT ?::text, ?::jsonb", ["a", "{"], "invalid input syntax for type json"),
        ("SELECT ?::text, ?::numeric(3)", ["a", "x"], "invalid input syntax for type numeric"),
        ("SELECT ?::text, ?::int4[]", ["a", "{1}"], "is no list"),
        ("SELECT ?::text, ?::int4[]", ["a", ["b"]], "is no integer"),
        ("SELECT ?::text, ?::int4[]", ["a", [1, 2**31]], "does not fit int4"),
        ("SELECT ?::text, ?::text[]", ["a", ["b", "c\0"]], "NUL"),
        ("SELECT ?::text, ?::float8", ["a", "b"], "is no number"),
        ("SELECT ?::text, ?::int4range IS NULL", ["a", "[1,2)"], "`$1::text::int4range`"),
    ],
)
async def test_what_does_not_fit_is_refused_with_its_index(bus, sql, params, words):
    error = await refused(bus, sql, *params)
    assert (error.code, error.details.get("index")) == ("INVALID_PARAM", 1)
    assert words in error.message


async def test_a_wrong_number_of_values_is_told(bus):
    assert "uses 2, and there are 1" in (await refused(bus, "SELECT ?::int4 + ?::int4", 1)).message
    assert "uses 0, and there are 1" in (await refused(bus, "SELECT 1", 1)).message


async def test_what_has_no_form_in_json_says_how_it_is_cast(bus):
    for sql in ("SELECT int4range(1, 5) AS r", "SELECT ROW(1, now()) AS r"):
        error = await refused(bus, sql)
        assert (error.code, "`r::text`" in error.message) == ("DRIVER_ERROR", True)
    assert await value(bus, "SELECT int4range(1, 5)::text") == "[1,5)"


async def test_columns_say_their_type(bus):
    answer = await bus.trigger("database::query", {"sql": "SELECT 1::int8 AS a, now() AS b, '{}'::text[] AS c"})
    assert [(each["name"], each["type"]) for each in answer["columns"]] == [
        ("a", "int8"),
        ("b", "timestamptz"),
        ("c", "text[]"),
    ]


async def test_only_columns_of_64_bits_become_text(bus):
    sql = "SELECT 1::int4 AS a, 2::int8 AS b, '{3,NULL}'::int8[] AS c, '{\"n\": 4}'::jsonb AS d, count(*) AS e"
    found = await rows(bus, sql, integers="string")
    assert found == [{"a": 1, "b": "2", "c": ["3", None], "d": {"n": 4}, "e": "1"}]


@pytest.mark.parametrize("given", [[], ["x", None, "y"], [["a"], ["b"]], ["\u00e4", ""]])
async def test_arrays_of_the_catalogs_letters_are_lists_of_letters(bus, given):
    assert await value(bus, 'SELECT $1::"char"[]', given) == given
