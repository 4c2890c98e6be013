"""Row-changed events that wait for their functions: when functions misbehave or the worker stops."""

import asyncio
from contextlib import asynccontextmanager

from linkly import Worker, function, trigger
from linkly.testing import ManualClock, running_engine, settle
from support.database_calls import database_worker

WAIT_S = 30


class Ear(Worker):
    """Hears of changes, and may make them wait."""

    name = "ear"

    def __init__(self):
        super().__init__()
        self.heard = []
        self.changes = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.failure = None

    @function("ear::hear", triggers=[trigger("database::row-changed", {"db": "primary"})])
    async def hear(self, event: dict) -> None:
        """Note it."""
        self.heard.append(event["affected_rows"])
        self.changes.append((event["op"], event["table"]))
        await self.may_go_on.wait()
        if self.failure is not None:
            raise self.failure


@asynccontextmanager
async def database_with_ear(run, tmp_path):
    """Run both; the ear starts first, so it ends last."""
    database = database_worker(f"sqlite:{tmp_path}/a.db")
    ear = Ear()
    async with run(ear, database) as bus:
        await bus.trigger("database::execute", {"sql": "CREATE TABLE t (a)"})
        yield bus, database, ear


async def insert(bus, count=1):
    for _ in range(count):
        await bus.trigger("database::execute", {"sql": "INSERT INTO t VALUES (1)"})


async def test_a_worker_that_ends_delivers_what_waits(run, tmp_path):
    async with database_with_ear(run, tmp_path) as (bus, _, ear):
        ear.may_go_on.clear()
        await insert(bus, 20)
        await settle()
        assert len(ear.heard) == 1
        asyncio.get_running_loop().call_soon(ear.may_go_on.set)
    assert len(ear.heard) == 20


async def test_changes_holds_between_the_statements_of_a_transaction_that_is_told(run, tmp_path):
    async with database_with_ear(run, tmp_path) as (bus, _, ear):
        await bus.trigger("database::execute", {"sql": "CREATE TABLE counters (n)"})
        await bus.trigger("database::execute", {"sql": "INSERT INTO counters VALUES (0)"})
        for _ in range(2):  # the first time it is found out what the statements change
            texts = "INSERT INTO t VALUES (2)", "UPDATE counters SET n = n + 1 WHERE changes() = 1"
            answer = await bus.trigger("database::transaction", {"statements": [{"sql": sql} for sql in texts]})
            assert [each["affected_rows"] for each in answer["results"]] == [1, 1]
        await settle()
        assert ear.changes[-2:] == [("insert", "t"), ("update", "counters")]


async def test_draining_waits_until_what_waits_is_delivered(run, tmp_path):
    async with database_with_ear(run, tmp_path) as (bus, database, ear):
        ear.may_go_on.clear()
        await insert(bus, 3)
        draining = asyncio.ensure_future(database.drain())
        await settle()
        assert not draining.done()
        ear.may_go_on.set()
        async with asyncio.timeout(WAIT_S):
            await draining
        assert len(ear.heard) == 3


async def test_a_function_that_raises_cancelled_error_hears_of_the_next_change(run, tmp_path):
    async with database_with_ear(run, tmp_path) as (bus, database, ear):
        ear.failure = asyncio.CancelledError()
        await insert(bus, 2)
        async with asyncio.timeout(WAIT_S):
            await database.drain()
        ear.failure = None
        await insert(bus)
        async with asyncio.timeout(WAIT_S):
            await database.drain()
        assert len(ear.heard) == 3


async def test_a_function_has_its_own_time_instead_of_the_writers(run, tmp_path):
    clock = ManualClock()
    async with database_with_ear(lambda *workers: run(*workers, clock=clock), tmp_path) as (bus, database, ear):
        ear.may_go_on.clear()
        name = (await bus.trigger("database::beginTransaction", {}))["transaction"]["id"]
        payload = {"transaction_id": name, "sql": "INSERT INTO t VALUES (1)"}
        await bus.trigger("database::transactionExecute", payload)
        await bus.trigger("database::commitTransaction", {"transaction_id": name}, timeout_s=1)
        await insert(bus)
        draining = asyncio.ensure_future(database.drain())
        await settle()
        await clock.advance(29)
        before = len(ear.heard)
        await clock.advance(2)
        after = len(ear.heard)
        ear.may_go_on.set()
        async with asyncio.timeout(WAIT_S):
            await draining
        assert (before, after) == (1, 2)


async def test_what_json_has_no_form_for_does_not_keep_an_event_from_its_function():
    class Told(Worker):
        name = "told"
        events = asyncio.Queue()

        @function("told::rows", triggers=[trigger("database::row-changed", {"db": "primary"})])
        async def rows(self, event: dict) -> None:
            """Take note."""
            self.events.put_nowait(event)

    async with running_engine(database_worker("sqlite::memory:"), Told()) as bus:
        await settle()
        await bus.trigger("database::execute", {"sql": "CREATE TABLE t (a, b)"})
        sql = "INSERT INTO t VALUES (9e999, CAST(x'61ff' AS TEXT)) RETURNING a, b"
        await bus.trigger("database::execute", {"sql": sql})
        async with asyncio.timeout(WAIT_S):
            event = await Told.events.get()
        assert event["returning"] == [{"a": None, "b": "a\ufffd"}]


async def test_an_event_describes_its_write_after_a_change_of_tables(run, tmp_path):
    # The change drops what is known of statements. The second INSERT is compiled already, so that SQLite names its
    # table only when it is compiled once more, without values.
    async with database_with_ear(run, tmp_path) as (bus, database, ear):
        for _ in range(2):
            await bus.trigger("database::execute", {"sql": "INSERT INTO t VALUES (?)", "params": [1]})
            await bus.trigger("database::execute", {"sql": "CREATE TABLE IF NOT EXISTS t (a)"})
        await database.drain()
        assert ear.changes == [("insert", "t")] * 2
