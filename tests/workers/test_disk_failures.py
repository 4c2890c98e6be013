"""What is answered when the disk refuses a commit: never "nothing was written" of what a restart would find.

A file system that fails on demand is put under SQLite itself (a VFS, https://sqlite.org/vfs.html); what a `kill -9`
would leave is a copy of the files as they are.
"""

import asyncio
import ctypes
import itertools
import random
import shutil
import sqlite3

import pytest

from linkly import LinklyError
from linkly.errors import OutcomeUnknown
from linkly.testing import running_engine
from linkly_workers._sqlite import GroupCommitWriter
from linkly_workers._sqlite import execute as run
from linkly_workers.database.sqlite.transaction import InteractiveTransaction
from linkly_workers.state.errors import StoreError
from linkly_workers.state.stores.sqlite import SqliteStore
from support.database_calls import call, database_worker

IOERR_FSYNC, IOERR_WRITE = 1034, 778
_native = pytest.importorskip("_sqlite3")
if not hasattr(_native, "__file__"):
    pytest.skip("SQLite is a part of the interpreter: its file system cannot be replaced", allow_module_level=True)

_sqlite = ctypes.CDLL(_native.__file__)
if not hasattr(_sqlite, "sqlite3_vfs_find"):
    pytest.skip("SQLite is hidden in its module: its file system cannot be replaced", allow_module_level=True)
_pointer = ctypes.c_void_p
_OPEN = ctypes.CFUNCTYPE(ctypes.c_int, _pointer, _pointer, _pointer, ctypes.c_int, _pointer)
_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, _pointer, ctypes.c_int)
_WRITE = ctypes.CFUNCTYPE(ctypes.c_int, _pointer, _pointer, ctypes.c_int, ctypes.c_int64)


class _Vfs(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_int),
        ("file_bytes", ctypes.c_int),
        ("path_bytes", ctypes.c_int),
        ("next", _pointer),
        ("name", ctypes.c_char_p),
        ("data", _pointer),
        ("open", _OPEN),
        ("others", _pointer * 15),
    ]


class _Methods(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_int),
        ("close", _pointer),
        ("read", _pointer),
        ("write", _WRITE),
        ("truncate", _pointer),
        ("sync", _SYNC),
        ("others", _pointer * 13),
    ]


class FailingDisk:
    """The file system below every connection that is opened while it is registered.

    Attributes:
        failing: How many of the next syncs fail.
        broken: From the next failing sync on writes fail as well.
    """

    def __init__(self):
        self.failing = 0
        self.broken = False
        self._writes_fail = False
        self._methods = {}
        _sqlite.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
        self._real = _sqlite.sqlite3_vfs_find(None).contents
        self.vfs = _Vfs.from_buffer_copy(self._real)
        self.vfs.name = b"failing"
        self.vfs.open = _OPEN(self._open)

    def _open(self, vfs, name, file, flags, flags_out):
        status = self._real.open(vfs, name, file, flags, flags_out)
        methods = ctypes.cast(file, ctypes.POINTER(_pointer))
        if status == 0 and methods[0]:
            methods[0] = ctypes.addressof(self._hooked(methods[0]))
        return status

    def _hooked(self, address):
        if address not in self._methods:
            real = _Methods.from_address(address)
            hooked = _Methods.from_buffer_copy(real)

            def sync(file, flags):
                if self.failing:
                    self.failing -= 1
                    self._writes_fail = self.broken
                    return IOERR_FSYNC
                return real.sync(file, flags)

            def write(file, data, size, offset):
                return IOERR_WRITE if self._writes_fail else real.write(file, data, size, offset)

            hooked.sync, hooked.write = _SYNC(sync), _WRITE(write)
            self._methods[address] = hooked
        return self._methods[address]

    def repaired(self):
        self.failing, self.broken, self._writes_fail = 0, False, False


_kept = []


@pytest.fixture
def disk():
    """Return a file system that fails when it is told to."""
    failing = FailingDisk()
    _kept.append(failing)  # SQLite may look at it for as long as the process lives
    _sqlite.sqlite3_vfs_register(ctypes.byref(failing.vfs), 1)
    yield failing
    _sqlite.sqlite3_vfs_unregister(ctypes.byref(failing.vfs))


def after_a_kill(path, folder, sql):
    """Return what a restart would find."""
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", folder / f"copy.db{suffix}")
    connection = sqlite3.connect(folder / "copy.db")
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


async def outcome(awaitable):
    try:
        await awaitable
    except LinklyError as error:
        return error.code
    except sqlite3.Error as error:
        return error.sqlite_errorname
    return "done"


def truthful(answer, written):
    return answer == "outcome_unknown" or (answer == "done") == written


@pytest.mark.parametrize("writes", [1, 30])
@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("failing", [1, 2, 3, 1_000_000])
async def test_an_answer_after_a_failed_sync_is_what_a_restart_would_find(disk, tmp_path, failing, broken, writes):
    path = str(tmp_path / "a.db")
    async with GroupCommitWriter(path) as writer:
        await writer.execute("CREATE TABLE t (a)")
        disk.failing, disk.broken = failing, broken
        calls = [outcome(writer.execute("INSERT INTO t VALUES (?)", [number])) for number in range(writes)]
        answers = await asyncio.gather(*calls)
        found = {row[0] for row in after_a_kill(path, tmp_path, "SELECT a FROM t")}
        assert all(truthful(answer, number in found) for number, answer in enumerate(answers)), answers
        disk.repaired()


async def test_a_commit_that_the_disk_refuses_for_good_is_answered_outcome_unknown(disk, tmp_path):
    path = str(tmp_path / "a.db")
    async with GroupCommitWriter(path) as writer:
        await writer.execute("CREATE TABLE t (a)")
        disk.failing, disk.broken = 1_000_000, True
        with pytest.raises(OutcomeUnknown, match="may be written or not"):
            await writer.execute("INSERT INTO t VALUES (1)")
        assert after_a_kill(path, tmp_path, "SELECT a FROM t") == [(1,)]
        disk.repaired()


async def test_after_an_unknown_outcome_the_writer_settles_it_before_anything_else(disk, tmp_path):
    path = str(tmp_path / "a.db")
    async with GroupCommitWriter(path) as writer:
        await writer.execute("CREATE TABLE t (a PRIMARY KEY)")
        disk.failing, disk.broken = 1_000_000, True
        assert await outcome(writer.execute("INSERT INTO t VALUES (1)")) == "outcome_unknown"
        # It has not run: nothing of it can be there.
        assert await outcome(writer.execute("INSERT INTO t VALUES (2)")) in ("SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC")
        disk.repaired()
        # A write that changes nothing, and so overwrites nothing by itself.
        assert await outcome(writer.execute("DELETE FROM t WHERE a = 99")) == "done"
        assert after_a_kill(path, tmp_path, "SELECT a FROM t") == []
        assert not writer.file.doubtful


async def test_a_failing_constraint_on_commit_is_no_unknown_outcome(tmp_path):
    async with GroupCommitWriter(str(tmp_path / "a.db")) as writer:
        await writer.execute("CREATE TABLE a (id PRIMARY KEY)")
        await writer.execute("CREATE TABLE b (a REFERENCES a (id) DEFERRABLE INITIALLY DEFERRED)")
        assert await outcome(writer.execute("INSERT INTO b VALUES (7)")) == "SQLITE_CONSTRAINT_FOREIGNKEY"
        assert not writer.file.doubtful


async def execute(bus):
    await call(bus, "execute", sql="INSERT INTO t VALUES (1)")


async def transaction(bus):
    await call(bus, "transaction", statements=["INSERT INTO t VALUES (0)", "INSERT INTO t VALUES (1)"])


@pytest.fixture
def file_database(tmp_path):
    url = f"sqlite:{tmp_path}/a.db"
    return database_worker(url)


@pytest.mark.parametrize("write", [execute, transaction])
async def test_the_database_worker_says_outcome_unknown_over_the_bus(disk, run, file_database, write):
    async with run(file_database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        disk.failing, disk.broken = 1_000_000, True
        assert await outcome(write(bus)) == "outcome_unknown"
        disk.repaired()
        await call(bus, "execute", sql="INSERT INTO t VALUES (2)")
        assert (await call(bus, "query", sql="SELECT a FROM t"))["rows"] == [{"a": 2}]


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("failing", [1, 2, 1_000_000])
async def test_committing_an_interactive_transaction_answers_what_a_restart_would_find(
    disk, file_database, tmp_path, failing, broken
):
    async with running_engine(file_database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        name = (await call(bus, "beginTransaction"))["transaction"]["id"]
        await call(bus, "transactionExecute", transaction_id=name, sql="INSERT INTO t VALUES (1)")
        disk.failing, disk.broken = failing, broken
        answer = await outcome(call(bus, "commitTransaction", transaction_id=name))
        found = after_a_kill(tmp_path / "a.db", tmp_path, "SELECT a FROM t")
        assert truthful(answer, bool(found)), (answer, found)
        assert answer != "done"
        disk.repaired()
        await call(bus, "execute", sql="INSERT INTO t VALUES (2)")
        assert (await call(bus, "query", sql="SELECT a FROM t"))["rows"] == [{"a": 2}]


async def test_the_database_is_not_ready_while_the_disk_refuses_to_write(disk, file_database):
    async with running_engine(file_database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        disk.failing, disk.broken = 1_000_000, True
        assert await outcome(execute(bus)) == "outcome_unknown"
        answer = await bus.trigger("database::readiness")
        assert answer == {"ready": False, "reasons": ["database `primary`: the disk refuses to write"]}
        disk.repaired()
        await execute(bus)
        assert await bus.trigger("database::readiness") == {"ready": True, "reasons": []}


@pytest.mark.parametrize("writes", [1, 30])
async def test_after_an_unknown_outcome_the_durable_state_goes_on_from_what_is_true(disk, tmp_path, writes):
    store = SqliteStore(str(tmp_path))
    async with store.opened():
        await store.write("s", "0", lambda _: b"0", lambda old, new: None)
        disk.failing, disk.broken = 1_000_000, True
        calls = [store.write("s", str(n), lambda _: b"1", lambda old, new: None) for n in range(writes)]
        assert {await outcome(each) for each in [asyncio.ensure_future(each) for each in calls]} == {"outcome_unknown"}
        with pytest.raises(StoreError):
            await store.write("s", "later", lambda _: b"1", lambda old, new: None)
        disk.repaired()
        await store.write("s", "next", lambda _: b"2", lambda old, new: None)
        assert store.keys("s") == ["0", "next"]
        found = after_a_kill(tmp_path / "state.db", tmp_path, "SELECT key, value FROM state ORDER BY position")
        assert found == [("0", b"0"), ("next", b"2")]


class Mixture:
    """Writes of every kind, chosen at random: single ones, some with hardly any time, several as one, interactive ones.

    Each answers the values that it wants to write, and what it was told.
    """

    def __init__(self, writer, dice):
        self.writer, self.dice = writer, dice
        self.numbers = itertools.count(step=10)

    def one(self):
        kind = self.dice.choice([self.single, self.single, self.several, self.interactive, self.alone])
        return kind(next(self.numbers))

    async def single(self, number):
        timeout_s = self.dice.choice([None, 5, 0.001, 0.0001])
        try:
            return [number], await outcome(self.writer.execute(INSERT, [number], timeout_s=timeout_s))
        except TimeoutError:
            return [number], "timed out"

    async def several(self, number):
        values = [number + 1, number + 2, number + 3]
        fails = self.dice.random() < 0.2

        def write(connection):
            for value in values:
                run(connection, INSERT, [value])
            if fails:
                run(connection, "INSERT INTO missing VALUES (1)")

        return values, await outcome(self.writer.run(write))

    async def interactive(self, number):
        transaction = InteractiveTransaction(str(number), self.writer, types=lambda *_: (), ended=lambda: None)
        try:
            await transaction.begin(serializable=self.dice.random() < 0.5)
            await transaction.execute(self.writer.statements.of(INSERT), [number])
        except (LinklyError, sqlite3.Error):
            await transaction.roll_back("because it failed")
            return [number], "failed"
        if self.dice.random() < 0.4:
            await transaction.roll_back("because its caller has gone")
            return [number], "rolled back"
        return [number], await outcome(transaction.commit(lambda: None))

    async def alone(self, _):
        return [], await outcome(
            self.writer.execute(self.dice.choice(["VACUUM", "PRAGMA user_version = 3", "SELECT 1"]))
        )


INSERT = "INSERT INTO t VALUES (?)"


@pytest.mark.parametrize("seed", range(10))
async def test_every_answer_of_a_failing_disk_is_what_a_restart_would_find(disk, tmp_path, seed):
    path, dice = str(tmp_path / "a.db"), random.Random(seed)
    told = {}
    async with GroupCommitWriter(path) as writer:
        await writer.execute("CREATE TABLE t (a)")
        mixture = Mixture(writer, dice)
        for _ in range(12):
            if dice.random() < 0.6:
                disk.failing, disk.broken = dice.choice([1, 2, 3, 1_000_000]), dice.random() < 0.5
            for values, answer in await asyncio.gather(*(mixture.one() for _ in range(dice.choice([1, 3, 40])))):
                told.update(dict.fromkeys(values, answer))
            if dice.random() < 0.5:
                disk.repaired()
            found = [row[0] for row in after_a_kill(path, tmp_path, "SELECT a FROM t")]
            assert len(found) == len(set(found))
            untrue = {value: answer for value, answer in told.items() if not truthful(answer, value in found)}
            assert not untrue
        disk.repaired()
