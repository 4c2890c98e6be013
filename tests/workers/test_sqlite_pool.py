"""The connections that long queries run on, at the end of their database."""

import asyncio
import sqlite3

import pytest

from linkly.clock import SystemClock
from linkly_workers._sqlite import Statements
from linkly_workers.database.backends import PoolSettings
from linkly_workers.database.sqlite import pool as pool_module
from linkly_workers.database.sqlite.pool import ReaderPool
from linkly_workers.database.sqlite.reader import Reader

ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT MAX(i) FROM n"


@pytest.fixture
def statements():
    """Compiled texts."""
    return Statements()


@pytest.fixture
def pool(tmp_path, statements):
    """A pool over an empty file."""
    path = f"{tmp_path}/a.db"
    sqlite3.connect(path).close()
    return ReaderPool("primary", lambda: Reader(path, statements), PoolSettings(), SystemClock())


async def test_a_reader_whose_caller_goes_while_the_pool_closes_is_closed(pool):
    begun = asyncio.Event()

    async def work(reader):
        begun.set()
        await asyncio.Event().wait()

    caller = asyncio.create_task(pool.using(work))
    await begun.wait()
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0)
    caller.cancel()
    await closing
    assert not [task for task in asyncio.all_tasks() if task.get_coro().__name__ == "close"]
    await asyncio.wait([caller])


async def test_a_statement_without_an_end_is_stopped_when_the_pool_closes(pool, statements, monkeypatch):
    monkeypatch.setattr(pool_module, "CLOSE_S", 0.1)
    begun = asyncio.Event()

    async def work(reader):
        begun.set()
        return await reader.read(statements.of(ENDLESS), [])

    caller = asyncio.create_task(pool.using(work))
    await begun.wait()
    await pool.close()
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        await caller
