"""`database::row-changed` where PostgreSQL's command tag does not say what was changed."""

import pytest

from linkly import Function, trigger
from linkly.testing import settle
from support.database_calls import call, execute, running


@pytest.fixture
async def bus(postgres_url):
    async with running(postgres_url) as bus:
        await execute(bus, "CREATE TABLE t (id int)")
        await execute(bus, "CREATE TABLE other (id int)")
        yield bus


@pytest.fixture
async def told(bus):
    """Return what is told, in order."""
    told = []

    async def hear(event: dict) -> None:
        told.append((event["op"], event["table"], event["affected_rows"]))

    bus.register_function(Function("test::hear", hear))
    bus.register_trigger("test::hear", trigger("database::row-changed", {"db": "primary"}))
    await settle()
    return told


INSERT = "WITH n AS (INSERT INTO t SELECT generate_series(1, 3) RETURNING id) SELECT max(id) AS highest FROM n"


async def test_a_with_that_writes_before_a_select_is_told(bus, told):
    answer = await call(bus, "query", sql=INSERT)
    assert answer["rows"] == [{"highest": 3}]
    assert (await execute(bus, INSERT))["affected_rows"] == 3
    await settle()
    assert told == [("insert", "t", 3)] * 2


async def test_it_is_told_of_every_kind_of_transaction_without_what_was_before(bus, told):
    await call(bus, "transaction", statements=["INSERT INTO other VALUES (1), (2)", INSERT, "SELECT 1"])
    begun = {"transaction_id": (await call(bus, "beginTransaction"))["transaction"]["id"]}
    await call(bus, "transactionExecute", **begun, sql="DELETE FROM other")
    await call(bus, "transactionQuery", **begun, sql="WITH d AS (DELETE FROM t RETURNING 1) SELECT count(*) FROM d")
    await call(bus, "commitTransaction", **begun)
    await settle()
    assert told == [("insert", "other", 2), ("insert", "t", 3), ("delete", "other", 2), ("delete", "t", 3)]


async def test_several_changes_of_one_with_are_one_of_no_table(bus, told):
    both = "WITH a AS (INSERT INTO t VALUES (1)), b AS (INSERT INTO other VALUES (1), (2)) SELECT 1 AS one"
    assert (await execute(bus, both))["affected_rows"] == 3
    await execute(bus, "WITH a AS (DELETE FROM t WHERE id = 9 RETURNING 1) SELECT * FROM a")
    await settle()
    assert told == [("other", None, 3)]
