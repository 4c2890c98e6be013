"""What fails around a statement on PostgreSQL only: see test_server_faults.py."""

import pytest

from support.database_calls import call, ready, refused, running, value
from support.postgres_server import MISSING, binaries, running_server

pytestmark = pytest.mark.skipif(binaries() is None, reason=MISSING)


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


async def test_a_database_that_is_there_to_be_read_is_ready(server):
    async with running(f"{server.url}?options=-cdefault_transaction_read_only%3Don") as bus:
        for _ in range(2):
            assert (await refused(bus, "execute", sql="CREATE TABLE no (a int)")).details["inner_code"] == "25006"
            assert await ready(bus)
            assert await value(bus, "SELECT 1") == 1
