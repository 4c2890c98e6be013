"""What fails around a statement on PostgreSQL only, and how often a call goes there: see test_server_faults.py."""

import asyncio
from contextlib import asynccontextmanager

import anyio
import pytest

from support.cutting_proxy import CuttingProxy
from support.database_calls import call, ready, refused, running, until, value
from support.postgres_server import MISSING, binaries, running_server

pytestmark = pytest.mark.skipif(binaries() is None, reason=MISSING)

CANCEL = (80877102).to_bytes(4, "big")
"""By which a client asks the server to stop a statement, on a connection of its own."""


@pytest.fixture(scope="module")
def server():
    with running_server() as server:
        yield server


@pytest.fixture
async def bus(server):
    async with running(server.url) as bus:
        await call(bus, "execute", sql="DROP TABLE IF EXISTS t")
        await call(bus, "execute", sql="CREATE TABLE t (id int PRIMARY KEY, a int)")
        await call(bus, "execute", sql="INSERT INTO t VALUES (1, 0), (2, 0)")
        yield bus


async def test_a_serialization_failure_may_be_tried_again(bus):
    ids = [(await call(bus, "beginTransaction", isolation="serializable"))["transaction"]["id"] for _ in range(2)]
    for at in ids:
        await call(bus, "transactionQuery", transaction_id=at, sql="SELECT sum(a) FROM t")
    for number, at in enumerate(ids, 1):
        change = {"sql": "UPDATE t SET a = 1 WHERE id = ?", "params": [number]}
        await call(bus, "transactionExecute", transaction_id=at, **change)
    await call(bus, "commitTransaction", transaction_id=ids[0])
    error = await refused(bus, "commitTransaction", transaction_id=ids[1])
    assert (error.code, error.details["inner_code"], error.details["retryable"]) == ("DRIVER_ERROR", "40001", True)


async def test_what_fails_at_the_commit_is_rolled_back(bus):
    await call(bus, "execute", sql="DROP TABLE IF EXISTS d")
    await call(bus, "execute", sql="CREATE TABLE d (a int REFERENCES t (id) DEFERRABLE INITIALLY DEFERRED)")
    error = await refused(bus, "execute", sql="INSERT INTO d VALUES (9)")
    assert (error.code, error.details["inner_code"]) == ("DRIVER_ERROR", "23503")
    await call(bus, "execute", sql="DROP TABLE d")


async def test_a_transaction_whose_connection_is_lost_before_its_commit_is_rolled_back(server, bus):
    """It is no unknown outcome: nobody has sent a COMMIT."""
    async with running(f"{server.url}?options=-cidle_in_transaction_session_timeout%3D100") as impatient:
        begun = {"transaction_id": (await call(impatient, "beginTransaction"))["transaction"]["id"]}
        [row] = (await call(impatient, "transactionQuery", **begun, sql="SELECT pg_backend_pid() AS pid"))["rows"]
        await call(impatient, "transactionExecute", **begun, sql="UPDATE t SET a = 7")

        async def is_gone():  # and with the process its socket
            return not await anyio.Path(f"/proc/{row['pid']}").exists()

        await until(is_gone)
        error = await refused(impatient, "commitTransaction", **begun)
        assert (error.code, error.details["inner_code"]) == ("DRIVER_ERROR", "25P02")
        assert await value(impatient, "SELECT sum(a) FROM t") == 0


async def test_notices_of_a_change_are_no_result_of_it(server, bus):
    await call(
        bus,
        "execute",
        sql="CREATE OR REPLACE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "FOR n IN 1..100 LOOP RAISE NOTICE '%', repeat('x', 1000); END LOOP; RETURN NEW; END $$",
    )
    await call(bus, "execute", sql="CREATE TRIGGER loud BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION loud()")
    async with running(server.url, max_result_bytes=10_000) as narrow:
        assert (await call(narrow, "execute", sql="UPDATE t SET a = 1"))["affected_rows"] == 2
        assert (await call(narrow, "transaction", statements=["UPDATE t SET a = 2"]))["committed"]
        assert await value(narrow, "SELECT sum(a) FROM t") == 4


async def test_a_database_that_is_there_to_be_read_is_ready(server):
    async with running(f"{server.url}?options=-cdefault_transaction_read_only%3Don") as bus:
        for _ in range(2):
            assert (await refused(bus, "execute", sql="CREATE TABLE no (a int)")).details["inner_code"] == "25006"
            assert await ready(bus)
            assert await value(bus, "SELECT 1") == 1


# --- what travels together, and a statement that the server commits -------------------------------------------


@asynccontextmanager
async def one_connection(server):
    """Have a worker with one connection, and the proxy through which that goes."""
    async with CuttingProxy(server.port).open() as proxy:
        url = server.url.replace(f":{server.port}/", f":{proxy.port}/")
        async with running(url, pool={"max": 1}) as through:
            yield through, proxy


@pytest.mark.parametrize(
    "name, payload, trips",
    [
        ("query", {"sql": "SELECT a FROM t WHERE id = 1"}, 1),
        ("query", {"sql": "SELECT a FROM t WHERE id = 1", "read_only": True}, 1),
        ("execute", {"sql": "UPDATE t SET a = 1 WHERE id = 1"}, 1),
        ("execute", {"sql": "UPDATE t SET a = 1 WHERE id = 1 RETURNING a"}, 2),
        ("transaction", {"statements": ["UPDATE t SET a = 1", "SELECT a FROM t"]}, 3),
    ],
)
async def test_a_call_goes_to_the_server_as_seldom_as_it_can(server, bus, name, payload, trips):
    """What undoes its leavings goes along, and so does BEGIN; a COMMIT waits for what it commits, if that has rows."""
    async with one_connection(server) as (through, proxy):
        await call(through, name, **payload)  # by which it is compiled
        await value(through, "SELECT 1")  # which begins when what the first one left is undone
        before = proxy.passed
        await call(through, name, **payload)
        assert proxy.passed - before == trips


async def test_a_connection_that_is_lost_with_the_first_statement_has_written_nothing(bus, server):
    async with one_connection(server) as (through, proxy):
        await call(through, "execute", sql="UPDATE t SET a = a + 1 RETURNING a")
        proxy.cut_at = b"BEGIN"
        error = await refused(through, "execute", sql="UPDATE t SET a = a + 1 RETURNING a")
        assert (error.code, error.details["retryable"]) == ("DRIVER_ERROR", True)
        proxy.cut_at = None
        assert await value(through, "SELECT sum(a) FROM t") == 2


@pytest.mark.parametrize(
    "name, payload",
    [
        ("execute", {"sql": "UPDATE t SET a = a + ?", "params": [1]}),
        ("transaction", {"statements": ["UPDATE t SET a = a + 1"]}),
    ],
)
async def test_a_connection_that_is_lost_during_a_statement_that_commits_leaves_the_outcome_unknown(
    bus, server, name, payload
):
    async with one_connection(server) as (through, proxy):
        await call(through, name, **payload)  # by which it is compiled
        proxy.cut_at = b"CLOSE ALL"  # what undoes its leavings comes with it
        error = await refused(through, name, **payload)
        assert (error.code, "retryable" in error.details) == ("outcome_unknown", False)
        proxy.cut_at = None
        assert await value(through, "SELECT sum(a) FROM t") == 4


async def test_a_statement_that_could_not_be_sent_has_written_nothing(bus, server):
    async with one_connection(server) as (through, proxy):
        await call(through, "execute", sql="UPDATE t SET a = a + 1")
        proxy.cut_at = b"a + 2"  # while it is compiled
        error = await refused(through, "execute", sql="UPDATE t SET a = a + 2")
        assert (error.code, error.details["retryable"]) == ("DRIVER_ERROR", True)
        proxy.cut_at = None
        assert await value(through, "SELECT sum(a) FROM t") == 2


async def is_idle(bus):
    (database,) = (await call(bus, "listDatabases"))["databases"]
    return database["idle_connections"] == 1


async def test_a_caller_that_goes_away_while_his_statement_is_compiled_has_it_never_run(server, bus):
    """The server has nothing to stop then, and ignores that it is asked to."""
    async with one_connection(server) as (through, proxy):
        await call(through, "execute", sql="UPDATE t SET a = a + 1")
        await until(lambda: is_idle(through))
        proxy.answers.clear()
        before = proxy.passed

        async def is_asked():
            return proxy.passed > before

        asked = asyncio.ensure_future(call(through, "execute", sql="UPDATE t SET a = a + 7"))
        await until(is_asked)
        asked.cancel()
        await asyncio.wait([asked])
        proxy.answers.set()
        assert await value(through, "SELECT sum(a) FROM t") == 2


async def test_what_is_answered_after_a_caller_went_away_during_his_first_statement_is_written(server, bus):
    """That statement was carried out before the server was asked to stop it, so its transaction was open."""
    async with one_connection(server) as (through, proxy):
        sql = "UPDATE t SET a = a + 7 RETURNING a"
        await call(through, "query", sql="SELECT a FROM t")
        await call(through, "execute", sql="UPDATE t SET a = a + 1")
        await call(through, "execute", sql=sql)
        await until(lambda: is_idle(through))
        proxy.answers.clear()
        asked = asyncio.ensure_future(call(through, "execute", sql=sql))

        async def is_carried_out():
            states = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
            return await value(bus, states) == 1

        await until(is_carried_out)
        asked.cancel()
        await asyncio.wait([asked])
        proxy.answers.set()
        await call(through, "execute", sql="UPDATE t SET a = a + 1")
        await until(lambda: is_idle(through))
        assert await value(bus, "SELECT sum(a) FROM t") == 2 + 14 + 2


async def test_a_time_out_that_comes_when_a_statement_is_written_is_none(server, bus):
    """The server is asked to stop it, and answers that it is written."""
    async with one_connection(server) as (through, proxy):
        sql = "UPDATE t SET a = a + 1"
        await call(through, "execute", sql=sql)
        await until(lambda: is_idle(through))
        proxy.answers.clear()
        proxy.keep_at = CANCEL
        asked = asyncio.ensure_future(call(through, "execute", sql=sql, timeout_ms=100))
        await proxy.kept.wait()
        proxy.answers.set()
        assert (await asked)["affected_rows"] == 2
        proxy.kept_of.close()
        assert await value(through, "SELECT sum(a) FROM t") == 4


async def test_a_statement_whose_caller_has_gone_ends_although_the_server_has_missed_that(server, bus):
    async with one_connection(server) as (through, proxy):
        begun = {"transaction_id": (await call(through, "beginTransaction"))["transaction"]["id"]}
        asked = asyncio.ensure_future(call(through, "transactionQuery", **begun, sql="SELECT pg_sleep(606)"))
        await until(lambda: sleeps(bus))
        proxy.keep_at = CANCEL
        asked.cancel()
        await proxy.kept.wait()
        proxy.keep_at = None
        proxy.kept_of.close()
        await call(through, "transactionExecute", **begun, sql="UPDATE t SET a = 5")
        await call(through, "commitTransaction", **begun)
    assert await value(bus, "SELECT sum(a) FROM t") == 10


async def test_a_statement_that_waits_to_be_compiled_ends_although_the_server_has_missed_that(server, bus):
    """The server looks at a table to compile what reads it, and waits for whoever has locked it."""
    async with one_connection(server) as (through, proxy):
        lock = {"transaction_id": (await call(bus, "beginTransaction"))["transaction"]["id"]}
        await call(bus, "transactionExecute", **lock, sql="LOCK TABLE t")
        asked = asyncio.ensure_future(call(through, "query", sql="SELECT a FROM t WHERE id = 9"))
        await until(lambda: waits_for_a_lock(bus))
        proxy.keep_at = CANCEL
        asked.cancel()
        await proxy.kept.wait()
        proxy.keep_at = None
        proxy.kept_of.close()
        assert await value(through, "SELECT 1") == 1
        await call(bus, "rollbackTransaction", **lock)


async def waits_for_a_lock(bus):
    return await value(bus, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") > 0


async def sleeps(bus):
    return await value(bus, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") > 0
