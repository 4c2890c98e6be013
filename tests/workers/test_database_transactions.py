"""What an interactive transaction is after somebody has gone away in the middle of it."""

import asyncio
import contextlib

import pytest

from linkly import LinklyError, Worker, function, trigger
from linkly.testing import ManualClock, settle
from linkly_workers.database import DatabaseWorker
from support.database_calls import WAIT_S, begin, call, refused, values

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"


async def cancelled_after(turns, awaitable):
    """Run something and cancel it after some turns of the loop; it may have come to its end by then."""
    task = asyncio.ensure_future(awaitable)
    await settle(turns)
    task.cancel()
    await asyncio.wait([task])


async def cancel_a_running_write(bus, transaction_id):
    """Have the time of a call end while its statement writes."""
    payload = {"transaction_id": transaction_id, "sql": f"INSERT INTO t {ENDLESS}"}
    with pytest.raises(LinklyError) as failure:
        await bus.trigger("database::transactionExecute", payload, timeout_s=0.2)
    assert failure.value.code == "TIMEOUT"


@pytest.mark.parametrize("database", ["file"], indirect=True)  # the next test has one in memory too
@pytest.mark.parametrize("name", ["transactionExecute", "transactionQuery", "commitTransaction"])
async def test_a_cancelled_write_takes_its_transaction_along(run, database, name):
    async with run(database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        opened = await begin(bus)
        await call(bus, "transactionExecute", transaction_id=opened, sql="INSERT INTO t VALUES ('first')")
        await cancel_a_running_write(bus, opened)
        sql = {} if name == "commitTransaction" else {"sql": "INSERT INTO t VALUES ('second')"}
        error = await refused(bus, name, transaction_id=opened, **sql)
        assert error.code == "TRANSACTION_NOT_FOUND"
        assert "cancelled" in error.message
        assert (await refused(bus, "commitTransaction", transaction_id=opened)).code == "TRANSACTION_NOT_FOUND"
        assert await values(bus) == []
        await call(bus, "execute", sql="INSERT INTO t VALUES ('other')")
        assert await values(bus) == ["other"]


async def test_a_transaction_rolled_back_after_a_cancelled_write_leaves_nothing(run, database):
    async with run(database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        opened = await begin(bus)
        await call(bus, "transactionExecute", transaction_id=opened, sql="INSERT INTO t VALUES ('first')")
        await cancel_a_running_write(bus, opened)
        assert await call(bus, "rollbackTransaction", transaction_id=opened) == {"rolled_back": True}
        assert await values(bus) == []


async def test_a_failing_statement_leaves_the_rest_of_its_transaction_to_be_committed(run, database):
    async with run(database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a UNIQUE)")
        opened = await begin(bus)
        await call(bus, "transactionExecute", transaction_id=opened, sql="INSERT INTO t VALUES (1)")
        for sql in ("INSERT INTO t VALUES (1)", "INSERT INTO missing VALUES (1)"):
            assert (await refused(bus, "transactionExecute", transaction_id=opened, sql=sql)).code == "DRIVER_ERROR"
        await call(bus, "transactionExecute", transaction_id=opened, sql="INSERT INTO t VALUES (2)")
        await call(bus, "commitTransaction", transaction_id=opened)
        assert await values(bus) == [1, 2]


async def test_a_write_whose_answer_cannot_be_read_is_not_committed(run, database):
    async with run(database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        opened = await begin(bus)
        sql = "INSERT INTO t VALUES ('half') RETURNING hex(zeroblob(9000000))"
        error = await refused(bus, "transactionExecute", transaction_id=opened, sql=sql)
        assert error.code == "RESULT_TOO_LARGE"
        assert (await refused(bus, "commitTransaction", transaction_id=opened)).code == "TRANSACTION_NOT_FOUND"
        assert await values(bus) == []


async def test_a_serializable_transaction_writes(run, database):
    async with run(database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        opened = await begin(bus, isolation="serializable")
        await call(bus, "transactionExecute", transaction_id=opened, sql="INSERT INTO t VALUES (1)")
        await call(bus, "commitTransaction", transaction_id=opened)
        assert await values(bus) == [1]


async def test_a_commit_cancelled_behind_an_endless_statement_ends_at_the_deadline(run, database):
    clock = ManualClock()
    async with run(database, clock=clock) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        opened = await begin(bus, timeout_ms=5000)
        await call(bus, "transactionExecute", transaction_id=opened, sql="INSERT INTO t VALUES ('first')")
        endless = asyncio.create_task(refused(bus, "transactionQuery", transaction_id=opened, sql=ENDLESS))
        await settle()
        await cancelled_after(20, bus.trigger("database::commitTransaction", {"transaction_id": opened}))
        other = asyncio.create_task(call(bus, "execute", sql="INSERT INTO t VALUES ('other')"))
        await settle()
        assert not other.done()
        await clock.advance(5.1)
        await other
        await endless
        assert await values(bus) == ["other"]


@pytest.mark.parametrize("turns", range(1, 9))
async def test_a_rollback_whose_caller_has_gone_lets_the_writes_of_others_go_on(run, database, turns):
    async with run(database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        opened = await begin(bus)
        await call(bus, "transactionExecute", transaction_id=opened, sql="INSERT INTO t VALUES ('first')")
        endless = asyncio.create_task(refused(bus, "transactionQuery", transaction_id=opened, sql=ENDLESS))
        await settle()
        await cancelled_after(turns, bus.trigger("database::rollbackTransaction", {"transaction_id": opened}))
        # Where the cancellation came before the rollback began there is still something to end.
        await asyncio.gather(call(bus, "rollbackTransaction", transaction_id=opened), return_exceptions=True)
        await call(bus, "execute", sql="INSERT INTO t VALUES ('other')")
        assert (await endless).code == "TRANSACTION_NOT_FOUND"
        assert await values(bus) == ["other"]


async def test_every_commit_is_told_even_if_its_caller_has_gone(run, database):
    heard = []
    done = asyncio.Event()

    class Ear(Worker):
        name = "ear"

        @function("ear::hear", triggers=[trigger("database::row-changed", {"db": "primary"})])
        async def hear(self, event: dict) -> None:
            heard.append(event["table"])
            if event["table"] == "done":
                done.set()

    async with run(database, Ear()) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        await call(bus, "execute", sql="CREATE TABLE done (a)")
        for number in range(40):
            opened = await begin(bus)
            await call(bus, "transactionExecute", transaction_id=opened, sql="INSERT INTO t VALUES (1)")
            end = bus.trigger("database::commitTransaction", {"transaction_id": opened})
            await cancelled_after(1 + number % 10, end)
            # Where the cancellation came before the commit began there is still something to end.
            await asyncio.gather(call(bus, "rollbackTransaction", transaction_id=opened), return_exceptions=True)
        await call(bus, "execute", sql="INSERT INTO done VALUES (1)")
        async with asyncio.timeout(WAIT_S):
            await done.wait()
        rows = len(await values(bus))
        assert rows > 0
        assert heard == ["t"] * rows + ["done"]


@pytest.mark.parametrize("sql", [ENDLESS, f"INSERT INTO t {ENDLESS}"])
async def test_what_runs_at_the_deadline_is_told_that_this_was_its_deadline(run, database, sql):
    clock = ManualClock()
    async with run(database, clock=clock) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        opened = await begin(bus, timeout_ms=300)
        await call(bus, "transactionExecute", transaction_id=opened, sql="INSERT INTO t VALUES (1)")
        endless = asyncio.create_task(refused(bus, "transactionQuery", transaction_id=opened, sql=sql))
        await settle()
        await clock.advance(0.4)
        error = await endless
        assert error.code == "TRANSACTION_NOT_FOUND"
        assert "was rolled back at its deadline of 300 ms" in error.message
        assert await values(bus) == []


async def test_writes_behind_an_open_transaction_finish_while_the_worker_drains(run, database):
    clock = ManualClock()
    async with run(database, clock=clock) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        opened = await begin(bus, timeout_ms=60_000)
        await call(bus, "transactionExecute", transaction_id=opened, sql="INSERT INTO t VALUES ('first')")
        other = asyncio.create_task(call(bus, "execute", sql="INSERT INTO t VALUES ('other')"))
        await settle()
        draining = asyncio.ensure_future(database.drain())
        await settle()
        await clock.advance(0.9)
        assert (draining.done(), other.done()) == (False, False)
        await clock.advance(0.2)
        async with asyncio.timeout(WAIT_S):
            await draining
        await other
        assert (await refused(bus, "commitTransaction", transaction_id=opened)).code == "TRANSACTION_NOT_FOUND"
        assert await values(bus) == ["other"]


async def test_draining_waits_for_no_clock_when_the_last_transaction_ends(run, database):
    clock = ManualClock()
    async with run(database, clock=clock) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        opened = await begin(bus)
        await call(bus, "transactionExecute", transaction_id=opened, sql="INSERT INTO t VALUES (1)")
        draining = asyncio.ensure_future(database.drain())
        await settle()
        assert not draining.done()
        await call(bus, "commitTransaction", transaction_id=opened)
        async with asyncio.timeout(WAIT_S):
            await draining
        assert await values(bus) == [1]


async def test_a_transaction_begun_while_the_worker_drains_has_a_second(run, database):
    clock = ManualClock()
    async with run(database, clock=clock) as bus:
        await database.drain()
        opened = await begin(bus, timeout_ms=60_000)
        await call(bus, "transactionQuery", transaction_id=opened, sql="SELECT 1")
        await clock.advance(1.1)
        assert (await refused(bus, "commitTransaction", transaction_id=opened)).code == "TRANSACTION_NOT_FOUND"


async def test_what_a_failing_transaction_has_learned_of_a_table_is_forgotten(run, database):
    insert = "INSERT INTO remade (a) VALUES (1)"
    remake = ["DROP TABLE remade", "CREATE TABLE remade (a PRIMARY KEY) WITHOUT ROWID", insert, "SELECT gone"]
    async with run(database) as bus:
        await call(bus, "execute", sql="CREATE TABLE remade (a)")
        failed = await call(bus, "transaction", statements=remake)
        inserted = await call(bus, "execute", sql=insert)
    assert failed["failed_index"] == 3
    assert inserted["last_insert_id"] == "1"


@pytest.mark.transports("in process")
async def test_what_cancelled_statements_have_changed_is_forgotten_with_their_transaction(run, tmp_path):
    insert = "INSERT INTO remade (a) VALUES (1)"
    worker = DatabaseWorker.from_config({"databases": {"primary": {"url": f"sqlite:{tmp_path}/a.db"}}})
    async with run(worker) as bus, asyncio.timeout(WAIT_S):
        await call(bus, "execute", sql="CREATE TABLE remade (a)")
        opened = await begin(bus, isolation="serializable")
        for sql, left in (("DROP TABLE remade", 0), ("CREATE TABLE remade (a PRIMARY KEY) WITHOUT ROWID", 1)):
            tables = "SELECT name FROM sqlite_schema WHERE type = 'table'"
            # Cancelled at once, it has begun on its thread or it never does.
            while len((await call(bus, "transactionQuery", transaction_id=opened, sql=tables))["rows"]) != left:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0):
                        await call(bus, "transactionExecute", transaction_id=opened, sql=sql)
        await call(bus, "transactionExecute", transaction_id=opened, sql=insert)
        await call(bus, "rollbackTransaction", transaction_id=opened)
        inserted = await call(bus, "execute", sql=insert)
    assert inserted["last_insert_id"] == "1"
