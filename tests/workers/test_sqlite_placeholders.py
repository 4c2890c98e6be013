"""A list of values fits every kind of placeholder, on every version of Python: warnings are errors here."""

import sqlite3

import pytest

from linkly import LinklyError
from linkly_workers._sqlite import connect, execute
from support.database_calls import database_worker

# How a list of values fits its placeholders is decided beside the database, whoever sent it.
pytestmark = pytest.mark.transports("in process")

SLOW = "FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300000) SELECT SUM(i) FROM n)"


@pytest.fixture
def connection(tmp_path):
    connection = connect(str(tmp_path / "a.db"))
    yield connection
    connection.close()


@pytest.mark.parametrize(
    "sql, values, row",
    [
        ("SELECT ?, ?", ["a", "b"], ("a", "b")),
        ("SELECT ?1, ?2", ["a", "b"], ("a", "b")),
        ("SELECT ?2, ?1, ?2", ["a", "b"], ("b", "a", "b")),
        ("SELECT ?3, ?1, ?2", ["a", "b", "c"], ("c", "a", "b")),
        ("SELECT :a, :b, :a", ["a", "b"], ("a", "b", "a")),
        ("SELECT :a, @a, $a, #a", ["a", "b", "c", "d"], ("a", "b", "c", "d")),
        ("SELECT $2, $1", ["a", "b"], ("b", "a")),
        ("SELECT $2, ?1, $1", ["a", "b"], ("b", "a", "a")),
        ("SELECT :2, @1, $02", ["a", "b"], ("b", "a", "b")),
        ("SELECT $a::b(c), $größe", ["a", "b"], ("a", "b")),
        ("SELECT ':x', \":x\", `?9`, [?8], ?1 FROM t -- ?7", ["a"], (":x", 1, 2, 3, "a")),
        ("SELECT /* ?2 */ x$1, ?1 FROM u", ["a"], (4, "a")),
        ("SELECT 'it''s :x', ?1", ["a"], ("it's :x", "a")),
    ],
)
def test_a_value_of_a_list_goes_where_its_placeholder_says(connection, sql, values, row):
    connection.executescript(
        'CREATE TABLE t (":x", "?9", "?8"); INSERT INTO t VALUES (1, 2, 3); '
        "CREATE TABLE u (x$1); INSERT INTO u VALUES (4)"
    )
    assert execute(connection, sql, values).rows == [row]


def test_placeholders_of_one_number_stay_one_value(connection):
    sql = "SELECT a || ?1 AS b, COUNT(*) FROM (SELECT 'x' AS a UNION ALL SELECT 'x') GROUP BY a || ?1"
    assert execute(connection, sql, ["y"]).rows == [("xy", 2)]


@pytest.mark.parametrize("columns", [[":a", "@b"], ["?2", "?1"], ["$2", "$1"]])
def test_the_columns_of_a_result_keep_the_names_of_their_placeholders(connection, columns):
    assert execute(connection, f"SELECT {', '.join(columns)}", [1, 2]).columns == columns


@pytest.mark.parametrize("values", [["a"], ["a", "b", "c"]])
def test_a_list_of_the_wrong_length_is_refused(connection, values):
    with pytest.raises(sqlite3.ProgrammingError, match=rf"uses 2, and there are {len(values)} supplied"):
        execute(connection, "SELECT ?2, ?1", values)


@pytest.mark.parametrize("placeholders", ["?1, ?2", ":a, :b", "$1, $2", "@a, @b", "?, ?"])
async def test_every_function_that_runs_a_statement_takes_every_placeholder(run, tmp_path, placeholders):
    async with run(database_worker(f"sqlite:{tmp_path}/a.db")) as bus:
        values = {"params": [1, "x"]}
        insert, select = f"INSERT INTO t VALUES ({placeholders})", f"SELECT * FROM (VALUES ({placeholders}))"
        await bus.trigger("database::execute", {"sql": "CREATE TABLE t (a, b)"})
        await bus.trigger("database::execute", {"sql": insert, **values})
        await bus.trigger("database::transaction", {"statements": [{"sql": insert, **values}]})
        begun = await bus.trigger("database::beginTransaction", {})
        inside = {"transaction_id": begun["transaction"]["id"]}
        await bus.trigger("database::transactionExecute", {**inside, "sql": insert, **values})
        read = await bus.trigger("database::transactionQuery", {**inside, "sql": select, **values})
        await bus.trigger("database::commitTransaction", inside)
        handle = (await bus.trigger("database::prepareStatement", {"sql": select}))["handle"]
        run_again = await bus.trigger("database::runStatement", {"handle_id": handle["id"], **values})
        plan = await bus.trigger("database::explain", {"sql": select, "analyze": True, **values})
        slow = await bus.trigger("database::query", {"sql": f"SELECT {placeholders} {SLOW}", **values})
        written = await bus.trigger("database::query", {"sql": "SELECT DISTINCT a, b, COUNT(*) AS n FROM t"})
        assert [list(row.values()) for row in read["rows"]] == [[1, "x"]]
        assert run_again["rows"] in ([[1, "x"]], read["rows"])
        assert plan["row_count"] == slow["row_count"] == 1
        assert written["rows"] == [{"a": 1, "b": "x", "n": 3}]


async def test_too_few_values_for_numbered_placeholders_are_the_callers_error(run, tmp_path):
    async with run(database_worker(f"sqlite:{tmp_path}/a.db")) as bus:
        with pytest.raises(LinklyError, match="uses 2, and there are 1 supplied") as failure:
            await bus.trigger("database::query", {"sql": "SELECT ?2, ?1", "params": [1]})
        assert failure.value.code == "DRIVER_ERROR"


@pytest.mark.parametrize(
    "sql, sentence",
    [
        ("SELECT ?, ?1", "write `?` for each value in order, or `$1`, `$2`, ... by number"),
        ("SELECT :a, ?", "the statement mixes `:a` (by name) with `?` (by order)"),
        ("SELECT $1, :a", "the statement mixes `$1` (by number) with `:a` (by name)"),
        ("SELECT $3, $1", "uses `$3`, but not `$2`"),
        ("SELECT ?0", "`?0`: parameters are numbered from 1"),
        ("SELECT ?250001", "uses `?250001`, but not `?1`"),
    ],
)
async def test_placeholders_that_could_mean_two_values_are_refused_by_every_function(run, tmp_path, sql, sentence):
    async with run(database_worker(f"sqlite:{tmp_path}/a.db")) as bus:
        for function, payload in (
            ("query", {"sql": sql, "params": [1, 2]}),
            ("execute", {"sql": sql}),
            ("prepareStatement", {"sql": sql}),
            ("explain", {"sql": sql}),
            ("transaction", {"statements": [sql]}),
        ):
            with pytest.raises(LinklyError) as failure:
                await bus.trigger(f"database::{function}", payload)
            assert failure.value.code == "INVALID_PARAM"
            assert sentence in failure.value.message
            assert failure.value.details["reason"] == "unclear placeholders"
