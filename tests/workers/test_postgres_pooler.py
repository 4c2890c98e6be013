"""A transaction pooler between worker and server: no connection keeps anything from one call to the next."""

import asyncio

import pytest

from linkly import LinklyError
from linkly.errors import ConfigError
from support import pg_bouncer
from support.database_calls import call, running, value
from support.postgres_server import MISSING, binaries, running_server

pytestmark = [
    pytest.mark.skipif(binaries() is None, reason=MISSING),
    pytest.mark.skipif(pg_bouncer.program() is None, reason=pg_bouncer.MISSING),
]


@pytest.fixture(scope="module")
def server():
    with running_server() as server:
        yield server


@pytest.fixture(scope="module")
def url(server):
    with pg_bouncer.pooled(server) as url:
        yield url


@pytest.fixture
async def bus(url):
    async with running(url, pooler="transaction") as bus:
        yield bus


async def test_every_call_works_while_connections_change_hands(bus):
    found = await asyncio.gather(
        *(value(bus, f"SELECT ?::int4 + {number % 7} - {number % 7}", number) for number in range(200))
    )
    assert found == list(range(200))


async def test_writes_and_transactions_are_all_or_nothing(bus):
    await call(bus, "execute", sql="CREATE TABLE counted (a int)")
    await call(bus, "execute", sql="INSERT INTO counted VALUES (0)")
    try:
        add = "UPDATE counted SET a = a + ?"
        await asyncio.gather(*(call(bus, "execute", sql=add, params=[1]) for _ in range(30)))
        failed = await call(bus, "transaction", statements=[{"sql": add, "params": [100]}, "SELECT 1 / 0"])
        assert failed["failed_index"] == 1
        begun = {"transaction_id": (await call(bus, "beginTransaction"))["transaction"]["id"]}
        await call(bus, "transactionExecute", **begun, sql=add, params=[1])
        with pytest.raises(LinklyError):
            await call(bus, "transactionExecute", **begun, sql="SELECT 1 / 0")
        await call(bus, "commitTransaction", **begun)
        assert await value(bus, "SELECT a FROM counted") == 31
    finally:
        await call(bus, "execute", sql="DROP TABLE counted")


async def test_a_statement_that_takes_too_long_ends_on_the_server(bus, server):
    with pytest.raises(LinklyError) as failure:
        await call(bus, "query", sql="SELECT pg_sleep(701)", timeout_ms=100)
    assert failure.value.code == "QUERY_TIMEOUT"
    running_yet = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE state = 'active' AND query LIKE '%(701)%' AND pid <> pg_backend_pid()"
    )
    for _ in range(1000):
        if await value(bus, running_yet) == 0:
            break
        await asyncio.sleep(0.01)
    assert await value(bus, running_yet) == 0


async def test_what_cannot_run_in_a_transaction_runs_without_one(bus):
    await call(bus, "execute", sql="VACUUM pg_class")


async def test_a_pooler_that_nobody_told_of_is_told_how(url):
    with pytest.raises(ConfigError, match="`pooler: transaction`"):
        async with running(url):
            pass


async def test_a_prepared_handle_serves(bus):
    handle = (await call(bus, "prepareStatement", sql="SELECT ?::int4 AS a"))["handle"]["id"]
    answers = await asyncio.gather(*(call(bus, "runStatement", handle_id=handle, params=[at]) for at in range(20)))
    assert [answer["rows"][0]["a"] for answer in answers] == list(range(20))


WHO = "current_setting('application_name')"
"""Tells which way a statement came: PgBouncer passes the name on as well."""


@pytest.fixture
async def two_ways(url, server):
    async with running(url, pooler="transaction", direct_url=f"{server.url}?application_name=direct") as bus:
        yield bus


async def test_calls_go_through_the_pooler_and_migrations_past_it(two_ways):
    assert (await value(two_ways, f"SELECT {WHO}")).startswith("linkly")
    sql = f"CREATE TABLE way AS SELECT {WHO} AS who, pg_backend_pid() AS pid"
    try:
        await call(two_ways, "migrate", migrations=[{"name": "1_way.sql", "sql": sql}])
        assert await value(two_ways, "SELECT who FROM way") == "direct"
    finally:
        await call(two_ways, "execute", sql="DROP TABLE IF EXISTS way, linkly_migrations")


async def test_what_cannot_run_in_a_transaction_goes_past_the_pooler(two_ways):
    body = f"BEGIN INSERT INTO way VALUES ({WHO}); COMMIT; END"
    try:
        for sql in (
            "CREATE TABLE way (who text)",
            f"CREATE PROCEDURE go() LANGUAGE plpgsql AS $${body}$$",
            "CALL go()",
        ):
            await call(two_ways, "execute", sql=sql)
        assert await value(two_ways, "SELECT who FROM way") == "direct"
    finally:
        await call(two_ways, "execute", sql="DROP PROCEDURE IF EXISTS go")
        await call(two_ways, "execute", sql="DROP TABLE IF EXISTS way")


async def test_a_server_that_is_away_past_its_pooler_leaves_calls_alone(url):
    nowhere = "postgres://linkly@127.0.0.1:1/postgres"
    async with running(url, pooler="transaction", direct_url=nowhere, pool={"acquire_timeout_ms": 300}) as bus:
        assert await value(bus, "SELECT 1") == 1
        with pytest.raises(LinklyError, match=r"127\.0\.0\.1:1/postgres cannot be reached"):
            await call(bus, "migrate", migrations=[{"name": "1_a.sql", "sql": "SELECT 1"}])
        assert await value(bus, "SELECT 2") == 2


async def test_native_capture_goes_past_the_pooler_or_is_refused(bus, two_ways):
    config = {"db": "primary", "table": "orders", "capture": "native"}
    payload = {"trigger_type": "database::row-changed", "function_id": "test::hear", "config": config}
    await call(two_ways, "execute", sql="CREATE TABLE orders (id int)")
    try:
        with pytest.raises(LinklyError, match="say where the server is with `direct_url`"):
            await bus.trigger("engine::register_trigger", payload)
        await two_ways.trigger("engine::register_trigger", payload)
        listening = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'direct' AND pid <> pg_backend_pid()"
        )
        assert await value(two_ways, listening) >= 1
    finally:
        for sql in ("DROP TABLE orders, linkly_changes, linkly_readers", "DROP FUNCTION linkly_capture CASCADE"):
            await call(two_ways, "execute", sql=sql)


async def test_a_stream_is_one_transaction_of_the_pooler(bus):
    channel = await bus.create_channel()
    sql = "SELECT generate_series(1, ?::int4) AS i"
    payload = {"sql": sql, "params": [5000], "writer": channel.writer}
    streaming = asyncio.ensure_future(call(bus, "stream", **payload))
    data = await (await bus.open_reader(channel.reader)).read_all()
    assert data.count(b"\n") == (await streaming)["row_count"] == 5000
