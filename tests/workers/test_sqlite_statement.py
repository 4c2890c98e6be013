"""One statement on the writer: what stays of one that fails, which rowid an INSERT made, and what is remembered."""

import asyncio
import sqlite3
import sys

import pytest

from linkly_workers._sqlite import GroupCommitWriter, connect, execute
from linkly_workers._sqlite.execution import LONG_TEXTS, ResultTooLarge
from linkly_workers._sqlite.text import TEXT_LIMIT
from linkly_workers.database.sqlite.reader import LoopReader, Reader

LIMIT = 1000
UNREADABLE = f"printf('%.{LIMIT}c', 'x')"
HALF_DONE = [
    f"INSERT INTO t VALUES ('bad') RETURNING {UNREADABLE}",
    f"INSERT INTO t VALUES ('bad'), ('worse') RETURNING iif(a = 'worse', {UNREADABLE}, a)",
    "INSERT OR FAIL INTO t SELECT 'bad' UNION ALL SELECT 'first'",
]


@pytest.fixture
async def writer(tmp_path):
    """A writer with a table."""
    async with GroupCommitWriter(str(tmp_path / "a.db"), max_result_bytes=LIMIT) as writer:
        await writer.execute("CREATE TABLE t (a UNIQUE)")
        await writer.execute("INSERT INTO t VALUES ('first')")
        yield writer


class Failing(Exception):
    """The error of an operation that is none of SQLite's."""


def failing(connection):
    raise Failing


async def on_the_writing_thread(writer):
    """Have the writer send operations of several statements, and what shares their batch, to its thread from now on."""
    with pytest.raises(Failing):
        await writer.run(failing)


@pytest.mark.parametrize("thread", [False, True], ids=["on the loop", "on the writing thread"])
@pytest.mark.parametrize("sql", HALF_DONE)
async def test_what_fails_after_it_has_changed_rows_leaves_none(writer, sql, thread):
    if thread:
        await on_the_writing_thread(writer)
    several = writer.run(lambda connection: execute(connection, "INSERT INTO t VALUES (0)").affected_rows)
    calls = [writer.execute("INSERT INTO t VALUES (?)", [number]) for number in range(1, 9)]
    calls.insert(4, writer.execute(sql))
    # `results` keeps the errors, whose tracebacks would keep statements unfinished.
    results = await asyncio.gather(several, *calls, return_exceptions=True)
    assert isinstance(results.pop(5), sqlite3.Error)
    assert results.pop(0) == 1
    assert [result.affected_rows for result in results] == [1] * 8
    assert (await writer.execute("SELECT a FROM t ORDER BY a")).rows == [*((n,) for n in range(9)), ("first",)]


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_a_reader_lets_go_of_the_snapshot_of_a_result_that_it_cannot_read(writer, kind):
    reader = (LoopReader if kind == "loop" else Reader)(writer.path, writer.statements, LIMIT)
    if kind == "thread":
        await reader.open()
    errors = []
    for sql in (f"SELECT a FROM t UNION ALL SELECT {UNREADABLE}", f"SELECT {UNREADABLE} FROM t"):
        try:
            found = reader.read(writer.statements.of(sql), [])
            if kind == "thread":
                await found
        except ResultTooLarge as error:
            errors.append(error)
    assert len(errors) == 2
    await writer.execute("INSERT INTO t VALUES ('later')")
    beside = connect(writer.path)
    busy, pages, folded = beside.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    beside.close()
    closed = reader.close()
    if kind == "thread":
        await closed
    assert (busy, pages, folded) == (0, 0, 0), "a snapshot is still held"


# --- the last rowid -----------------------------------------------------------------------------------------


async def test_the_rowid_of_an_insert_is_never_a_neighbours(writer):
    for sql in (
        "CREATE TABLE other (id INTEGER PRIMARY KEY)",
        "CREATE TABLE upserted (k PRIMARY KEY, v)",
        "CREATE TABLE without (k PRIMARY KEY) WITHOUT ROWID",
        "CREATE VIEW seen AS SELECT * FROM other",
        "CREATE TRIGGER g INSTEAD OF INSERT ON seen BEGIN INSERT INTO other VALUES (new.id); END",
    ):
        await writer.execute(sql)
    upsert = "INSERT INTO upserted VALUES (?, 1) ON CONFLICT (k) DO UPDATE SET v = v + 1"
    expected = [
        ("INSERT INTO other VALUES (777)", [], 777),
        (upsert, ["a"], 1),
        ("INSERT INTO other VALUES (778)", [], 778),
        (upsert, ["a"], None),
        ("INSERT INTO without VALUES (?)", ["a"], None),
        ("INSERT INTO seen VALUES (5)", [], None),
        ("/* c */ INSERT INTO other DEFAULT VALUES", [], 779),
        ("-- c\n REPLACE INTO other VALUES (3)", [], 3),
        ("INSERT OR IGNORE INTO other VALUES (3)", [], None),
        ("UPDATE other SET id = 4 WHERE id = 3", [], None),
        (f"INSERT INTO other VALUES (10) -- {'long' * TEXT_LIMIT}", [], 10),
        (f"INSERT INTO without VALUES (?) -- {'long' * TEXT_LIMIT}", ["b"], None),
    ]
    results = await asyncio.gather(*(writer.execute(sql, values) for sql, values, _ in expected))
    assert [result.last_insert_id for result in results] == [last for *_, last in expected]
    # The writer remembers these texts by now, and answers the same.
    assert (await writer.execute(upsert, ["a"])).last_insert_id is None
    assert (await writer.execute("INSERT INTO without VALUES (?)", ["c"])).last_insert_id is None
    assert (await writer.execute("/* c */ INSERT INTO other DEFAULT VALUES")).last_insert_id == 780


async def test_what_is_known_of_a_table_is_forgotten_with_it(writer):
    insert = "INSERT INTO again VALUES (1)"
    for schema, last in (("(a)", 1), ("(a PRIMARY KEY) WITHOUT ROWID", None), ("(a)", 1)):
        await writer.execute(f"CREATE TABLE again {schema}")
        assert (await writer.execute(insert)).last_insert_id == last
        await writer.execute("DROP TABLE again")


async def test_what_sqlite_says_about_changes_survives_the_first_look_at_a_statement(writer):
    def operation(connection):
        execute(connection, "UPDATE t SET a = a")
        execute(connection, "INSERT INTO t SELECT 'of ' || changes()")
        return execute(connection, "SELECT changes(), max(a) FROM t").rows

    assert await writer.run(operation) == [(1, "of 1")]


# --- turns --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [":memory:", "file"])
async def test_a_statement_that_fails_in_a_turn_keeps_the_transaction_open(tmp_path, path):
    async with GroupCommitWriter(path if path == ":memory:" else str(tmp_path / "a.db")) as writer:
        await writer.execute("CREATE TABLE t (a UNIQUE)")
        turn = await writer.turn()
        await turn.run(lambda connection: connection.own("BEGIN").close())
        await turn.run(lambda connection: execute(connection, "INSERT INTO t VALUES (1)"))
        with pytest.raises(sqlite3.IntegrityError):
            await turn.run(lambda connection: execute(connection, "INSERT INTO t VALUES (1)"))
        await turn.run(lambda connection: execute(connection, "INSERT INTO t VALUES (2)"))
        await turn.run(lambda connection: connection.own("COMMIT").close())
        turn.end()
        assert (await writer.execute("SELECT a FROM t")).rows == [(1,), (2,)]


# --- memory -------------------------------------------------------------------------------------------------


def kept(texts):
    """Count the characters of the texts that somebody else than the list holds."""
    alone = [str(10**9)]  # made here: a text that the compiler makes may live for ever
    nobody = sys.getrefcount(alone[0])
    return sum(len(texts[index]) for index in range(len(texts)) if sys.getrefcount(texts[index]) > nobody)


async def test_long_statements_are_not_all_kept(tmp_path):
    texts = [f"SELECT length('{number:04}{'z' * 400_000}')" for number in range(60)]
    assert sum(map(len, texts)) > 2 * LONG_TEXTS
    assert kept(texts) == 0
    async with GroupCommitWriter(str(tmp_path / "a.db")) as writer:
        for index in range(len(texts)):
            assert (await writer.execute(texts[index])).rows == [(400_004,)]
        assert 0 < kept(texts) <= LONG_TEXTS + len(texts[0])


@pytest.mark.parametrize(
    ("columns", "told"), [("(id INTEGER PRIMARY KEY)", 5), ("(id INTEGER PRIMARY KEY) WITHOUT ROWID", None)]
)
@pytest.mark.parametrize(
    "insert", ["REPLACE INTO u VALUES (?)", "WITH a(x) AS (VALUES (?)) REPLACE INTO u SELECT x FROM a"]
)
async def test_the_rowid_of_an_insert_is_told_after_an_empty_change_of_tables(writer, columns, told, insert):
    await writer.execute(f"CREATE TABLE u {columns}")
    found = []
    for _ in range(2):
        found += [(await writer.execute(insert, [5])).last_insert_id for _ in range(2)]
        await writer.execute("CREATE TABLE IF NOT EXISTS u (a)")  # everything that is remembered of INSERTs is dropped
    assert found == [told] * 4
