"""`database::row-changed` with `capture: native`: everybody's changes of one table, in order, at least once."""

import asyncio
import importlib
import json
import secrets

import pytest

from linkly import Function, LinklyError, trigger
from linkly.errors import HandlerFailed
from linkly.schema import read_settings
from linkly.testing import running_engine, settle
from linkly_workers.database import DatabaseSettings, DatabaseWorker, captures
from support.database_calls import call, execute, rows, running
from support.postgres_server import connected

pytest.importorskip("asyncpg", reason="asyncpg is missing: pip install -e '.[dev]'")
capture = importlib.import_module("linkly_workers.database.postgres.capture")
capture_sql = importlib.import_module("linkly_workers.database.postgres.capture_sql")

WAIT_S = 20


@pytest.fixture
async def other(postgres_url):
    """A client of the server that knows nothing of linkly."""
    async with connected(postgres_url) as connection:
        await connection.execute("CREATE TABLE orders (id int PRIMARY KEY, n numeric, note text)")
        yield connection


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Let readers look again soon, and try again soon: they wait for the server, which no clock of a test moves."""
    monkeypatch.setattr(capture, "LONGEST_WAIT_S", 0.1)
    monkeypatch.setattr(capture, "RETRY_S", 0.1)
    monkeypatch.setattr(captures, "FIRST_WAIT_S", 0.1)


class Ear:
    """A function that notes what it is told."""

    def __init__(self):
        self.told = []
        self.failures = 0
        self.came = asyncio.Event()

    async def hear(self, event: dict) -> None:
        if self.failures:
            self.failures -= 1
            self.came.set()
            raise HandlerFailed("not now")
        self.told.append(event)
        self.came.set()

    async def until(self, count):
        async with asyncio.timeout(WAIT_S):
            while len(self.told) < count:
                self.came.clear()
                await self.came.wait()
        return self.told

    @property
    def rows(self):
        """What was told, as operation, old key and new key."""
        return [(each["op"], *((each.get(side) or {}).get("id") for side in ("old", "new"))) for each in self.told]


async def until(question, *args):
    """Wait for what only the server can tell."""
    async with asyncio.timeout(WAIT_S):
        while not await question(*args):  # noqa: ASYNC110 - nobody says when a row of the server changes
            await asyncio.sleep(0.02)


async def listening(bus, ear, function_id="test::hear", **config):
    """Bind an ear, and return what takes it back; from then on it is told of what happens."""
    bus.register_function(Function(function_id, ear.hear))
    config = {"db": "primary", "table": "orders", "capture": "native", **config}
    registration = bus.register_trigger(function_id, trigger("database::row-changed", config))
    await until(is_read, bus, function_id)
    return registration


async def is_read(bus, function_id):
    if not await rows(bus, "SELECT 1 AS a WHERE to_regclass('linkly_readers') IS NOT NULL"):
        return False
    return bool(await rows(bus, "SELECT 1 AS a FROM linkly_readers WHERE position(? IN reader) > 0", function_id))


LOOKED = """
SELECT max(query_start) FROM pg_stat_activity WHERE pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')"""


async def has_looked(other, times=4):
    """Wait until a reader has asked for changes and for the horizon again, so that it has seen what is there."""
    for _ in range(times):
        before = await other.fetchval(LOOKED)

        async def again(before=before):
            return await other.fetchval(LOOKED) != before

        await until(again)


async def left(other):
    """Return how many triggers, readers and changes there are."""
    return (
        await other.fetchval("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'orders'::regclass"),
        await other.fetchval("SELECT count(*) FROM linkly_readers"),
        await other.fetchval("SELECT count(*) FROM linkly_changes"),
    )


async def test_changes_of_others_are_told_with_the_row_before_and_after(postgres_url, other):
    ear = Ear()
    async with running(postgres_url) as bus:
        await listening(bus, ear)
        await other.execute("INSERT INTO orders VALUES (1, 1.10, 'ü')")
        await execute(bus, "UPDATE orders SET id = 2")
        await other.execute("DELETE FROM orders")
        first, second, third = await ear.until(3)
    assert first["at"] > 1_700_000_000_000
    assert {name: first[name] for name in ("db", "table", "op", "affected_rows", "new")} == {
        "db": "primary",
        "table": "orders",
        "op": "insert",
        "affected_rows": 1,
        "new": {"id": 1, "n": 1.10, "note": "ü"},
    }
    assert "old" not in first
    assert (second["op"], second["old"]["id"], second["new"]["id"]) == ("update", 1, 2)
    assert (third["op"], third["old"]["id"], "new" in third) == ("delete", 2, False)


async def test_a_transaction_that_commits_late_is_not_lost_and_rolled_back_ones_are_not_told(postgres_url, other):
    ear = Ear()
    async with running(postgres_url) as bus, connected(postgres_url) as late:
        await listening(bus, ear)
        await late.execute("BEGIN; INSERT INTO orders VALUES (1)")
        await other.execute("BEGIN; INSERT INTO orders VALUES (9); ROLLBACK")
        await other.execute("INSERT INTO orders VALUES (2)")
        await has_looked(other)
        assert ear.told == []
        await late.execute("COMMIT")
        await other.execute("INSERT INTO orders VALUES (3)")
        await ear.until(3)
    assert ear.rows == [("insert", None, 1), ("insert", None, 2), ("insert", None, 3)]


async def test_changes_of_one_row_come_in_their_order_when_an_older_transaction_is_later(postgres_url, other):
    ear = Ear()
    await other.execute("INSERT INTO orders VALUES (1, 0)")
    async with running(postgres_url) as bus, connected(postgres_url) as older:
        await listening(bus, ear)
        await older.execute("BEGIN; INSERT INTO orders VALUES (2)")  # has its id now
        await other.execute("UPDATE orders SET n = 1 WHERE id = 1")
        await has_looked(other)
        await older.execute("UPDATE orders SET n = n + 10 WHERE id = 1; COMMIT")
        await ear.until(3)
    assert [each["new"]["n"] for each in ear.told if each["new"]["id"] == 1] == [1, 11]


async def test_only_the_operations_that_are_asked_for(postgres_url, other):
    ear = Ear()
    async with running(postgres_url) as bus:
        await listening(bus, ear, ops=["delete"])
        await other.execute("INSERT INTO orders VALUES (1), (2)")
        await other.execute("DELETE FROM orders WHERE id = 2")
        await ear.until(1)
    assert ear.rows == [("delete", 2, None)]


async def test_what_happens_while_nobody_runs_is_told_afterwards(postgres_url, other):
    ear = Ear()
    async with running(postgres_url) as bus:
        await listening(bus, ear)
        await other.execute("INSERT INTO orders VALUES (1)")
        await ear.until(1)
    await other.execute("INSERT INTO orders VALUES (2)")
    again = Ear()
    async with running(postgres_url) as bus:
        await listening(bus, again)
        await other.execute("INSERT INTO orders VALUES (3)")
        await again.until(2)
    assert again.rows[-2:] == [("insert", None, 2), ("insert", None, 3)]


async def test_of_two_engines_one_fires_and_the_other_goes_on_when_it_ends(postgres_url, other):
    one, two = Ear(), Ear()
    async with running(postgres_url) as second:
        async with running(postgres_url) as first:
            await listening(first, one)
            await other.execute("INSERT INTO orders VALUES (1)")
            await one.until(1)
            await listening(second, two)
            await other.execute("INSERT INTO orders VALUES (2)")
            await one.until(2)
            assert two.told == []
        await other.execute("INSERT INTO orders VALUES (3)")
        async with asyncio.timeout(WAIT_S):
            while ("insert", None, 3) not in two.rows:  # what was told last may be told again
                await two.until(len(two.told) + 1)
    assert (one.rows[-1], two.rows[-1]) == (("insert", None, 2), ("insert", None, 3))


async def test_functions_of_different_names_are_all_told(postgres_url, other):
    one, two = Ear(), Ear()
    async with running(postgres_url) as bus:
        await listening(bus, one, "test::one")
        await listening(bus, two, "test::two")
        await other.execute("INSERT INTO orders VALUES (1)")
        await one.until(1)
        await two.until(1)


async def test_a_function_that_fails_is_told_again_before_the_next_change(postgres_url, other):
    ear = Ear()
    ear.failures = 2
    async with running(postgres_url) as bus:
        await listening(bus, ear)
        await other.execute("INSERT INTO orders VALUES (1), (2)")
        await ear.until(2)
    assert ear.rows == [("insert", None, 1), ("insert", None, 2)]


async def test_a_lost_connection_loses_no_change(postgres_url, other):
    ear = Ear()
    async with running(postgres_url) as bus:
        await listening(bus, ear)
        await other.execute("INSERT INTO orders VALUES (1)")
        await ear.until(1)
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'linkly%' "
            "AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')"
        )
        await other.execute("INSERT INTO orders VALUES (2)")
        await ear.until(2)
    assert ear.rows[-1] == ("insert", None, 2)


async def test_nothing_is_left_of_a_binding_that_was_taken_back(postgres_url, other, monkeypatch):
    monkeypatch.setattr(captures, "FORGOTTEN_AFTER_S", 0.01)
    ear = Ear()
    async with running(postgres_url) as bus:
        registration = await listening(bus, ear)
        await other.execute("INSERT INTO orders VALUES (1)")
        await ear.until(1)
        registration.unregister()

        async def is_gone():
            return await left(other) == (0, 0, 0)

        await until(is_gone)


async def test_a_binding_that_one_engine_takes_back_stays_on_the_other(postgres_url, other, monkeypatch):
    monkeypatch.setattr(captures, "FORGOTTEN_AFTER_S", 0.01)
    forget, forgotten = capture.PostgresCapture.forget, asyncio.Event()

    async def noted(*args):
        await forget(*args)
        forgotten.set()

    monkeypatch.setattr(capture.PostgresCapture, "forget", noted)
    one, two = Ear(), Ear()
    async with running(postgres_url) as second, running(postgres_url) as first:
        await listening(first, one)
        await other.execute("INSERT INTO orders VALUES (1)")
        await one.until(1)
        registration = await listening(second, two)
        registration.unregister()
        async with asyncio.timeout(WAIT_S):
            await forgotten.wait()
        assert (await left(other))[:2] == (1, 1)
        await other.execute("INSERT INTO orders VALUES (2)")
        await one.until(2)


async def test_a_worker_stops_although_its_reader_has_lost_the_connection(postgres_url, other):
    ear = Ear()
    held, never = asyncio.Event(), asyncio.Event()

    async def hold(event):
        if event["new"]["id"] == 2:
            held.set()
            await never.wait()

    ear.hear = hold
    async with asyncio.timeout(WAIT_S):
        async with running(postgres_url) as bus:
            await listening(bus, ear)
            await other.execute("INSERT INTO orders VALUES (1), (2)")
            await held.wait()
            await other.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")

            async def is_lost():
                return not await other.fetch("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'")

            await until(is_lost)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE copy (LIKE orders INCLUDING ALL); DROP TABLE orders; ALTER TABLE copy RENAME TO orders",
        "ALTER TABLE orders RENAME TO former; CREATE TABLE orders (id int)",
        "DROP TABLE orders",
    ],
)
async def test_a_table_that_is_replaced_is_captured_again(postgres_url, other, monkeypatch, change):
    monkeypatch.setattr(capture, "BROKEN_S", 0.1)
    ear = Ear()
    async with running(postgres_url) as bus:
        await listening(bus, ear)
        await other.execute(f"BEGIN; INSERT INTO orders SELECT generate_series(1, 500); {change}; COMMIT")
        await ear.until(500)
        if change == "DROP TABLE orders":
            await other.execute("CREATE TABLE orders (id int)")

        async def is_captured():
            return (await left(other))[0] == 1

        await until(is_captured)
        await other.execute("INSERT INTO orders VALUES (501)")
        await ear.until(501)
    assert sorted({each["new"]["id"] for each in ear.told}) == list(range(1, 502))


async def test_a_table_that_was_renamed_is_captured_under_its_new_name(postgres_url, other):
    ear = Ear()
    async with running(postgres_url) as bus:
        await listening(bus, ear)
    await other.execute("ALTER TABLE orders RENAME TO purchases")
    async with running(postgres_url) as bus:
        await listening(bus, ear, "test::again", table="purchases")
        await other.execute("INSERT INTO purchases VALUES (1)")
        await ear.until(1)
    assert ear.told[0]["table"] == "purchases"


async def test_every_json_value_can_be_written_and_is_told(postgres_url, other):
    ear = Ear()
    await other.execute("CREATE TABLE notes (id int, body json)")
    async with running(postgres_url) as bus:
        await listening(bus, ear, table="notes")
        await other.execute("INSERT INTO notes VALUES (1, $1)", '"a\\u0000b"')
        await ear.until(1)
    assert ear.told[0]["new"]["body"] == "a\0b"


async def test_a_partition_of_a_captured_table_is_not_captured_by_itself(postgres_url, other):
    await other.execute("CREATE TABLE parts (id int) PARTITION BY RANGE (id)")
    await other.execute("CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)")
    async with running(postgres_url) as bus:
        await listening(bus, Ear(), table="parts")
        answer = await refuse(bus, {"db": "primary", "table": "parts_1", "capture": "native"})
    assert "as a partition, so capture the whole table" in answer


async def test_what_capture_keeps_is_not_copied_into_another_database(postgres_url, tmp_path):
    entries = {"old": {"url": postgres_url}, "new": {"url": f"sqlite:{tmp_path}/a.db"}}
    async with running_engine(DatabaseWorker(read_settings(DatabaseSettings, {"databases": entries}, "$"))) as bus:
        await call(bus, "execute", db="old", sql="CREATE TABLE linkly_readers (a int)")
        await call(bus, "execute", db="old", sql="CREATE TABLE linkly_changes (a int)")
        copied = await bus.trigger("database::copy", {"from": "old", "to": "new"})
    assert (copied["tables"], copied["left_out"]) == ([], [])


async def test_a_binding_that_comes_back_soon_has_missed_nothing(postgres_url, other):
    ear = Ear()
    async with running(postgres_url) as bus:
        registration = await listening(bus, ear)
        await other.execute("INSERT INTO orders VALUES (1)")
        await ear.until(1)
        registration.unregister()
        await settle()
        await other.execute("INSERT INTO orders VALUES (2)")
        await listening(bus, ear)
        await ear.until(2)
    assert ear.rows[-1] == ("insert", None, 2)


async def test_what_was_read_is_removed_and_so_is_what_is_too_much(postgres_url, other, monkeypatch):
    monkeypatch.setattr(capture, "TIDY_S", 0.0)
    ear = Ear()
    async with running(postgres_url) as bus:
        await listening(bus, ear)
        await other.execute("INSERT INTO orders SELECT generate_series(1, 500)")
        await ear.until(500)

        async def is_tidy():
            return await left(other) == (1, 1, 0)

        await until(is_tidy)
    monkeypatch.setattr(capture_sql, "MOST_KEPT", 10)
    await other.execute("UPDATE orders SET note = 'x'")
    assert (await left(other))[2] == 500
    await other.execute(capture_sql.prune(await other.fetchval("SELECT quote_ident(current_schema())")))
    assert (await left(other))[2] == 10


async def test_changes_of_any_size_are_told_in_order_and_few_large_ones_are_read_at_once(
    postgres_url, other, monkeypatch
):
    monkeypatch.setattr(capture, "BATCH_BYTES", 10_000)
    ear = Ear()
    async with running(postgres_url) as bus:
        await listening(bus, ear)
        await other.execute("INSERT INTO orders SELECT n, 1, repeat('x', n * 500) FROM generate_series(1, 40) n")
        await ear.until(40)
    assert ear.rows == [("insert", None, number) for number in range(1, 41)]
    name = (await other.fetchrow(capture_sql.NAMED, "orders"))[0]
    read = await other.fetch(capture_sql.READ, name, 0, 2**62, 0, capture.BATCH, 10_000)
    # 1 to 6 have 10,500 letters, and the sixth begins before 10,000.
    assert [(json.loads(row["new"])["id"], row["found"]) for row in read] == [(number, 40) for number in range(1, 7)]


async def test_who_may_write_the_table_needs_no_right_to_what_is_kept_of_it(postgres_url, other):
    ear = Ear()
    role = f"writer_{secrets.token_hex(4)}"
    schema = await other.fetchval("SELECT quote_ident(current_schema())")
    async with running(postgres_url) as bus:
        await listening(bus, ear)
        await other.execute(
            f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT INSERT ON orders TO {role}"
        )
        try:
            await other.execute(f"SET ROLE {role}")
            await other.execute("INSERT INTO orders VALUES (1)")
            await ear.until(1)
        finally:
            await other.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


async def test_commits_that_follow_one_another_send_few_notifications(postgres_url, other):
    heard = []
    async with running(postgres_url) as bus, connected(postgres_url) as listener:
        await listening(bus, Ear())
        await listener.add_listener("linkly_changes", lambda *_: heard.append(1))
        started = asyncio.get_running_loop().time()
        for number in range(300):
            await other.execute("INSERT INTO orders VALUES ($1)", number)
        await listener.fetchval("SELECT 1")
        passed_ms = (asyncio.get_running_loop().time() - started) * 1000
    assert 1 <= len(heard) <= passed_ms / capture_sql.WAKE_MS + 2


async def test_partitions_of_a_table_are_captured_with_it(postgres_url, other):
    ear = Ear()
    await other.execute("CREATE TABLE parts (id int) PARTITION BY RANGE (id)")
    await other.execute("CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)")
    async with running(postgres_url) as bus:
        await listening(bus, ear, table="parts")
        await other.execute("INSERT INTO parts VALUES (1)")
        await ear.until(1)
    assert ear.told[0]["table"] == "parts"


@pytest.mark.parametrize(
    "config, why",
    [
        ({"table": "missing"}, "there is no table `missing`"),
        ({"table": None}, "say which `table`"),
        ({"except_origin": "x"}, "`except_origin` is known of statements only"),
    ],
)
async def test_what_cannot_be_captured_is_refused(postgres_url, other, config, why):
    async with running(postgres_url) as bus:
        payload = {"db": "primary", "table": "orders", "capture": "native", **config}
        bus.register_function(Function("test::hear", Ear().hear))
        answer = await refuse(bus, payload)
        assert why in answer


async def refuse(bus, config):
    try:
        await bus.trigger(
            "engine::register_trigger",
            {"trigger_type": "database::row-changed", "function_id": "test::hear", "config": config},
        )
    except LinklyError as error:
        return error.message
    raise AssertionError("it was accepted")


async def test_other_kinds_of_databases_say_that_they_cannot(tmp_path):
    async with running(f"sqlite:{tmp_path}/a.db") as bus:
        bus.register_function(Function("test::hear", Ear().hear))
        config = {"db": "primary", "table": "t", "capture": "native"}
        assert "database `primary` cannot tell of what others change" in await refuse(bus, config)
