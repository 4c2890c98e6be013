"""What fails around a statement: a server that goes, hangs or refuses, a caller that goes, and what each is told."""

import asyncio
import gc
import re
import signal
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import pytest

from linkly import LinklyError
from linkly.errors import ConfigError
from support.cutting_proxy import CuttingProxy
from support.database_calls import call, not_any_more, ready, refused, running, until, value
from support.postgres_server import MISSING, binaries, running_server

pytestmark = pytest.mark.skipif(binaries() is None, reason=MISSING)

ENDLESS = "SELECT pg_sleep(600)"


@pytest.fixture(scope="module")
def server():
    """A server that may be killed: nobody else's."""
    with running_server("deadlock_timeout=100ms") as server:
        yield server


@pytest.fixture
async def bus(server):
    async with running(server.url) as bus:
        await call(bus, "execute", sql="DROP TABLE IF EXISTS t")
        await call(bus, "execute", sql="CREATE TABLE t (id int PRIMARY KEY, a int)")
        await call(bus, "execute", sql="INSERT INTO t VALUES (1, 0), (2, 0)")
        yield bus


def running_on_server(bus, words):
    """Return what tells whether a statement runs on the server, seen from another connection."""

    async def ask():
        found = await value(
            bus,
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE ?",
            f"%{words}%",
        )
        return found > 0

    return ask


# --- statements that do not end ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, sql",
    [
        ("query", "SELECT pg_sleep(601)"),
        ("execute", "UPDATE t SET a = 1 WHERE pg_sleep(602) IS NULL"),
    ],
)
async def test_a_statement_that_takes_too_long_ends_on_the_server(bus, name, sql):
    error = await refused(bus, name, sql=sql, timeout_ms=100)
    assert (error.code, error.details["timeout_ms"]) == ("QUERY_TIMEOUT", 100)
    await until(not_any_more(running_on_server(bus, re.search("[0-9]{3}", sql)[0])))
    assert await value(bus, "SELECT sum(a) FROM t") == 0


async def test_a_transaction_that_takes_too_long_is_undone(bus):
    statements = ["UPDATE t SET a = 7", "SELECT pg_sleep(603)"]
    assert (await refused(bus, "transaction", statements=statements, timeout_ms=100)).code == "QUERY_TIMEOUT"
    await until(not_any_more(running_on_server(bus, "603")))
    assert await value(bus, "SELECT sum(a) FROM t") == 0


async def test_a_caller_that_goes_away_ends_his_statement_on_the_server(bus):
    runs = running_on_server(bus, "604")
    asked = asyncio.ensure_future(call(bus, "execute", sql="UPDATE t SET a = 1 WHERE pg_sleep(604) IS NULL"))
    await until(runs)
    asked.cancel()
    await until(not_any_more(runs))
    assert await value(bus, "SELECT sum(a) FROM t") == 0


async def test_a_cancelled_statement_leaves_the_rest_of_its_transaction(bus):
    begun = {"transaction_id": (await call(bus, "beginTransaction"))["transaction"]["id"]}
    await call(bus, "transactionExecute", **begun, sql="UPDATE t SET a = 5 WHERE id = 1")
    runs = running_on_server(bus, "605")
    asked = asyncio.ensure_future(call(bus, "transactionQuery", **begun, sql="SELECT pg_sleep(605)"))
    await until(runs)
    asked.cancel()
    await until(not_any_more(runs))
    await call(bus, "transactionExecute", **begun, sql="UPDATE t SET a = 5 WHERE id = 2")
    await call(bus, "commitTransaction", **begun)
    assert await value(bus, "SELECT sum(a) FROM t") == 10


async def test_a_rollback_stops_the_statement_that_runs(bus):
    begun = {"transaction_id": (await call(bus, "beginTransaction"))["transaction"]["id"]}
    runs = running_on_server(bus, "606")
    asked = asyncio.ensure_future(call(bus, "transactionQuery", **begun, sql="SELECT pg_sleep(606)"))
    await until(runs)
    await call(bus, "rollbackTransaction", **begun)
    with pytest.raises(LinklyError, match="was rolled back by rollbackTransaction"):
        await asked
    await until(not_any_more(runs))


# --- results that are too large ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT repeat('x', 50000000)",
        "SELECT n, repeat('x', 1000) FROM generate_series(1, 1000000) n",
        "SELECT true FROM generate_series(1, 2000000)",
        "INSERT INTO t SELECT n + 10, n FROM generate_series(1, 20000) n RETURNING *, repeat('x', 10000)",
    ],
)
async def test_a_result_is_stopped_long_before_it_fills_the_memory(bus, sql):
    gc.collect()
    before = _resident_kib()
    assert (await refused(bus, "query", sql=sql)).code == "RESULT_TOO_LARGE"
    assert _resident_kib() - before < 100_000
    assert await value(bus, "SELECT count(*) FROM t") == 2


@pytest.mark.parametrize("size", [999_990, 1_000_200, 1_300_000, 3_000_000])
async def test_a_result_that_is_too_large_leaves_its_connection_open(server, size):
    """Also where its last bytes have come already: then there is nothing to cancel."""
    async with running(server.url, pool={"max": 1}) as bus:
        mine = await value(bus, "SELECT pg_backend_pid()")
        assert (await refused(bus, "query", sql=f"SELECT repeat('x', {size})")).code == "RESULT_TOO_LARGE"
        assert await value(bus, "SELECT pg_backend_pid()") == mine


async def test_a_result_that_is_too_large_leaves_its_transaction_open(bus):
    begun = {"transaction_id": (await call(bus, "beginTransaction"))["transaction"]["id"]}
    await call(bus, "transactionExecute", **begun, sql="UPDATE t SET a = 5")
    many = "SELECT repeat('x', 1000) FROM generate_series(1, 100000)"
    assert (await refused(bus, "transactionQuery", **begun, sql=many)).code == "RESULT_TOO_LARGE"
    await call(bus, "commitTransaction", **begun)
    assert await value(bus, "SELECT sum(a) FROM t") == 10


async def test_the_limit_is_for_all_results_of_a_call_together(bus):
    part = "SELECT repeat('x', 1000) FROM generate_series(1, 600)"
    assert (await call(bus, "query", sql=part))["row_count"] == 600
    failed = await call(bus, "transaction", statements=[part, part])
    assert (failed["committed"], failed["failed_index"], failed["error"]["code"]) == (False, 1, "RESULT_TOO_LARGE")


def _resident_kib():
    with open("/proc/self/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])


# --- conflicts ---------------------------------------------------------------------------------------------


async def test_a_deadlock_may_be_tried_again(bus):
    ids = [(await call(bus, "beginTransaction"))["transaction"]["id"] for _ in range(2)]

    def change(at, row):
        sql = {"sql": "UPDATE t SET a = a + 1 WHERE id = ?", "params": [row]}
        return asyncio.ensure_future(call(bus, "transactionExecute", transaction_id=ids[at], **sql))

    await change(0, 1)
    await change(1, 2)
    both = [change(0, 2), change(1, 1)]
    (lost,), (waiting,) = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    error = lost.exception()
    assert (error.code, error.details["inner_code"], error.details["retryable"]) == ("DRIVER_ERROR", "40P01", True)
    await call(bus, "rollbackTransaction", transaction_id=ids[both.index(lost)])
    assert (await waiting)["affected_rows"] == 1
    await call(bus, "rollbackTransaction", transaction_id=ids[both.index(waiting)])


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


# --- a server that goes ------------------------------------------------------------------------------------


async def test_a_killed_server_loses_only_what_was_running(bus, server):
    begun = {"transaction_id": (await call(bus, "beginTransaction"))["transaction"]["id"]}
    await call(bus, "transactionExecute", **begun, sql="UPDATE t SET a = 100")
    runs = running_on_server(bus, "607")
    asked = asyncio.ensure_future(refused(bus, "execute", sql="UPDATE t SET a = 1 WHERE pg_sleep(607) IS NULL"))
    await until(runs)
    server.stop(signal.SIGQUIT)
    error = await asked
    assert (error.code, error.details["retryable"]) == ("DRIVER_ERROR", True)
    server.start()
    assert (await call(bus, "execute", sql="UPDATE t SET a = a + 1"))["affected_rows"] == 2
    assert await value(bus, "SELECT sum(a) FROM t") == 2
    assert (await refused(bus, "commitTransaction", **begun)).code in ("DRIVER_ERROR", "outcome_unknown")
    assert (await refused(bus, "commitTransaction", **begun)).code == "TRANSACTION_NOT_FOUND"
    await until(lambda: ready(bus))


async def test_calls_wait_for_a_server_that_is_started_again(bus, server):
    server.stop()
    asked = asyncio.ensure_future(call(bus, "execute", sql="UPDATE t SET a = a + 1"))
    await until(not_any_more(lambda: ready(bus)))
    assert not asked.done()
    server.start()
    assert (await asked)["affected_rows"] == 2
    await until(lambda: ready(bus))


async def test_a_server_that_stays_away_is_told_within_the_time(server):
    async with running(server.url, pool={"acquire_timeout_ms": 1500}) as bus:
        server.stop()
        try:
            error = await refused(bus, "execute", sql="SELECT 1 FOR UPDATE")
            assert (error.code, error.details["retryable"]) == ("DRIVER_ERROR", True)
            assert f"127.0.0.1:{server.port}" in error.message
            assert server.password not in error.message
            answer = await call(bus, "readiness")
            assert answer["ready"] is False
            assert "cannot be reached" in answer["reasons"][0]
        finally:
            server.start()
        await until(lambda: ready(bus))
        assert await value(bus, "SELECT 1") == 1


async def test_a_server_that_is_away_at_the_start_is_waited_for(server):
    server.stop()
    try:
        async with running(server.url) as bus:
            assert not await ready(bus)
            server.start()
            await until(lambda: ready(bus))
            assert await value(bus, "SELECT 1") == 1
    finally:
        server.stop()
        server.start()


async def test_an_unknown_host_is_told():
    async with running("postgres://a@no-such-host.invalid/d", pool={"acquire_timeout_ms": 100}) as bus:
        error = await refused(bus, "query", sql="SELECT 1")
        assert (error.code, "no-such-host.invalid" in error.message) == ("DRIVER_ERROR", True)


def with_parts(url, *, password=None, database=None):
    parts = urlsplit(url)
    netloc = parts.netloc if password is None else f"linkly:{password}@{parts.netloc.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=netloc, path=parts.path if database is None else f"/{database}"))


async def test_a_wrong_password_and_an_unknown_database_stop_the_worker(server):
    for url, words in [
        (with_parts(server.url, password="s3cret"), "password authentication failed"),
        (with_parts(server.url, database="missing"), 'database "missing" does not exist'),
    ]:
        with pytest.raises(ConfigError, match=words) as caught:
            async with running(url):
                pass
        assert "s3cret" not in str(caught.value)


async def test_a_password_may_change_while_it_runs(server, tmp_path):
    secret = tmp_path / "password"
    secret.write_text("first\n")
    async with running(server.url) as admin:
        await call(admin, "execute", sql="CREATE ROLE rita LOGIN PASSWORD 'first'")
        try:
            url = f"postgres://rita@127.0.0.1:{server.port}/postgres"
            more = {"password_file": str(secret), "pool": {"acquire_timeout_ms": 3000}}
            async with running(url, **more) as bus:
                assert await value(bus, "SELECT current_user::text") == "rita"
                await call(admin, "execute", sql="ALTER ROLE rita PASSWORD 'second'")
                cut = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE usename = 'rita'"
                await value(admin, cut)
                error = await refused(bus, "execute", sql="SELECT 1 FOR UPDATE")
                assert (error.code, error.details["inner_code"]) == ("DRIVER_ERROR", "28P01")
                secret.write_text("second\n")
                assert await value(bus, "SELECT current_user::text") == "rita"
        finally:
            await call(admin, "execute", sql="DROP ROLE rita")


@asynccontextmanager
async def only_reading(bus):
    """Have the server take no writes until the block ends, and the worker know it."""
    await _alter(bus, "ALTER SYSTEM SET default_transaction_read_only = on")
    try:

        async def reads_only():
            return await value(bus, "SELECT current_setting('default_transaction_read_only')") == "on"

        await until(reads_only)
        error = await refused(bus, "execute", sql="UPDATE t SET a = 1")
        assert (error.code, error.details["inner_code"], error.details["retryable"]) == ("DRIVER_ERROR", "25006", True)
        yield
    finally:
        await _alter(bus, "ALTER SYSTEM RESET default_transaction_read_only")


async def _alter(bus, sql):
    """ALTER SYSTEM writes no row, so a server that only reads takes it."""
    await call(bus, "execute", sql=sql)
    await value(bus, "SELECT pg_reload_conf()")


async def reasons(bus):
    return " ".join((await call(bus, "readiness"))["reasons"])


async def test_a_server_that_only_reads_is_left_until_it_writes_again(bus):
    async with only_reading(bus):
        assert (await ready(bus), "takes no writes" in await reasons(bus)) == (False, True)
        assert await value(bus, "SELECT sum(a) FROM t") == 0
        begun = {"transaction_id": (await call(bus, "beginTransaction"))["transaction"]["id"]}
        await call(bus, "rollbackTransaction", **begun)
        await call(bus, "query", sql="SELECT 1")
    await until(lambda: ready(bus))
    assert (await call(bus, "execute", sql="UPDATE t SET a = 1"))["affected_rows"] == 2


async def test_a_server_that_only_reads_after_it_has_been_away_is_not_ready(bus, server):
    async def is_told(words):
        assert not await ready(bus)
        return words in await reasons(bus)

    async with only_reading(bus):
        server.stop()
        try:
            await until(lambda: is_told("cannot be reached"))
        finally:
            server.start()
        await until(lambda: is_told("takes no writes"))
    await until(lambda: ready(bus))


async def test_a_database_that_is_there_to_be_read_is_ready(server):
    async with running(f"{server.url}?options=-cdefault_transaction_read_only%3Don") as bus:
        for _ in range(2):
            assert (await refused(bus, "execute", sql="CREATE TABLE no (a int)")).details["inner_code"] == "25006"
            assert await ready(bus)
            assert await value(bus, "SELECT 1") == 1


async def test_making_a_connection_does_not_count_as_waiting_for_one(server):
    async with running(server.url, pool={"max": 3, "acquire_timeout_ms": 1}) as bus:
        slept = await asyncio.gather(*(value(bus, "SELECT ?::int4 FROM pg_sleep(0.1)", at) for at in range(2)))
        assert slept == [0, 1]


# --- a connection that is lost during COMMIT ----------------------------------------------------------------


async def test_a_connection_that_is_lost_during_commit_leaves_the_outcome_unknown(bus, server):
    async with CuttingProxy(server.port).open() as proxy:
        url = server.url.replace(f":{server.port}/", f":{proxy.port}/")
        async with running(url) as through:
            begun = {"transaction_id": (await call(through, "beginTransaction"))["transaction"]["id"]}
            await call(through, "transactionExecute", **begun, sql="UPDATE t SET a = a + 1")
            proxy.cut_at = b"COMMIT"
            assert (await refused(through, "commitTransaction", **begun)).code == "outcome_unknown"
            for name, payload in [
                ("execute", {"sql": "UPDATE t SET a = a + 1"}),
                ("transaction", {"statements": ["UPDATE t SET a = a + 1"]}),
            ]:
                error = await refused(through, name, **payload)
                assert (error.code, "retryable" in error.details) == ("outcome_unknown", False)
            assert await value(bus, "SELECT sum(a) FROM t") == 6
            proxy.cut_at = b"UPDATE"
            error = await refused(through, "execute", sql="UPDATE t SET a = a + 2")
            assert (error.code, error.details["retryable"]) == ("DRIVER_ERROR", True)
            proxy.cut_at = None
            assert await value(through, "SELECT sum(a) FROM t") == 6


async def test_a_worker_that_ends_while_it_asks_a_server_leaves_no_connection(bus, server):
    async with CuttingProxy(server.port).open() as proxy:
        url = server.url.replace(f":{server.port}/", f":{proxy.port}/")
        async with running(url) as through:
            await call(through, "execute", sql="UPDATE t SET a = a + 1")
            proxy.keep_at = b"SHOW transaction_read_only"
            async with only_reading(through):
                await proxy.kept.wait()

        async def are_connected():
            return await value(bus, "SELECT count(*) FROM pg_stat_activity WHERE client_port = ANY(?)", proxy.ports) > 0

        await until(not_any_more(are_connected))
