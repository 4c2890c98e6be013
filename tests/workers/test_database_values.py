"""Values of the database worker (docs/workers.md#database): what comes out is what went in."""

import base64
import contextlib
import json
import math
import sqlite3

import pytest

from linkly import LinklyError
from support.database_calls import database_worker, execute

BYTES = bytes(range(256))


@pytest.fixture
def database(tmp_path):
    """Make a database worker on a file."""
    worker = database_worker(f"sqlite:{tmp_path}/a.db")
    worker.file = tmp_path / "a.db"
    return worker


async def query(bus, sql, *params, **more):
    return await bus.trigger("database::query", {"sql": sql, "params": list(params), **more})


async def kept(bus, value):
    """Return SQLite's type of a parameter, what comes back at once, and what comes back from a table."""
    await execute(bus, "CREATE TABLE IF NOT EXISTS t (a)")
    await execute(bus, "DELETE FROM t")
    await execute(bus, "INSERT INTO t VALUES (?)", value)
    direct = (await query(bus, "SELECT typeof(?1) AS type, ?1 AS a", value))["rows"]
    stored = (await query(bus, "SELECT typeof(a) AS type, a FROM t"))["rows"]
    assert direct == stored
    return stored[0]["type"], stored[0]["a"]


# --- parameters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, kind, back",
    [
        (None, "null", None),
        (True, "integer", 1),
        (False, "integer", 0),
        (0, "integer", 0),
        (-1, "integer", -1),
        (2**53 + 1, "integer", 2**53 + 1),
        (2**63 - 1, "integer", 2**63 - 1),
        (-(2**63), "integer", -(2**63)),
        (1.5, "real", 1.5),
        (0.1, "real", 0.1),
        (1e308, "real", 1e308),
        (5e-324, "real", 5e-324),
        (3.0, "real", 3.0),
        ("", "text", ""),
        ("007", "text", "007"),
        ('it\'s; -- "quoted" ?', "text", 'it\'s; -- "quoted" ?'),
        ("zero\0byte", "text", "zero\0byte"),
        ("Grüße, 世界 👩‍👩‍👧‍👦 \U0001f600", "text", "Grüße, 世界 👩‍👩‍👧‍👦 \U0001f600"),
        ("line\r\nend\u2028", "text", "line\r\nend\u2028"),
        ([], "text", "[]"),
        ([1, "ü", None, True], "text", '[1,"ü",null,true]'),
        ({"a": {"b": [1.5]}}, "text", '{"a":{"b":[1.5]}}'),
        ({"$blob": "AP8=", "more": 1}, "text", '{"$blob":"AP8=","more":1}'),
    ],
)
async def test_a_parameter_is_kept_as_its_kind_and_comes_back(run, database, value, kind, back):
    async with run(database) as bus:
        found, came = await kept(bus, value)
        assert (found, came, type(came)) == (kind, back, type(back))


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**64, 10**30])
@pytest.mark.parametrize("function_id", ["database::query", "database::execute", "database::transaction"])
async def test_an_integer_beyond_64_bits_is_refused_and_not_rounded(run, database, function_id, value):
    async with run(database) as bus:
        await execute(bus, "CREATE TABLE t (a)")
        statement = {"sql": "INSERT INTO t VALUES (?)", "params": [value]}
        payload = {"statements": ["INSERT INTO t VALUES (1)", statement]} if "trans" in function_id else statement
        with pytest.raises(LinklyError, match="64 bits") as failure:
            await bus.trigger(function_id, payload)
        assert failure.value.code == "INVALID_PARAM"
        assert (await query(bus, "SELECT COUNT(*) AS n FROM t"))["rows"] == [{"n": 0}]


async def test_json_of_a_container_is_json_to_sqlite(run, database):
    async with run(database) as bus:
        document = {"list": [1, 2, {"deep": "ü"}], "no": None}
        answer = await query(bus, "SELECT json_extract(?1, '$.list[2].deep') AS deep, ?1 AS all_of_it", document)
        assert answer["rows"][0]["deep"] == "ü"
        assert json.loads(answer["rows"][0]["all_of_it"]) == document


async def test_parameters_may_be_numbered_and_come_as_json_text(run, database):
    async with run(database) as bus:
        assert (await query(bus, "SELECT ?2 AS b, ?1 AS a", 1, 2))["rows"] == [{"b": 2, "a": 1}]
        text = json.dumps([1, None, "ü", {"a": 1}])
        answer = await bus.trigger("database::query", {"sql": "SELECT ? AS a, ? AS b, ? AS c, ? AS d", "params": text})
        assert answer["rows"] == [{"a": 1, "b": None, "c": "ü", "d": '{"a":1}'}]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [1, math.nan], {"a": math.inf}])
@pytest.mark.parametrize("function_id", ["database::query", "database::execute", "database::transaction"])
async def test_numbers_that_json_does_not_have_do_not_become_null(run, database, function_id, value):
    async with run(database) as bus:
        await execute(bus, "CREATE TABLE t (a)")
        statement = {"sql": "INSERT INTO t VALUES (?)", "params": [value]}
        payload = {"statements": ["INSERT INTO t VALUES (1)", statement]} if "trans" in function_id else statement
        with pytest.raises(LinklyError, match=r"infinite - at `\$.*params\[0\]") as failure:
            await bus.trigger(function_id, payload)
        assert failure.value.code == "deserialization_error"
        assert (await query(bus, "SELECT COUNT(*) AS n FROM t"))["rows"] == [{"n": 0}]


# --- texts that are none ------------------------------------------------------------------------------------

DAMAGED = "CAST(x'61ff62' AS TEXT)"


@pytest.mark.parametrize("wide", [False, True], ids=["on the loop", "on a thread"])
async def test_a_text_that_is_not_utf_8_gets_replacement_characters_or_is_a_blob(run, database, wide):
    extra = ", hex(zeroblob(30000)) AS c" if wide else ""
    sql = f"SELECT {DAMAGED} AS a, 'whole' AS b{extra}"
    blob = {"$blob": base64.b64encode(b"a\xffb").decode()}
    async with run(database) as bus:
        for options, expected in [
            ({}, "a\ufffdb"),
            ({"invalid_text": "replace", "blobs": "object"}, "a\ufffdb"),
            ({"invalid_text": "blob"}, blob["$blob"]),
            ({"invalid_text": "blob", "blobs": "object"}, blob),
        ]:
            (row,) = (await query(bus, sql, **options))["rows"]
            assert (row["a"], row["b"]) == (expected, "whole")
            done = await bus.trigger("database::transaction", {"statements": [sql], **options})
            assert done["results"][0]["rows"][0][:2] == [expected, "whole"]
            held = (await bus.trigger("database::beginTransaction", {}))["transaction"]["id"]
            inside = {"transaction_id": held, "sql": sql, **options}
            assert (await bus.trigger("database::transactionQuery", inside))["rows"][0]["a"] == expected
            await bus.trigger("database::rollbackTransaction", {"transaction_id": held})
        handle = (await bus.trigger("database::prepareStatement", {"sql": sql}))["handle"]["id"]
        answer = await bus.trigger("database::runStatement", {"handle_id": handle, "invalid_text": "blob"})
        assert answer["rows"][0]["a"] == blob["$blob"]


async def test_a_write_that_returns_a_text_that_is_not_utf_8_is_written(run, database):
    async with run(database) as bus:
        await execute(bus, "CREATE TABLE t (a)")
        made = await execute(bus, f"INSERT INTO t VALUES ({DAMAGED}) RETURNING a", returning=["a"])
        assert made["returned_rows"] == [{"a": "a\ufffdb"}]
        assert (await query(bus, "SELECT hex(a) AS a FROM t"))["rows"] == [{"a": "61FF62"}]


# --- results ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sql, value", [("9e999", math.inf), ("-9e999", -math.inf), ("9e999 - 9e999", None)])
async def test_infinity_has_no_json_and_is_null_there(run, database, sql, value):
    async with run(database) as bus:
        came = (await query(bus, f"SELECT {sql} AS a"))["rows"][0]["a"]
        assert came is None or came == value
        if run.framing is not None:
            assert came is None


async def test_a_blob_is_answered_as_base64(run, database):
    async with run(database) as bus:
        answer = await query(bus, "SELECT x'00FF10' AS some, x'' AS none, typeof(x'') AS type")
        assert answer["rows"] == [{"some": base64.b64encode(b"\x00\xff\x10").decode(), "none": "", "type": "blob"}]


async def test_a_blob_goes_in_and_out_without_loss(run, database):
    async with run(database) as bus:
        blob = {"$blob": base64.b64encode(BYTES).decode()}
        await execute(bus, "CREATE TABLE t (a)")
        made = await execute(bus, "INSERT INTO t VALUES (?) RETURNING a", blob, returning=["a"], blobs="object")
        assert made["returned_rows"] == [{"a": blob}]
        found = (await query(bus, "SELECT a FROM t", blobs="object"))["rows"][0]["a"]
        assert found == blob
        # What was answered is a parameter as it is, in every function.
        statement = {"sql": "INSERT INTO t VALUES (?) RETURNING a, 'text'", "params": [found]}
        done = await bus.trigger("database::transaction", {"statements": [statement], "blobs": "object"})
        assert done["results"][0]["rows"] == [[blob, "text"]]
        name = (await bus.trigger("database::beginTransaction", {}))["transaction"]["id"]
        inside = {"transaction_id": name, "sql": "INSERT INTO t VALUES (?)", "params": [found]}
        await bus.trigger("database::transactionExecute", inside)
        read = {"transaction_id": name, "sql": "SELECT DISTINCT a, typeof(a) AS type FROM t", "blobs": "object"}
        assert (await bus.trigger("database::transactionQuery", read))["rows"] == [{"a": blob, "type": "blob"}]
        await bus.trigger("database::commitTransaction", {"transaction_id": name})
        prepared = await bus.trigger("database::prepareStatement", {"sql": "SELECT count(*) AS n FROM t WHERE a = ?"})
        counted = {"handle_id": prepared["handle"]["id"], "params": [found]}
        assert (await bus.trigger("database::runStatement", counted))["rows"] == [{"n": 3}]
    with contextlib.closing(sqlite3.connect(database.file)) as beside:
        assert beside.execute("SELECT a FROM t").fetchall() == [(BYTES,)] * 3


async def test_an_empty_and_a_large_blob_survive_too(run, database):
    async with run(database) as bus:
        await execute(bus, "CREATE TABLE t (a)")
        for raw in (b"", b"\xff" * 2_000_000):
            blob = {"$blob": base64.b64encode(raw).decode()}
            await execute(bus, "INSERT INTO t VALUES (?)", blob)
            answer = await query(bus, "SELECT a, length(a) AS n FROM t WHERE a = ?", blob, blobs="object")
            assert answer["rows"] == [{"a": blob, "n": len(raw)}]


async def test_text_of_two_megabytes_survives(run, database):
    async with run(database) as bus:
        text = "😀" * 500_000
        await execute(bus, "CREATE TABLE t (a)")
        await execute(bus, "INSERT INTO t VALUES (?)", text)
        assert (await query(bus, "SELECT a FROM t"))["rows"] == [{"a": text}]


# --- columns ------------------------------------------------------------------------------------------------


async def test_columns_are_told_in_order_with_their_declared_types(run, database):
    async with run(database) as bus:
        await execute(
            bus, "CREATE TABLE t (id INTEGER PRIMARY KEY, name VARCHAR(40), price decimal(8, 2), data BLOB, x)"
        )
        answer = await query(
            bus, "SELECT name, id, price, data, x, id + 1 AS sum FROM t WHERE name <> '?' OR id = ?", 1
        )
        assert (answer["rows"], answer["row_count"]) == ([], 0)
        assert [(column["name"], column["type"].upper()) for column in answer["columns"][:4]] == [
            ("name", "VARCHAR(40)"),
            ("id", "INTEGER"),
            ("price", "DECIMAL(8, 2)"),
            ("data", "BLOB"),
        ]
        assert [column["name"] for column in answer["columns"][4:]] == ["x", "sum"]


@pytest.mark.parametrize("way", ["execute", "transaction", "interactive", "query"])
async def test_column_types_follow_a_changed_schema(run, database, way):
    async with run(database) as bus:
        for kind in ("TEXT", "INTEGER", "BLOB"):
            changes = ["DROP TABLE IF EXISTS t", f"CREATE TABLE t (a {kind})"]
            if way == "transaction":
                await bus.trigger("database::transaction", {"statements": changes})
            elif way == "interactive":
                name = (await bus.trigger("database::beginTransaction"))["transaction"]["id"]
                for sql in changes:
                    await bus.trigger("database::transactionExecute", {"transaction_id": name, "sql": sql})
                await bus.trigger("database::commitTransaction", {"transaction_id": name})
            else:
                for sql in changes:
                    await bus.trigger(f"database::{way}", {"sql": sql})
            assert (await query(bus, "SELECT a FROM t"))["columns"] == [{"name": "a", "type": kind}]


async def test_of_columns_with_equal_names_rows_have_the_last(run, database):
    async with run(database) as bus:
        answer = await query(bus, "SELECT 1 AS a, 2 AS b, 3 AS a")
        assert answer["rows"] == [{"a": 3, "b": 2}]
        assert [column["name"] for column in answer["columns"]] == ["a", "b", "a"]
        done = await bus.trigger("database::transaction", {"statements": ["SELECT 1 AS a, 2 AS b, 3 AS a"]})
        assert done["results"] == [{"affected_rows": 0, "rows": [[1, 2, 3]]}]


async def test_a_query_without_a_result_has_no_rows_and_no_columns(run, database):
    async with run(database) as bus:
        assert await query(bus, "CREATE TABLE t (a)") == {"rows": [], "row_count": 0, "columns": []}
        assert await query(bus, "INSERT INTO t VALUES (1)") == {"rows": [], "row_count": 0, "columns": []}


# --- execute ------------------------------------------------------------------------------------------------


async def test_returned_rows_come_only_when_they_are_asked_for(run, database):
    async with run(database) as bus:
        await execute(bus, "CREATE TABLE t (id INTEGER PRIMARY KEY, name)")
        sql = "INSERT INTO t (name) VALUES (?) RETURNING id, name"
        assert (await execute(bus, sql, "a"))["returned_rows"] == []
        assert (await execute(bus, sql, "b", returning=["*"]))["returned_rows"] == [{"id": 2, "name": "b"}]
        deleted = await execute(bus, "DELETE FROM t RETURNING name", returning=["name"])
        assert deleted == {"affected_rows": 2, "last_insert_id": None, "returned_rows": [{"name": "a"}, {"name": "b"}]}


@pytest.mark.parametrize(
    "sql, affected, last",
    [
        ("INSERT INTO t VALUES (9007199254740993, 'x')", 1, "9007199254740993"),
        ("  insert INTO t (name) VALUES ('x'), ('y')", 2, "3"),
        ("REPLACE INTO t VALUES (1, 'new')", 1, "1"),
        ("INSERT OR IGNORE INTO t VALUES (1, 'old')", 0, None),
        ("INSERT INTO t VALUES (1, 'x') ON CONFLICT (id) DO NOTHING", 0, None),
        ("UPDATE t SET name = 'y'", 1, None),
        ("UPDATE t SET name = 'y' WHERE id = 99", 0, None),
        ("WITH n(i) AS (VALUES (1)) UPDATE t SET name = 'y' WHERE id IN (SELECT i FROM n)", 1, None),
        ("DELETE FROM t", 1, None),
        ("DROP TABLE t", 0, None),
        ("SELECT * FROM t", 0, None),
    ],
)
async def test_the_last_insert_id_is_that_of_an_insert_that_inserted(run, database, sql, affected, last):
    async with run(database) as bus:
        await execute(bus, "CREATE TABLE t (id INTEGER PRIMARY KEY, name)")
        await execute(bus, "INSERT INTO t VALUES (1, 'first')")
        assert await execute(bus, sql) == {"affected_rows": affected, "last_insert_id": last, "returned_rows": []}


async def test_rows_that_a_trigger_or_a_foreign_key_changes_are_not_counted(run, database):
    async with run(database) as bus:
        await execute(bus, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
        await execute(bus, "CREATE TABLE log (entry)")
        await execute(bus, "CREATE TABLE child (t REFERENCES t ON DELETE CASCADE)")
        await execute(bus, "CREATE TRIGGER x AFTER INSERT ON t BEGIN INSERT INTO log VALUES (1), (2), (3); END")
        assert await execute(bus, "INSERT INTO t VALUES (7)") == {
            "affected_rows": 1,
            "last_insert_id": "7",
            "returned_rows": [],
        }
        await execute(bus, "INSERT INTO child VALUES (7), (7)")
        assert (await execute(bus, "DELETE FROM t"))["affected_rows"] == 1
        assert (await query(bus, "SELECT COUNT(*) AS n FROM child"))["rows"] == [{"n": 0}]
