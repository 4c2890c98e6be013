"""The write-ahead log of a file under load: it is folded back into the file, and does not grow for ever."""

import asyncio
import contextlib
import itertools

import pytest

from linkly_workers._sqlite import GroupCommitWriter, connect
from linkly_workers._sqlite.checkpoint import LOG_BYTES

WAIT_S = 60
RESTARTS = 12


@pytest.mark.parametrize("pages", [1, 20], ids=["small writes", "large writes"])
async def test_the_write_ahead_log_is_folded_back_again_and_again_under_load(tmp_path, pages):
    log, beginnings, logged = tmp_path / "a.db-wal", set(), 0
    async with asyncio.timeout(WAIT_S), GroupCommitWriter(str(tmp_path / "a.db"), durability="process") as writer:
        await writer.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")

        async def write(caller):
            nonlocal logged
            for number in itertools.count():
                value = [caller * 50 + number % 50, pages * 4096]
                await writer.execute("REPLACE INTO t VALUES (?, zeroblob(?))", value)
                logged += pages * 4096
                beginnings.add(beginning(log))
                if len(beginnings) > RESTARTS:
                    return

        await asyncio.gather(*(write(caller) for caller in range(20)))
        assert log.stat().st_size < logged / 2, "the log has kept what was folded back"
    assert not log.exists()


async def test_the_log_is_folded_back_when_all_writes_are_those_of_turns(tmp_path):
    path, beginnings = str(tmp_path / "a.db"), set()
    async with asyncio.timeout(WAIT_S), GroupCommitWriter(path, durability="process") as writer:
        await writer.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
        with contextlib.closing(connect(path, durability="process")) as own:  # as an interactive transaction has
            own.own("PRAGMA wal_autocheckpoint = 0")
            while len(beginnings) <= RESTARTS:
                turn = await writer.turn()
                for number in range(100):
                    await asyncio.to_thread(own.execute, "REPLACE INTO t VALUES (?, zeroblob(4000))", (number,))
                turn.end()
                beginnings.add(beginning(tmp_path / "a.db-wal"))


async def test_a_log_that_one_large_write_made_long_is_cut(tmp_path):
    log = tmp_path / "a.db-wal"
    async with asyncio.timeout(WAIT_S), GroupCommitWriter(str(tmp_path / "a.db"), durability="process") as writer:
        await writer.execute("CREATE TABLE t (a)")
        numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8000)"
        await writer.execute(f"{numbers} INSERT INTO t SELECT zeroblob(4000) FROM n")
        assert log.stat().st_size > LOG_BYTES
        while log.stat().st_size > LOG_BYTES:
            await writer.execute("INSERT INTO t VALUES (1)")


def beginning(log):
    """Return the salts in a log's header, which change whenever it starts from its beginning again."""
    with log.open("rb") as file:
        return file.read(24)[16:]
