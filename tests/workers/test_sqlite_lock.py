"""Another program has locked the file: who is answered when, and what becomes of the writes."""

import asyncio
import contextlib
import sqlite3

import pytest

from linkly_workers._sqlite import GroupCommitWriter, execute

PATIENCE_S = 0.4
WAIT_S = 30
SQLITES_PATIENCE_S = 4.5
"""A little less than the time that SQLite itself would wait at a stretch."""

FAR_TOO_LONG_S = 9
"""Four waits in a row, one for each caller, with SQLite's own patience would take 20 s."""


@contextlib.contextmanager
def other_program(path):
    """Open a connection that holds the write lock."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@pytest.fixture
def path(tmp_path):
    """Path of a file with a table."""
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (a)")
    return str(tmp_path / "a.db")


def insert(number):
    return lambda connection: execute(connection, f"INSERT INTO t VALUES ({number})").affected_rows


async def values(writer):
    return [row[0] for row in (await writer.execute("SELECT a FROM t ORDER BY a")).rows]


async def test_whose_time_is_over_is_told_so_while_the_others_wait_on(path):
    async with asyncio.timeout(WAIT_S), GroupCommitWriter(path, lock_patience_s=WAIT_S) as writer:
        with other_program(path) as other:
            waiting = [writer.execute("INSERT INTO t VALUES (?)", [number]) for number in range(3)]
            short = [
                writer.execute("INSERT INTO t VALUES ('late')", timeout_s=0.02),
                writer.run(insert("'late'"), timeout_s=0.02),
            ]
            began = asyncio.get_running_loop().time()
            results = await asyncio.gather(*short, return_exceptions=True)
            assert asyncio.get_running_loop().time() - began < SQLITES_PATIENCE_S
            assert [type(result) for result in results] == [TimeoutError, TimeoutError]
            gone = writer.execute("INSERT INTO t VALUES ('gone')")
            gone.cancel()
            assert not any(call.done() for call in waiting)
            other.execute("COMMIT")
        await asyncio.gather(*waiting)
        assert await values(writer) == [0, 1, 2]


async def test_all_who_wait_too_long_fail_together(path):
    async with asyncio.timeout(WAIT_S), GroupCommitWriter(path, lock_patience_s=PATIENCE_S) as writer:
        loop = asyncio.get_running_loop()
        for _ in range(2):
            began = loop.time()
            with other_program(path):
                calls = [writer.execute("INSERT INTO t VALUES (?)", [number]) for number in range(4)]
                calls += [writer.run(insert(number)) for number in range(4)]
                calls += [writer.execute("VACUUM"), writer.execute("PRAGMA user_version = 3")]
                results = await asyncio.gather(*calls, return_exceptions=True)
            assert PATIENCE_S <= loop.time() - began < FAR_TOO_LONG_S
            expected = f"another program has locked {path} for {PATIENCE_S} s; nothing was written; try again"
            assert {str(result) for result in results} == {expected}
            assert {result.sqlite_errorcode for result in results} == {sqlite3.SQLITE_BUSY}
        assert await values(writer) == []
        await writer.execute("INSERT INTO t VALUES (1)")
        assert await values(writer) == [1]


async def test_a_lock_of_long_ago_takes_nothing_from_the_patience_with_the_next(path):
    async with asyncio.timeout(WAIT_S), GroupCommitWriter(path, lock_patience_s=1) as writer:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with other_program(path), pytest.raises(TimeoutError):
            await writer.execute("INSERT INTO t VALUES ('late')", timeout_s=0.06)
        while loop.time() < began + 1:
            await writer.execute("SELECT 1")
        with other_program(path) as other:
            call = writer.execute("INSERT INTO t VALUES (1)")
            with pytest.raises(TimeoutError):
                await writer.execute("INSERT INTO t VALUES ('late')", timeout_s=0.06)
            assert not call.done()
            other.execute("COMMIT")
        await call
        assert await values(writer) == [1]


async def test_closing_waits_for_a_lock_only_once(path):
    loop = asyncio.get_running_loop()
    with other_program(path):
        async with asyncio.timeout(WAIT_S), GroupCommitWriter(path, lock_patience_s=PATIENCE_S) as writer:
            calls = [asyncio.ensure_future(writer.execute("INSERT INTO t VALUES (?)", [n])) for n in range(4)]
            began = loop.time()
        assert loop.time() - began < FAR_TOO_LONG_S
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} == {sqlite3.OperationalError}
