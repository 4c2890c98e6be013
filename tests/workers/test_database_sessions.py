"""Interactive transactions, prepared statements, row-changed events and tools of the database worker."""

import asyncio

from linkly import Worker, function, trigger
from linkly.testing import ManualClock, settle
from support.database_calls import begin, call, refused


async def count(bus):
    return (await call(bus, "query", sql="SELECT COUNT(*) AS n FROM t"))["rows"][0]["n"]


async def test_only_a_committed_transaction_is_there(run, database):
    async with run(database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        for end, rows in (("commitTransaction", 1), ("rollbackTransaction", 1)):
            name = await begin(bus)
            done = await call(bus, "transactionExecute", transaction_id=name, sql="INSERT INTO t VALUES (1)")
            assert done["affected_rows"] == 1
            await call(bus, end, transaction_id=name)
            assert await count(bus) == rows
            assert (await refused(bus, end, transaction_id=name)).code == "TRANSACTION_NOT_FOUND"


async def test_writes_of_others_do_not_join_an_open_transaction(run, database):
    async with run(database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        name = await begin(bus)
        await call(bus, "transactionExecute", transaction_id=name, sql="INSERT INTO t VALUES (1)")
        others = [asyncio.create_task(call(bus, "execute", sql="INSERT INTO t VALUES (2)")) for _ in range(5)]
        await settle()
        assert not any(each.done() for each in others)
        await call(bus, "rollbackTransaction", transaction_id=name)
        await asyncio.gather(*others)
        assert await count(bus) == 5


async def test_an_abandoned_transaction_is_rolled_back_at_its_deadline(run, database):
    clock = ManualClock()
    async with run(database, clock=clock) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a)")
        name = await begin(bus, timeout_ms=1000)
        await call(bus, "transactionExecute", transaction_id=name, sql="INSERT INTO t VALUES (1)")
        other = asyncio.create_task(call(bus, "execute", sql="INSERT INTO t VALUES (2)"))
        await clock.advance(1.1)
        await other
        assert (await refused(bus, "commitTransaction", transaction_id=name)).code == "TRANSACTION_NOT_FOUND"
        assert await count(bus) == 1


async def test_a_handle_runs_until_it_expires(run, database):
    clock = ManualClock()
    async with run(database, clock=clock) as bus:
        handle = (await call(bus, "prepareStatement", sql="SELECT ? AS a", ttl_seconds=1))["handle"]["id"]
        for number in range(50):
            answer = await call(bus, "runStatement", handle_id=handle, params=[number])
            assert answer["rows"] == [{"a": number}]
        assert (await refused(bus, "runStatement", handle_id=handle)).code == "DRIVER_ERROR"
        assert (await refused(bus, "prepareStatement", sql="SELEC 1")).code == "DRIVER_ERROR"
        await clock.advance(1)
        assert (await refused(bus, "runStatement", handle_id=handle, params=[1])).code == "STATEMENT_NOT_FOUND"


async def test_row_changed_tells_of_committed_changes_once_and_in_order(run, database):
    heard = []

    class Ear(Worker):
        name = "ear"

        @function("ear::hear", triggers=[trigger("database::row-changed", {"db": "primary"})])
        async def hear(self, event: dict) -> None:
            heard.append((event["op"], event["table"], event["affected_rows"]))

    async with run(database, Ear()) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a PRIMARY KEY)")
        await call(bus, "execute", sql="CREATE TABLE log (a)")
        await call(bus, "execute", sql="CREATE TRIGGER x AFTER INSERT ON t BEGIN INSERT INTO log VALUES (1); END")
        upsert = "WITH n(i) AS (SELECT ?) INSERT INTO t SELECT i FROM n WHERE 1 ON CONFLICT (a) DO UPDATE SET a = a"
        await call(bus, "execute", sql=upsert, params=[1])
        await call(bus, "transaction", statements=["UPDATE t SET a = 2", "INSERT INTO t VALUES (2)"])
        await call(bus, "execute", sql="DELETE FROM t WHERE a = 99")
        await call(bus, "transaction", statements=["UPDATE t SET a = 3", "DELETE FROM log"])
        name = await begin(bus)
        await call(bus, "transactionExecute", transaction_id=name, sql="DELETE FROM t")
        await call(bus, "commitTransaction", transaction_id=name)
        await settle(200)
        assert heard == [("insert", "t", 1), ("update", "t", 1), ("delete", "log", 1), ("delete", "t", 1)]


async def test_tables_are_listed_described_and_statements_explained(run, database):
    async with run(database) as bus:
        await call(bus, "execute", sql="CREATE TABLE t (a INTEGER PRIMARY KEY, b VARCHAR(9) NOT NULL UNIQUE)")
        await call(bus, "execute", sql="CREATE VIEW v AS SELECT b FROM t")
        listed = await call(bus, "listTables")
        assert listed["tables"] == [{"name": "t", "type": "table"}, {"name": "v", "type": "view"}]
        described = await call(bus, "describeTable", table="T")
        assert described["primary_key"] == ["a"]
        assert [(each["name"], each["type"], each["nullable"]) for each in described["columns"]] == [
            ("a", "INTEGER", False),
            ("b", "VARCHAR(9)", False),
        ]
        assert [index["columns"] for index in described["indexes"]] == [["b"]]
        assert (await refused(bus, "describeTable", table="none")).code == "NOT_FOUND"
        plan = await call(bus, "explain", sql="SELECT * FROM t WHERE b = ?", params=["x"])
        assert "INDEX" in plan["plan"][0]["detail"]
        assert (await refused(bus, "explain", sql="DELETE FROM t", analyze=True)).code == "INVALID_PARAM"
        assert (await refused(bus, "execute", sql="PRAGMA synchronous = OFF")).code == "INVALID_PARAM"
