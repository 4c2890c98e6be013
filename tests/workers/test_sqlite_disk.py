"""Which thread waits for the disk: the loop's for large batches on a quick disk, else the writing one."""

import asyncio
import threading

from linkly_workers._sqlite import GroupCommitWriter
from linkly_workers._sqlite.disk import COMMITS_AFTER_STALL, LONGEST_WAIT_S, STALL_S, WAIT_PER_ROW_S, Disk

QUICK_S = 10 * WAIT_PER_ROW_S


def quick_disk():
    disk = Disk()
    disk.committed(QUICK_S)
    return disk


def test_before_the_first_commit_nothing_is_known():
    assert not Disk().is_quick_for(1_000_000)


def test_the_loop_waits_only_for_as_long_as_the_writes_themselves_cost():
    disk = quick_disk()
    assert disk.is_quick_for(11)
    assert not disk.is_quick_for(9)


def test_a_disk_that_becomes_slow_is_left_to_the_thread():
    disk = quick_disk()
    for _ in range(100):
        disk.committed(STALL_S)
    assert not disk.is_quick_for(11)


def test_after_a_stall_the_thread_waits_for_a_while():
    disk = quick_disk()
    disk.committed(STALL_S * 2)
    for _ in range(COMMITS_AFTER_STALL):
        assert not disk.is_quick_for(11)
        disk.committed(QUICK_S)
    assert disk.is_quick_for(11)


async def commits_of(writer, disk):
    """List the thread of each COMMIT from now on; make the disk quick for any batch, whatever commits have taken."""
    threads = []

    def trace(sql):
        if sql.startswith("COMMIT"):
            threads.append(threading.current_thread())

    await writer.run(lambda connection: connection.set_trace_callback(trace))
    threads.clear()
    while not disk.is_quick_for(1):
        disk.committed(0)
    return threads


async def test_a_writer_commits_on_the_loop_on_a_quick_disk_only(tmp_path):
    async with GroupCommitWriter(str(tmp_path / "a.db"), disk=(disk := Disk())) as writer:
        await writer.execute("CREATE TABLE t (a)")
        threads = await commits_of(writer, disk)
        await writer.execute("INSERT INTO t VALUES (1)")
        disk.committed(2 * STALL_S)
        await writer.execute("INSERT INTO t VALUES (2)")
        assert [thread is threading.main_thread() for thread in threads] == [True, False]


def test_the_loop_does_not_wait_long_however_many_rows_have_changed():
    disk = Disk()
    disk.committed(LONGEST_WAIT_S * 1.01)
    assert not disk.is_quick_for(1_000_000)


async def test_a_writer_tells_the_disk_how_many_rows_share_a_commit(tmp_path):
    sizes = []

    class Asked(Disk):
        def is_quick_for(self, rows):
            sizes.append(rows)
            return super().is_quick_for(rows)

    async with GroupCommitWriter(str(tmp_path / "a.db"), disk=Asked()) as writer:
        await writer.execute("CREATE TABLE t (a)")
        assert sizes == [1]
        await writer.execute("INSERT INTO t VALUES (1), (2), (3)")
        assert sizes == [1, 3]
        await writer.execute("DELETE FROM t WHERE a > 1")
        assert sizes == [1, 3, 2]
        await asyncio.gather(*(writer.execute("INSERT INTO t VALUES (?)", (number,)) for number in range(100)))
        assert max(sizes) > 1


async def test_who_breaks_a_commit_on_the_loop_fails_alone(tmp_path):
    async with GroupCommitWriter(str(tmp_path / "a.db"), disk=(disk := Disk())) as writer:
        await writer.execute("CREATE TABLE t (a PRIMARY KEY)")
        await writer.execute("CREATE TABLE child (a REFERENCES t (a) DEFERRABLE INITIALLY DEFERRED)")
        threads = await commits_of(writer, disk)
        # The first, so that it is in the first batch, however few a slow machine takes into that.
        calls = [writer.execute("INSERT INTO child VALUES ('nobody')")]
        calls += [writer.execute("INSERT INTO t VALUES (?)", (number,)) for number in range(100)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [index for index, result in enumerate(results) if isinstance(result, Exception)] == [0]
        assert threads[0] is threading.main_thread()
        rows = await writer.run(lambda connection: connection.execute("SELECT COUNT(*) FROM t").fetchone()[0])
        assert rows == 100
