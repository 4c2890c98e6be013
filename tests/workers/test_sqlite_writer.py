"""The group-commit writer on real files: who fails, who waits, and what an answer means."""

import asyncio
import contextlib
import functools
import itertools
import sqlite3
import sys
import threading

import pytest

from linkly.errors import Overloaded
from linkly.testing import settle
from linkly_workers._sqlite import GroupCommitWriter, execute

WAIT_S = 30
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
SLOW = ENDLESS.replace("FROM n)", "FROM n WHERE i < 400000)")
"""Some 50 ms: several times what a statement may take on the loop's thread."""


@pytest.fixture(params=["power", "process"])
def path(request, tmp_path):
    """Path of a new file, whose writer has this durability."""
    file = DatabaseFile(tmp_path / "a.db")
    file.durability = request.param
    return file


class DatabaseFile:
    """One file, and how to open it."""

    durability = "power"

    def __init__(self, file):
        self.file = file

    @contextlib.asynccontextmanager
    async def written(self, *schema):
        async with asyncio.timeout(WAIT_S), GroupCommitWriter(str(self.file), durability=self.durability) as writer:
            for statement in schema or ("CREATE TABLE t (a UNIQUE)",):
                await writer.execute(statement)
            yield writer

    @contextlib.contextmanager
    def beside(self):
        """Open a second connection, as another program does."""
        with contextlib.closing(sqlite3.connect(self.file, isolation_level=None, timeout=0)) as connection:
            yield connection

    def values(self, sql="SELECT a FROM t ORDER BY a"):
        with self.beside() as connection:
            return [row[0] for row in connection.execute(sql)]


def statements(*sqls):
    """Make an operation of several statements."""

    def operation(connection):
        return [execute(connection, sql).rows for sql in sqls]

    return operation


async def outcomes(*calls):
    return await asyncio.gather(*calls, return_exceptions=True)


# --- changes() ----------------------------------------------------------------------------------------------


def changed_rows(limit):
    """Make an operation that updates `limit` rows and answers what its second statement sees of it."""
    return statements(f"UPDATE t SET b = b + 1 WHERE a < {limit}", "SELECT changes(), b FROM t WHERE a = 0")


async def filled(writer):
    await writer.execute("WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 19) "
                         "INSERT INTO t SELECT i, 0 FROM n")  # fmt: skip


async def test_changes_means_the_statement_before_it_in_a_batch_with_neighbours(path):
    async with path.written("CREATE TABLE t (a UNIQUE, b)") as writer:
        await filled(writer)
        before = writer.batches
        results = await asyncio.gather(*(writer.run(changed_rows(limit)) for limit in range(1, 21)))
        assert writer.batches - before < 20, "nobody shared a commit"
        assert [result[1] for result in results] == [[(limit, limit)] for limit in range(1, 21)]


async def test_changes_means_the_statement_before_it_behind_a_failed_neighbour(path):
    async with path.written("CREATE TABLE t (a UNIQUE, b)") as writer:
        await filled(writer)
        failing = statements("UPDATE t SET b = b + 1000", "INSERT INTO t VALUES (0, 0)")
        for attempt in range(2):  # the second goes to the writing thread at once
            calls = [writer.run(changed_rows(limit)) for limit in range(1, 21)]
            calls.insert(10, writer.run(failing))
            results = await outcomes(*calls)
            assert isinstance(results.pop(10), sqlite3.IntegrityError)
            assert [result[1] for result in results] == [[(n, n + attempt * 20)] for n in range(1, 21)]


# --- who fails ----------------------------------------------------------------------------------------------


async def failing_among_neighbours(writer, failing):
    """Run ten inserts and, in their middle, what fails; three times, because a failure changes what comes after it."""
    for attempt in range(3):
        numbers = range(attempt * 10, attempt * 10 + 10)
        calls = [
            writer.execute("INSERT INTO t VALUES (?)", [number])
            if number % 2
            else writer.run(statements(f"INSERT INTO t VALUES ({number})", "SELECT 1"))
            for number in numbers
        ]
        calls.insert(5, failing())
        before = writer.batches
        results = await outcomes(*calls)
        assert writer.batches - before < len(calls), "nobody shared a commit"
        error = results.pop(5)
        assert not any(isinstance(result, BaseException) for result in results), results
        yield error


@pytest.mark.parametrize("verb", ["INSERT", "INSERT OR ABORT", "INSERT OR FAIL", "INSERT OR ROLLBACK"])
@pytest.mark.parametrize("kind", ["one statement", "in the middle", "at the end"])
async def test_a_failing_operation_fails_its_caller_alone(path, verb, kind):
    twice = f"{verb} INTO t VALUES ('taken')"
    async with path.written() as writer:
        await writer.execute(twice)

        def failing():
            if kind == "one statement":
                return writer.execute(twice)
            after = ["INSERT INTO t VALUES ('after')"] if kind == "in the middle" else []
            return writer.run(statements("INSERT INTO t VALUES ('before')", twice, *after))

        async for error in failing_among_neighbours(writer, failing):
            assert isinstance(error, sqlite3.IntegrityError)
    assert path.values() == [*range(30), "taken"]


@pytest.mark.parametrize("kind", ["one statement", "several"])
async def test_a_foreign_key_that_is_checked_at_the_commit_fails_its_own_caller_alone(path, kind):
    child = "CREATE TABLE child (a REFERENCES t (a) DEFERRABLE INITIALLY DEFERRED)"
    orphan = "INSERT INTO child VALUES ('nobody')"
    async with path.written("CREATE TABLE t (a PRIMARY KEY)", child) as writer:

        def failing():
            return writer.execute(orphan) if kind == "one statement" else writer.run(statements(orphan, "SELECT 1"))

        async for error in failing_among_neighbours(writer, failing):
            assert isinstance(error, sqlite3.IntegrityError)
            assert error.sqlite_errorname == "SQLITE_CONSTRAINT_FOREIGNKEY"
        # In one operation the child may come before its parent.
        await writer.run(statements("INSERT INTO child VALUES ('x')", "INSERT INTO t VALUES ('x')"))
    assert path.values() == [*range(30), "x"]
    assert path.values("SELECT a FROM child") == ["x"]


async def test_an_error_that_an_operation_raises_itself_undoes_its_statements(path):
    async with path.written() as writer:

        def operation(connection):
            connection.execute("INSERT INTO t VALUES ('undone')")
            raise LookupError("no such thing")

        async for error in failing_among_neighbours(writer, functools.partial(writer.run, operation)):
            assert isinstance(error, LookupError)
    assert path.values() == list(range(30))


# --- what is slow -------------------------------------------------------------------------------------------


def traced(*sqls):
    """Make an operation that notes on which thread it runs."""
    run, threads = statements(*sqls), []

    def operation(connection):
        threads.append(threading.current_thread())
        return run(connection)

    operation.threads = threads
    return operation


async def test_a_slow_statement_is_finished_on_the_writing_thread(path):
    async with path.written() as writer:
        operation = traced("INSERT INTO t VALUES (NULL)", SLOW)
        here = threading.current_thread()
        assert (await writer.run(operation, key="slow"))[1] == [(400_000,)]
        assert [thread is here for thread in operation.threads] == [True, False]
        assert (await writer.run(operation, key="slow"))[1] == [(400_000,)]
        assert [thread is here for thread in operation.threads] == [True, False, False]
        quick = traced("SELECT 1")
        await writer.run(quick, key="quick")
        assert quick.threads == [here]
    assert path.values() == [None, None]


async def test_a_statement_that_was_slow_once_is_quick_again_when_it_is(path):
    async with path.written() as writer:
        here = threading.current_thread()
        await writer.run(traced("INSERT INTO t VALUES (NULL)", SLOW), key="hiccup")
        quick = traced("INSERT INTO t VALUES (NULL)")
        for _ in range(2):
            await writer.run(quick, key="hiccup")
        assert [thread is here for thread in quick.threads] == [False, True]
    assert path.values() == [None, None, None]


async def test_neighbours_of_a_statement_that_was_too_slow_are_written_with_it(path):
    async with path.written() as writer:
        for number in range(5):
            slow = f"INSERT INTO t SELECT {number}0 FROM ({SLOW})"  # another text each time: nobody remembers it
            calls = [writer.execute("INSERT INTO t VALUES (?)", [number * 10 + each]) for each in range(1, 10)]
            calls.insert(number, writer.execute(slow))
            results = await asyncio.gather(*calls)
            assert {result.affected_rows for result in results} == {1}
    assert path.values() == list(range(50))


async def test_a_begin_is_never_stopped_by_the_time_that_a_statement_before_it_had(path, monkeypatch):
    """A BEGIN that is stopped leaves its transaction open, and each later one fails inside it.

    SQLite looks at the clock every so many steps of a statement, all its runs counted together, so that it takes some
    hundred commits until it looks in the middle of a BEGIN. This clock shows another second at each look.
    """
    monkeypatch.setattr("linkly_workers._sqlite.connection.perf_counter", functools.partial(next, itertools.count()))
    async with path.written() as writer:
        for number in range(500):
            # Another text each time: of all statements only BEGIN is run often enough.
            assert (await writer.execute(f"INSERT INTO t VALUES ({number})")).affected_rows == 1
    assert path.values() == list(range(500))


async def test_a_value_too_large_for_the_loops_thread_is_written_all_the_same(path):
    async with path.written() as writer:
        await writer.execute("INSERT INTO t VALUES (randomblob(3000000))")
        await writer.execute("INSERT INTO t VALUES (?)", [b"x" * 2_000_000])
    assert sorted(path.values("SELECT length(a) FROM t")) == [2_000_000, 3_000_000]


async def test_nothing_stays_of_a_cancelled_callers_statement(path):
    async with path.written() as writer:
        loop, started = asyncio.get_running_loop(), asyncio.Event()

        def operation(connection):
            connection.execute("INSERT INTO t VALUES ('undone')")
            if threading.current_thread() is not threading.main_thread():
                loop.call_soon_threadsafe(started.set)
            connection.execute(ENDLESS).fetchall()

        call = asyncio.ensure_future(writer.run(operation))
        await started.wait()
        behind = asyncio.ensure_future(writer.execute("INSERT INTO t VALUES (1)"))
        await settle()
        assert not behind.done()
        call.cancel()
        assert (await behind).affected_rows == 1
        assert call.cancelled()
    assert path.values() == [1]


async def test_a_statement_that_is_out_of_time_is_stopped_or_never_starts(path):
    async with path.written() as writer:
        slow = writer.execute(f"INSERT INTO t {ENDLESS}", timeout_s=0.2)
        waiting = writer.execute("INSERT INTO t VALUES ('late')", timeout_s=0.1)
        patient = writer.execute("INSERT INTO t VALUES ('patient')")
        results = await outcomes(slow, waiting, patient)
        # The second may have been in the batch of the first: then it is written, and answered so.
        assert isinstance(results[0], TimeoutError)
        assert results[2].affected_rows == 1
        written = [] if isinstance(results[1], TimeoutError) else ["late"]
    assert path.values() == [*written, "patient"]


# --- what an answer means -----------------------------------------------------------------------------------


async def test_an_answered_write_is_visible_to_others_at_once(path):
    async with path.written() as writer:
        with path.beside() as beside:

            async def write(number):
                if number % 2:
                    await writer.execute("INSERT INTO t VALUES (?)", [number])
                else:
                    await writer.run(statements(f"INSERT INTO t VALUES ({number})", "SELECT 1"))
                return beside.execute("SELECT COUNT(*) FROM t WHERE a = ?", [number]).fetchone()[0]

            assert await asyncio.gather(*(write(number) for number in range(500))) == [1] * 500
        assert writer.batches < writer.operations


async def test_what_follows_a_commit_is_told_in_the_order_of_the_commits(path):
    async with path.written("CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT, b UNIQUE)") as writer:
        told = []

        def inserting(value, *more):
            def operation(connection):
                row = connection.execute("INSERT INTO t (b) VALUES (?)", [value]).lastrowid
                for sql in more:
                    connection.execute(sql).fetchall()
                return row

            return operation

        await writer.run(inserting("taken"))
        calls = []
        for number in range(300):
            if number % 50 == 25:
                operation = inserting(number, SLOW)
            elif number % 20 == 10:
                operation = inserting(number, "INSERT INTO t (b) VALUES ('taken')")
            else:
                operation = inserting(number)
            calls.append(writer.run(operation, on_commit=told.append, key=number))
        results = await outcomes(*calls)
        committed = [result for result in results if not isinstance(result, BaseException)]
        assert len(committed) == 285
        assert told == sorted(told)
        assert told == sorted(committed)
    assert path.values("SELECT a FROM t WHERE b <> 'taken' ORDER BY a") == told


async def test_what_follows_a_commit_is_told_without_its_caller(path):
    async with path.written() as writer:
        told = []

        def operation(connection):
            connection.execute("INSERT INTO t VALUES (1)")
            call.cancel()
            return "written"

        call = asyncio.ensure_future(writer.run(operation, on_commit=told.append))
        await asyncio.wait([call])
        assert call.cancelled()
        await writer.execute("SELECT 1")
        assert told == ["written"]
    assert path.values() == [1]


async def test_what_waits_at_the_end_is_written(path):
    async with path.written() as writer:
        calls = [asyncio.ensure_future(writer.execute("INSERT INTO t VALUES (?)", [number])) for number in range(2000)]
        await settle(1)
    assert all(call.done() for call in calls)
    await asyncio.gather(*calls)
    assert path.values() == list(range(2000))
    with pytest.raises(Overloaded, match="being closed"):
        await writer.execute("INSERT INTO t VALUES (-1)")


# --- others beside it ---------------------------------------------------------------------------------------

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("INSERT INTO t VALUES ('theirs')")
print("held", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
"""


async def test_writers_wait_for_a_lock_that_another_process_holds_for_a_moment(path):
    async with path.written() as writer:
        pipe = asyncio.subprocess.PIPE
        other = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HOLDER, str(path.file), stdin=pipe, stdout=pipe
        )
        assert await other.stdout.readline() == b"held\n"
        calls = [asyncio.ensure_future(writer.execute("INSERT INTO t VALUES (?)", [number])) for number in range(20)]
        await settle()
        assert not any(call.done() for call in calls)
        await other.communicate(b"\n")
        assert {result.affected_rows for result in await asyncio.gather(*calls)} == {1}
        assert other.returncode == 0
    assert path.values() == [*range(20), "theirs"]


async def test_a_reader_beside_the_writer_keeps_its_snapshot(path):
    async with path.written() as writer:
        with path.beside() as beside:
            await writer.execute("INSERT INTO t VALUES (1)")
            beside.execute("BEGIN")
            assert beside.execute("SELECT COUNT(*) FROM t").fetchone() == (1,)
            await asyncio.gather(*(writer.execute("INSERT INTO t VALUES (?)", [number]) for number in range(2, 50)))
            assert beside.execute("SELECT COUNT(*) FROM t").fetchone() == (1,)
            beside.execute("COMMIT")
            assert beside.execute("SELECT COUNT(*) FROM t").fetchone() == (49,)
