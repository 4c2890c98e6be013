"""A data file that is deleted or replaced while it is open: nothing is acknowledged into the void from then on."""

import asyncio
import os
import shutil
import sqlite3

import httpx
import pytest

from linkly import LinklyError, Worker, function, readiness
from linkly.errors import OutcomeUnknown
from linkly.schema import read_settings
from linkly.testing import ManualClock, running_engine, settle
from linkly_workers._sqlite import GroupCommitWriter
from linkly_workers._sqlite.data_file import DataFileLost
from linkly_workers._sqlite.writer import STANDSTILL_S
from linkly_workers.http import HttpSettings, HttpWorker
from linkly_workers.state import StateSettings, StateWorker
from support.database_calls import call, database_worker, running


def delete(path):
    path.unlink()


def delete_its_log(path):
    path.with_name(f"{path.name}-wal").unlink()


def delete_its_folder(path):
    shutil.rmtree(path.parent)


def move(path):
    path.rename(path.with_suffix(".moved"))


def replace(path):
    other = path.with_suffix(".other")
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()
    os.replace(other, path)
    for suffix in ("-wal", "-shm"):  # they belong to the old file: SQLite would apply them to the new one
        path.with_name(path.name + suffix).unlink()


LOSSES = [delete, delete_its_log, delete_its_folder, move, replace]


@pytest.fixture
def path(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "a.db"


@pytest.fixture
def file_database(path):
    return database_worker(f"sqlite:{path}")


async def code_of(awaitable):
    with pytest.raises(LinklyError) as failure:
        await awaitable
    return failure.value.code


@pytest.mark.parametrize("lose", LOSSES)
async def test_no_write_is_acknowledged_once_the_file_is_lost(run, file_database, path, lose):
    async with run(file_database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        lose(path)
        insert = "INSERT INTO t VALUES (1)"
        assert await code_of(call(bus, "execute", sql=insert)) == "outcome_unknown"
        for _ in range(3):
            assert await code_of(call(bus, "execute", sql=insert)) == "DATA_FILE_LOST"
        assert await code_of(call(bus, "transaction", statements=[insert])) == "DATA_FILE_LOST"
        assert await code_of(call(bus, "beginTransaction")) == "DATA_FILE_LOST"


@pytest.mark.parametrize("lose", LOSSES)
@pytest.mark.parametrize("sql", ["INSERT INTO t VALUES (1)", "PRAGMA user_version = 1", "VACUUM"])
async def test_not_even_the_first_write_is_acknowledged_once_the_file_is_lost(path, lose, sql):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()
    async with GroupCommitWriter(str(path)) as writer:
        lose(path)
        with pytest.raises(OutcomeUnknown):
            await writer.execute(sql)
        with pytest.raises(DataFileLost):
            await writer.execute(sql)


async def test_many_writes_at_once_are_all_refused(path):
    async with GroupCommitWriter(str(path)) as writer:
        await writer.execute("CREATE TABLE t (a)")
        delete(path)
        calls = [writer.execute("INSERT INTO t VALUES (?)", [number]) for number in range(3000)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in answers} <= {OutcomeUnknown, DataFileLost}
        with pytest.raises(DataFileLost, match="was deleted while it was open; nothing was written"):
            await writer.execute("INSERT INTO t VALUES (1)")


@pytest.mark.parametrize("lose", LOSSES)
async def test_an_open_transaction_is_not_committed_into_a_lost_file(run, file_database, path, lose):
    async with run(file_database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        name = (await call(bus, "beginTransaction"))["transaction"]["id"]
        await call(bus, "transactionExecute", transaction_id=name, sql="INSERT INTO t VALUES (1)")
        lose(path)
        assert await code_of(call(bus, "commitTransaction", transaction_id=name)) == "outcome_unknown"
        assert await code_of(call(bus, "execute", sql="INSERT INTO t VALUES (1)")) == "DATA_FILE_LOST"


async def test_writes_behind_an_open_transaction_end_when_its_file_is_lost(file_database, path):
    async with running_engine(file_database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        name = (await call(bus, "beginTransaction"))["transaction"]["id"]
        await call(bus, "transactionExecute", transaction_id=name, sql="INSERT INTO t VALUES (1)")
        waiting = asyncio.create_task(call(bus, "execute", sql="INSERT INTO t VALUES (2)"))
        turn = asyncio.create_task(call(bus, "beginTransaction", isolation="serializable"))
        await settle()
        delete(path)
        assert await code_of(call(bus, "commitTransaction", transaction_id=name)) == "outcome_unknown"
        assert {await code_of(waiting), await code_of(turn)} == {"DATA_FILE_LOST"}


async def test_the_log_says_once_what_has_happened(path, caplog):
    async with GroupCommitWriter(str(path)) as writer:
        await writer.execute("CREATE TABLE t (a)")
        replace(path)
        for _ in range(3):
            with pytest.raises(LinklyError):
                await writer.execute("INSERT INTO t VALUES (1)")
    lines = [record.message for record in caplog.records if record.name == "linkly.sqlite"]
    assert len(lines) == 1
    assert f"{path} was replaced by another file while it is open" in lines[0]


async def test_nothing_is_written_into_the_file_that_was_put_in_its_place(file_database, path):
    async with running_engine(file_database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        replace(path)
        await code_of(call(bus, "execute", sql="INSERT INTO t VALUES (1)"))
        assert await code_of(call(bus, "beginTransaction")) == "DATA_FILE_LOST"
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT COUNT(*) FROM t").fetchone() == (0,)
    connection.close()


async def test_a_worker_that_is_made_anew_uses_what_is_there_then(path):
    for expected in (1, 1):
        async with running(f"sqlite:{path}") as bus:
            await call(bus, "execute", sql="CREATE TABLE t (a)")
            await call(bus, "execute", sql="INSERT INTO t VALUES (1)")
            assert (await call(bus, "query", sql="SELECT COUNT(*) AS n FROM t"))["rows"] == [{"n": expected}]
            delete(path)
            await code_of(call(bus, "execute", sql="INSERT INTO t VALUES (1)"))
        for leftover in path.parent.iterdir():
            leftover.unlink()


async def test_what_others_do_to_the_file_does_not_look_like_a_loss(path):
    async with GroupCommitWriter(str(path)) as writer:
        await writer.execute("CREATE TABLE t (a)")
        for number in range(50):
            other = sqlite3.connect(path)
            other.execute("INSERT INTO t VALUES (?)", [number])
            other.commit()
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            other.close()
            await writer.execute("INSERT INTO t VALUES (?)", [number])
        await writer.execute("VACUUM")
        assert (await writer.execute("SELECT COUNT(*) FROM t")).rows == [(100,)]


async def test_a_link_to_the_file_that_is_turned_to_another_one_is_a_loss(path):
    link = path.with_name("link.db")
    link.symlink_to(path)
    async with GroupCommitWriter(str(link)) as writer:
        await writer.execute("CREATE TABLE t (a)")
        await writer.execute("INSERT INTO t VALUES (1)")
        link.unlink()
        link.symlink_to(path.with_name("other.db"))
        with pytest.raises(OutcomeUnknown):
            await writer.execute("INSERT INTO t VALUES (2)")


async def test_the_log_of_a_linked_file_is_looked_after_as_well(path):
    link = path.with_name("link.db")
    link.symlink_to(path)
    async with GroupCommitWriter(str(link)) as writer:
        await writer.execute("CREATE TABLE t (a)")
        delete_its_log(path)
        with pytest.raises(OutcomeUnknown):
            await writer.execute("INSERT INTO t VALUES (2)")


async def test_another_working_directory_is_no_loss(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with GroupCommitWriter("a.db") as writer:
        await writer.execute("CREATE TABLE t (a)")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        await writer.execute("INSERT INTO t VALUES (1)")
        assert writer.file.is_there()


@pytest.mark.parametrize("lose", LOSSES)
async def test_durable_state_stops_answering_writes_once_its_file_is_lost(run, tmp_path, lose):
    folder = tmp_path / "kv"
    kv = {"name": "kv", "config": {"store_method": "file_based", "file_path": str(folder)}}
    async with run(StateWorker(read_settings(StateSettings, {"adapter": kv}, "$"))) as bus:
        await bus.trigger("state::set", {"scope": "s", "key": "a", "value": 1})
        lose(folder / "state.db")
        write = {"scope": "s", "key": "a", "value": 2}
        assert await code_of(bus.trigger("state::set", write)) == "outcome_unknown"
        with pytest.raises(LinklyError, match=r"nothing was changed at s/a: DATA_FILE_LOST") as refusal:
            await bus.trigger("state::set", write)
        assert refusal.value.code == "SET_ERROR"
        answer = await bus.trigger("state::readiness")
        assert answer == {"ready": False, "reasons": ["state: its file was deleted or replaced"]}


async def readyz(gateway):
    async with httpx.AsyncClient(verify=False) as client:
        return await client.get(f"{gateway.url}/readyz")


@pytest.fixture
def gateway():
    return HttpWorker(read_settings(HttpSettings, {"port": 0}, "$"))


async def test_readiness_notices_a_lost_file_before_anybody_writes(run, file_database, gateway, path):
    async with run(file_database, gateway) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        assert (await readyz(gateway)).json() == {"status": "ok"}
        delete(path)
        answer = await readyz(gateway)
        reasons = ["database `primary`: its file was deleted or replaced"]
        assert (answer.status_code, answer.json()) == (503, {"status": "not_ready", "reasons": reasons})
        assert await code_of(call(bus, "execute", sql="INSERT INTO t VALUES (1)")) == "DATA_FILE_LOST"


async def test_readiness_follows_a_writer_that_stands_still_for_a_while(run, file_database, gateway):
    clock = ManualClock()
    async with run(file_database, gateway, clock=clock) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        name = (await call(bus, "beginTransaction", isolation="serializable"))["transaction"]["id"]
        await clock.advance(STANDSTILL_S)
        assert (await readyz(gateway)).status_code == 200  # no write waits
        waiting = asyncio.create_task(call(bus, "execute", sql="INSERT INTO t VALUES (2)"))
        await settle()
        await clock.advance(STANDSTILL_S - 0.1)
        assert (await readyz(gateway)).status_code == 200
        await clock.advance(0.2)
        answer = await readyz(gateway)
        reasons = ["database `primary`: no write has ended for 3 s, 1 wait"]
        assert (answer.status_code, answer.json()["reasons"]) == (503, reasons)
        await call(bus, "rollbackTransaction", transaction_id=name)
        await waiting
        assert (await readyz(gateway)).json() == {"status": "ok"}


async def test_a_worker_that_does_not_say_that_it_is_ready_is_named(run, gateway):
    class Silent(Worker):
        name = "silent"

        @function("silent::ready", triggers=[readiness()])
        async def is_ready(self) -> None:
            raise RuntimeError("boom")

    async with run(Silent(), gateway):
        await settle()
        answer = await readyz(gateway)
        assert answer.status_code == 503
        assert answer.json()["reasons"] == ["`silent::ready` does not say that it is ready: invocation_failed"]
