"""What cannot be stopped on the loop's thread is not let in there, or only once; and long texts are not kept."""

import asyncio
import sys
import threading
from time import perf_counter

import pytest

from linkly import LinklyError
from linkly.testing import running_engine, settle
from linkly_workers._sqlite import GroupCommitWriter, Statements
from linkly_workers._sqlite.connection import LOOP_PATTERN_BYTES, LOOP_VALUE_BYTES
from linkly_workers._sqlite.execution import LONG_TEXTS, execute
from linkly_workers._sqlite.loop_batch import LOOP_STATEMENT_S
from linkly_workers.database.sqlite.reader import FREEZE_S, LoopReader
from support.database_calls import call


class Traced:
    """An operation that notes on which thread it runs."""

    def __init__(self, sql):
        self.sql = sql
        self.threads = []

    def __call__(self, connection):
        self.threads.append(threading.current_thread())
        return execute(connection, self.sql).rows


def slept(seconds):
    """Make an SQL function that takes one step of so long."""

    def step():
        event = threading.Event()
        event.wait(seconds)
        return 1

    return step


async def test_a_write_of_one_long_step_runs_on_the_loop_only_once(tmp_path):
    async with GroupCommitWriter(str(tmp_path / "a.db")) as writer:
        await writer.execute("CREATE TABLE t (a)")
        await writer.run(
            lambda connection: connection.create_function("long_step", 0, slept(3 * LOOP_STATEMENT_S)), key="function"
        )
        here = threading.current_thread()
        operation = Traced("INSERT INTO t SELECT long_step()")
        for _ in range(3):
            await writer.run(operation, key="long")
        assert [thread is here for thread in operation.threads] == [True, False, False]
        assert (await writer.execute("SELECT count(*) FROM t")).rows == [(3,)]


@pytest.mark.parametrize("sql", ["DELETE FROM t", "/* all */ delete from t", "DROP TABLE t", "DELETE FROM t WHERE 1"])
async def test_a_whole_table_is_emptied_on_the_writing_thread(tmp_path, sql):
    threads = []
    async with GroupCommitWriter(str(tmp_path / "a.db")) as writer:
        await writer.execute("CREATE TABLE t (a)")
        for _ in range(2):
            await writer.execute("INSERT INTO t VALUES (1)")
            await writer.run(
                lambda connection: connection.set_trace_callback(
                    lambda text: threads.append(threading.current_thread()) if text == sql else None
                )
            )
            await writer.execute(sql)
            await writer.execute("CREATE TABLE IF NOT EXISTS t (a)")
        assert (await writer.execute("SELECT * FROM t")).rows == []
    assert len(threads) == 2
    # What names its rows starts on the loop's thread; a busy machine may make the second time look slow.
    here = [thread is threading.current_thread() for thread in threads]
    assert here[0] if sql.endswith("WHERE 1") else not any(here)


async def test_a_read_of_one_long_step_runs_on_the_loop_only_once(tmp_path):
    async with GroupCommitWriter(str(tmp_path / "a.db")):
        statements = Statements()
        reader = LoopReader(str(tmp_path / "a.db"), statements)
        long, short = statements.of("SELECT trim(?, ?)"), statements.of("SELECT 1")
        # Each letter is compared with the whole list before it is found: 2 * 10^7 comparisons in one step, 65 ms.
        values = ["a" * 16_000, "b" * 1300 + "a"]
        started = perf_counter()
        assert reader.read(long, values).rows == [("",)]
        assert perf_counter() - started > FREEZE_S
        await settle()  # it has used up that turn of the loop
        assert [reader.read(long, values) for _ in range(150)] == [None] * 150
        assert reader.read(short, []).rows == [(1,)]
        reader.close()


@pytest.mark.parametrize(
    "sql, params, value",
    [
        ("SELECT ? LIKE ? AS v", ["a" * 5000, "%a" * LOOP_PATTERN_BYTES + "%"], 1),
        ("SELECT ? GLOB ? AS v", ["a" * 5000, "a*" * LOOP_PATTERN_BYTES], 1),
        ("SELECT length(?) AS v", ["a" * (LOOP_VALUE_BYTES + 1)], LOOP_VALUE_BYTES + 1),
        (f"SELECT length('{'a' * (LOOP_VALUE_BYTES + 1)}') AS v", [], LOOP_VALUE_BYTES + 1),
    ],
    ids=["like", "glob", "parameter", "text"],
)
async def test_what_is_too_large_for_the_loop_is_answered_all_the_same(database, sql, params, value):
    async with running_engine(database) as bus:
        for _ in range(2):
            assert (await call(bus, "query", sql=sql, params=params))["rows"] == [{"v": value}]


async def test_values_too_large_for_the_loop_share_a_commit_too(tmp_path):
    async with GroupCommitWriter(str(tmp_path / "a.db"), value_bytes=LOOP_VALUE_BYTES) as writer:
        await writer.execute("CREATE TABLE t (a)")
        before = writer.batches
        for _ in range(2):
            inserts = [writer.execute("INSERT INTO t VALUES (?)", ["a" * (LOOP_VALUE_BYTES + 1)]) for _ in range(30)]
            await asyncio.gather(*inserts)
        assert writer.batches - before < 10
        assert (await writer.execute("SELECT count(*), min(length(a)) FROM t")).rows == [(60, LOOP_VALUE_BYTES + 1)]


async def test_a_pattern_too_long_for_sqlite_is_a_driver_error(database):
    async with running_engine(database) as bus:
        with pytest.raises(LinklyError, match="pattern too complex") as failure:
            await call(bus, "query", sql="SELECT 'a' LIKE ?", params=["%" * 50_001])
        assert failure.value.code == "DRIVER_ERROR"


async def test_long_texts_are_kept_by_nobody_for_long(database):
    texts = [f"SELECT length('{number:04}{'z' * 400_000}') AS n" for number in range(24)]
    baseline = sys.getrefcount([f"{'z' * 10}"][0])
    async with running_engine(database) as bus:
        for index in range(len(texts)):
            assert (await call(bus, "query", sql=texts[index]))["rows"] == [{"n": 400_004}]
            await call(bus, "execute", sql=texts[index])
        held = {index for index in range(len(texts)) if sys.getrefcount(texts[index]) > baseline}
        assert len(held) * 400_000 <= LONG_TEXTS
