"""What fails around a statement: a server that goes, hangs or refuses, a caller that goes, and what each is told."""

import asyncio
import gc
import json
import re
import signal
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import pytest

from linkly import LinklyError
from linkly.errors import ConfigError
from support.cutting_proxy import CuttingProxy
from support.database_calls import call, not_any_more, ready, refused, running, until, value, values
from support.database_servers import ask_directly


@pytest.fixture(scope="module")
def server(kind):
    """A server that may be killed: nobody else's."""
    with kind.run() as server:
        asyncio.run(ask_directly(server, *kind.prepare))
        yield server


@pytest.fixture
async def bus(kind, server):
    async with running(kind.url(server)) as bus:
        await call(bus, "execute", sql="DROP TABLE IF EXISTS t")
        await call(bus, "execute", sql="CREATE TABLE t (id int PRIMARY KEY, a int)")
        await call(bus, "execute", sql="INSERT INTO t VALUES (1, 0), (2, 0)")
        yield bus


async def total(bus):
    return int(await value(bus, "SELECT sum(a) FROM t"))


# --- statements that do not end ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, sql",
    [("query", "SELECT {}(601)"), ("execute", "UPDATE t SET a = 1 WHERE {}(602) IS NULL")],
)
async def test_a_statement_that_takes_too_long_ends_on_the_server(bus, kind, name, sql):
    error = await refused(bus, name, sql=sql.format(kind.sleep), timeout_ms=100)
    assert (error.code, error.details["timeout_ms"]) == ("QUERY_TIMEOUT", 100)
    await until(not_any_more(kind.running_on_server(bus, re.search("[0-9]{3}", sql)[0])))
    assert await total(bus) == 0


async def test_a_transaction_that_takes_too_long_is_undone(bus, kind):
    statements = ["UPDATE t SET a = 7", f"SELECT {kind.sleep}(603)"]
    assert (await refused(bus, "transaction", statements=statements, timeout_ms=100)).code == "QUERY_TIMEOUT"
    await until(not_any_more(kind.running_on_server(bus, "603")))
    assert await total(bus) == 0


async def test_a_caller_that_goes_away_ends_his_statement_on_the_server(bus, kind):
    runs = kind.running_on_server(bus, "604")
    asked = asyncio.ensure_future(call(bus, "execute", sql=f"UPDATE t SET a = 1 WHERE {kind.sleep}(604) IS NULL"))
    await until(runs)
    asked.cancel()
    await until(not_any_more(runs))
    assert await total(bus) == 0


async def test_a_cancelled_statement_leaves_the_rest_of_its_transaction(bus, kind):
    begun = {"transaction_id": (await call(bus, "beginTransaction"))["transaction"]["id"]}
    await call(bus, "transactionExecute", **begun, sql="UPDATE t SET a = 5 WHERE id = 1")
    runs = kind.running_on_server(bus, "605")
    asked = asyncio.ensure_future(call(bus, "transactionQuery", **begun, sql=f"SELECT {kind.sleep}(605)"))
    await until(runs)
    asked.cancel()
    await until(not_any_more(runs))
    await call(bus, "transactionExecute", **begun, sql="UPDATE t SET a = 5 WHERE id = 2")
    await call(bus, "commitTransaction", **begun)
    assert await total(bus) == 10


async def test_a_rollback_stops_the_statement_that_runs(bus, kind):
    begun = {"transaction_id": (await call(bus, "beginTransaction"))["transaction"]["id"]}
    runs = kind.running_on_server(bus, "606")
    asked = asyncio.ensure_future(call(bus, "transactionQuery", **begun, sql=f"SELECT {kind.sleep}(606)"))
    await until(runs)
    await call(bus, "rollbackTransaction", **begun)
    with pytest.raises(LinklyError, match="was rolled back by rollbackTransaction"):
        await asked
    await until(not_any_more(runs))


# --- results that are too large ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql, numbers",
    [
        ("SELECT repeat('x', 50000000)", 0),
        ("SELECT n, repeat('x', 1000) FROM {}", 1_000_000),
        ("SELECT true FROM {}", 2_000_000),
        ("INSERT INTO t SELECT n + 10, n FROM {} RETURNING *, repeat('x', 10000)", 20_000),
    ],
)
async def test_a_result_is_stopped_long_before_it_fills_the_memory(bus, kind, sql, numbers):
    gc.collect()
    before = _resident_kib()
    assert (await refused(bus, "query", sql=sql.format(kind.numbers.format(numbers)))).code == "RESULT_TOO_LARGE"
    assert _resident_kib() - before < 100_000
    assert await value(bus, "SELECT count(*) FROM t") == 2


@pytest.mark.parametrize("size", [999_990, 1_000_200, 1_300_000, 3_000_000])
async def test_a_result_that_is_too_large_leaves_its_connection_open(server, size, kind):
    """Also where its last bytes have come already: then there is nothing to cancel."""
    async with running(kind.url(server), pool={"max": 1}) as bus:
        mine = await value(bus, f"SELECT {kind.mine}")
        assert (await refused(bus, "query", sql=f"SELECT repeat('x', {size})")).code == "RESULT_TOO_LARGE"
        assert await value(bus, f"SELECT {kind.mine}") == mine


async def test_a_result_that_is_too_large_leaves_its_transaction_open(bus, kind):
    begun = {"transaction_id": (await call(bus, "beginTransaction"))["transaction"]["id"]}
    await call(bus, "transactionExecute", **begun, sql="UPDATE t SET a = 5")
    many = f"SELECT repeat('x', 1000) FROM {kind.numbers.format(100_000)}"
    assert (await refused(bus, "transactionQuery", **begun, sql=many)).code == "RESULT_TOO_LARGE"
    await call(bus, "commitTransaction", **begun)
    assert await total(bus) == 10


async def test_the_limit_is_for_all_results_of_a_call_together(bus, kind):
    part = f"SELECT repeat('x', 1000) FROM {kind.numbers.format(600)}"
    assert (await call(bus, "query", sql=part))["row_count"] == 600
    failed = await call(bus, "transaction", statements=[part, part])
    assert (failed["committed"], failed["failed_index"], failed["error"]["code"]) == (False, 1, "RESULT_TOO_LARGE")


def _resident_kib():
    with open("/proc/self/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])


# --- conflicts ---------------------------------------------------------------------------------------------


async def test_a_deadlock_may_be_tried_again(bus, kind):
    ids = [(await call(bus, "beginTransaction"))["transaction"]["id"] for _ in range(2)]

    def change(at, row):
        sql = {"sql": "UPDATE t SET a = a + 1 WHERE id = ?", "params": [row]}
        return asyncio.ensure_future(call(bus, "transactionExecute", transaction_id=ids[at], **sql))

    await change(0, 1)
    await change(1, 2)
    both = [change(0, 2), change(1, 1)]
    await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
    (lost,) = [each for each in both if each.done() and each.exception()]
    error = lost.exception()
    code, retryable = error.details["inner_code"], error.details["retryable"]
    assert (error.code, code, retryable) == ("DRIVER_ERROR", kind.deadlock, True)
    lost_id, other_id = ids if lost is both[0] else reversed(ids)
    if kind.driver == "mysql":  # which has rolled back all of it
        assert (await refused(bus, "rollbackTransaction", transaction_id=lost_id)).code == "TRANSACTION_NOT_FOUND"
    else:
        await call(bus, "rollbackTransaction", transaction_id=lost_id)
    (other,) = {*both} - {lost}
    assert (await other)["affected_rows"] == 1
    await call(bus, "rollbackTransaction", transaction_id=other_id)


# --- a server that goes ------------------------------------------------------------------------------------


async def test_a_killed_server_loses_only_what_was_running(bus, server, kind):
    begun = {"transaction_id": (await call(bus, "beginTransaction"))["transaction"]["id"]}
    await call(bus, "transactionExecute", **begun, sql="UPDATE t SET a = 100")
    runs = kind.running_on_server(bus, "607")
    asked = asyncio.ensure_future(refused(bus, "execute", sql=f"UPDATE t SET a = 1 WHERE {kind.sleep}(607) IS NULL"))
    await until(runs)
    server.stop(signal.SIGQUIT if kind.driver == "postgres" else signal.SIGKILL)
    error = await asked
    commits = kind.driver == "postgres"  # the server commits it: nobody can know whether it has
    expected = ("outcome_unknown", None) if commits else ("DRIVER_ERROR", True)
    assert (error.code, error.details.get("retryable")) == expected
    server.start()
    assert (await call(bus, "execute", sql="UPDATE t SET a = a + 1"))["affected_rows"] == 2
    assert await total(bus) == 2
    assert (await refused(bus, "commitTransaction", **begun)).code in ("DRIVER_ERROR", "outcome_unknown")
    assert (await refused(bus, "commitTransaction", **begun)).code == "TRANSACTION_NOT_FOUND"
    await until(lambda: ready(bus))


async def test_a_stream_ends_with_an_error_when_its_server_is_killed(bus, server, kind):
    channel = await bus.create_channel(1)
    sql = f"SELECT n FROM {kind.numbers.format(1_000_000)}"
    asked = asyncio.ensure_future(refused(bus, "stream", sql=sql, writer=channel.writer))
    reader = await bus.open_reader(channel.reader)
    for _ in range(3):
        assert await reader.receive()
    server.stop(signal.SIGQUIT if kind.driver == "postgres" else signal.SIGKILL)
    said = [message async for message in reader if isinstance(message, str)]
    error = await asked
    assert (error.code, error.details["retryable"]) == ("DRIVER_ERROR", True)
    assert json.loads(said[-1])["error"]["code"] == "DRIVER_ERROR"
    server.start()
    assert await value(bus, "SELECT 1") == 1


async def test_what_a_kind_of_database_cannot_do_is_told(bus, kind, tmp_path):
    if kind.driver == "postgres":
        pytest.skip("it can")
    config = {"db": "primary", "table": "t", "capture": "native"}
    payload = {"trigger_type": "database::row-changed", "function_id": "test::hear", "config": config}
    with pytest.raises(LinklyError, match="cannot tell of what others change"):
        await bus.trigger("engine::register_trigger", payload)


async def test_calls_wait_for_a_server_that_is_started_again(bus, server):
    server.stop()
    asked = asyncio.ensure_future(call(bus, "execute", sql="UPDATE t SET a = a + 1"))
    await until(not_any_more(lambda: ready(bus)))
    assert not asked.done()
    server.start()
    assert (await asked)["affected_rows"] == 2
    await until(lambda: ready(bus))


async def test_a_server_that_stays_away_is_told_within_the_time(server, kind):
    async with running(kind.url(server), pool={"acquire_timeout_ms": 1500}) as bus:
        server.stop()
        try:
            error = await refused(bus, "execute", sql="UPDATE t SET a = a")
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


async def test_a_server_that_is_away_at_the_start_is_waited_for(server, kind):
    server.stop()
    try:
        async with running(kind.url(server)) as bus:
            assert not await ready(bus)
            server.start()
            await until(lambda: ready(bus))
            assert await value(bus, "SELECT 1") == 1
    finally:
        server.stop()
        server.start()


async def test_an_unknown_host_is_told(kind, server):
    url = server.url.replace("127.0.0.1", "no-such-host.invalid")
    tls = {"mode": "disable"}
    async with running(url, tls=tls, pool={"acquire_timeout_ms": 100}) as bus:
        error = await refused(bus, "query", sql="SELECT 1")
        assert (error.code, "no-such-host.invalid" in error.message) == ("DRIVER_ERROR", True)


def with_parts(url, *, password=None, database=None):
    parts = urlsplit(url)
    netloc = parts.netloc if password is None else f"linkly:{password}@{parts.netloc.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=netloc, path=parts.path if database is None else f"/{database}"))


async def test_a_wrong_password_and_an_unknown_database_stop_the_worker(server, kind):
    for url, words in [
        (with_parts(server.url, password="s3cret"), kind.wrong_password),
        (with_parts(server.url, database="missing"), kind.unknown_database),
    ]:
        with pytest.raises(ConfigError, match=words) as caught:
            async with running(url):
                pass
        assert "s3cret" not in str(caught.value)


async def test_a_password_may_change_while_it_runs(kind, server, tmp_path):
    secret = tmp_path / "password"
    secret.write_text("first\n")
    await ask_directly(server, *kind.make_rita)
    try:
        more = {"password_file": str(secret), "pool": {"acquire_timeout_ms": 3000}}
        async with running(kind.url(server, "rita"), **more) as bus:
            assert await value(bus, f"SELECT {kind.user}") == "rita"
            await ask_directly(server, *kind.change_rita)
            error = await refused(bus, "execute", sql="UPDATE t SET a = a")
            assert (error.code, error.details["inner_code"]) == ("DRIVER_ERROR", kind.refused)
            secret.write_text("second\n")
            assert await value(bus, f"SELECT {kind.user}") == "rita"
    finally:
        await ask_directly(server, *kind.drop_rita)


@asynccontextmanager
async def only_reading(bus, kind, server):
    """Have the server take no writes until the block ends, and the worker know it."""
    await ask_directly(server, *kind.takes_no_writes)
    try:
        error = await _refused_to_write(bus)
        code, retryable = error.details["inner_code"], error.details["retryable"]
        assert (error.code, code, retryable) == ("DRIVER_ERROR", kind.only_reads, True)
        yield
    finally:
        await ask_directly(server, *kind.takes_writes)


async def _refused_to_write(bus):
    """PostgreSQL tells its processes that a setting has changed when it comes to that."""
    async with asyncio.timeout(30):
        while True:
            try:
                await call(bus, "execute", sql="UPDATE t SET a = 0")
            except LinklyError as error:
                return error


async def reasons(bus):
    return " ".join((await call(bus, "readiness"))["reasons"])


async def test_a_server_that_only_reads_is_left_until_it_writes_again(bus, kind, server):
    async with only_reading(bus, kind, server):
        assert (await ready(bus), "takes no writes" in await reasons(bus)) == (False, True)
        assert await total(bus) == 0
        begun = {"transaction_id": (await call(bus, "beginTransaction"))["transaction"]["id"]}
        await call(bus, "rollbackTransaction", **begun)
        await call(bus, "query", sql="SELECT 1")
    await until(lambda: ready(bus))
    assert (await call(bus, "execute", sql="UPDATE t SET a = 1"))["affected_rows"] == 2


async def test_a_server_that_only_reads_after_it_has_been_away_is_not_ready(bus, kind, server):
    async def is_told(words):
        assert not await ready(bus)
        return words in await reasons(bus)

    async with only_reading(bus, kind, server):
        server.stop()
        try:
            await until(lambda: is_told("cannot be reached"))
        finally:
            server.start(*kind.reads_only)
        await until(lambda: is_told("takes no writes"))
    await until(lambda: ready(bus))


async def test_making_a_connection_does_not_count_as_waiting_for_one(kind, server):
    async with running(kind.url(server), pool={"max": 3, "acquire_timeout_ms": 1}) as bus:
        sleep = f"SELECT CASE WHEN {kind.sleep}(0.1) IS NULL THEN -1 ELSE CAST(? AS DECIMAL(1)) END"
        slept = await asyncio.gather(*(value(bus, sleep, at) for at in range(2)))
        assert slept == ["0", "1"]


CONNECTIONS = {
    "postgres": ("ALTER ROLE plain CONNECTION LIMIT 3", "ALTER ROLE plain CONNECTION LIMIT -1"),
    "mysql": ("ALTER USER plain WITH MAX_USER_CONNECTIONS 4", "ALTER USER plain WITH MAX_USER_CONNECTIONS 0"),
}


async def test_callers_share_the_connections_that_a_full_server_has_given(kind, server):
    full, free = CONNECTIONS[kind.driver]
    await ask_directly(server, full)
    try:
        async with running(kind.url(server), pool={"max": 10}) as bus:
            sleep = f"SELECT CASE WHEN {kind.sleep}(0.1) IS NULL THEN -1 ELSE CAST(? AS DECIMAL(1)) END"
            slept = await asyncio.gather(*(value(bus, sleep, at) for at in range(10)))
            assert slept == [str(at) for at in range(10)]
            assert await ready(bus)
    finally:
        await ask_directly(server, free)


# --- a connection that is lost during COMMIT ----------------------------------------------------------------


async def test_a_connection_that_is_lost_during_commit_leaves_the_outcome_unknown(bus, kind, server):
    async with CuttingProxy(server.port).open() as proxy:
        url = kind.url(server).replace(f":{server.port}/", f":{proxy.port}/")
        async with running(url) as through:
            begun = {"transaction_id": (await call(through, "beginTransaction"))["transaction"]["id"]}
            await call(through, "transactionExecute", **begun, sql="UPDATE t SET a = a + 1")
            proxy.cut_at = b"COMMIT"
            assert (await refused(through, "commitTransaction", **begun)).code == "outcome_unknown"
            returning = " RETURNING a" if kind.driver == "postgres" else ""  # without it there is no COMMIT
            for name, payload in [
                ("execute", {"sql": f"UPDATE t SET a = a + 1{returning}"}),
                ("transaction", {"statements": ["UPDATE t SET a = a + 1", "SELECT 1"]}),
            ]:
                error = await refused(through, name, **payload)
                assert (error.code, "retryable" in error.details) == ("outcome_unknown", False)
            assert await total(bus) == 6
            proxy.cut_at = b"UPDATE"
            error = await refused(through, "execute", sql="UPDATE t SET a = a + 2")
            assert (error.code, error.details["retryable"]) == ("DRIVER_ERROR", True)
            proxy.cut_at = None
            assert await total(through) == 6


async def test_a_worker_that_ends_while_it_asks_a_server_leaves_no_connection(bus, server, kind):
    async with CuttingProxy(server.port).open() as proxy:
        url = kind.url(server).replace(f":{server.port}/", f":{proxy.port}/")
        async with running(url) as through:
            await call(through, "execute", sql="UPDATE t SET a = a + 1")
            proxy.keep_at = kind.asks
            async with only_reading(through, kind, server):
                await proxy.kept.wait()

        async def are_connected():
            return not {*proxy.ports}.isdisjoint(await values(bus, kind.client_ports))

        await until(not_any_more(are_connected))
