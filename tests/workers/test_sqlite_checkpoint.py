"""The write-ahead log of a file under load: it is folded back into the file, and does not grow for ever."""

import asyncio
import itertools

import pytest

from linkly_workers._sqlite import GroupCommitWriter

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


def beginning(log):
    """Return the salts in a log's header, which change whenever it starts from its beginning again."""
    with log.open("rb") as file:
        return file.read(24)[16:]
