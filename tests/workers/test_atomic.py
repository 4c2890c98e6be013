"""`database::atomic`: operations of several workers, all or none, on every kind of database."""

import asyncio
import os

import pytest

from linkly import LinklyError, Worker, function, state, trigger
from linkly.schema import read_settings
from linkly.testing import ManualClock, running_engine
from linkly_workers.database import DatabaseSettings, DatabaseWorker
from linkly_workers.database.remembered import SWEEP_S, WINDOW_S
from linkly_workers.state import StateSettings, StateWorker
from support.database_calls import WAIT_S, call, database_worker, execute, refused, rows, until, value

SERVERS = {"postgres": "postgres_url", "mariadb": "mariadb_url", "mysql": "real_mysql_url"}
RUNNING = [kind for kind in SERVERS if kind != "mysql" or "LINKLY_TEST_MYSQL" in os.environ]
KINDS = ("sqlite file", "sqlite memory", *RUNNING)
PLACE = {"scope": "links", "key": "one"}
GONE = {"function_id": "state::delete", "payload": PLACE}
COUNT = {"function_id": "state::update", "payload": {**PLACE, "ops": [{"type": "increment", "path": "n", "by": 1}]}}
MISSING = {"sql": "DELETE FROM t WHERE id = 99", "expect_rows": 1}


def state_worker(db="primary", **settings):
    adapter = {"name": "kv"} if db is None else {"name": "database", "config": {"db": db}}
    return StateWorker(read_settings(StateSettings, {"adapter": adapter, **settings}, "$"))


@pytest.fixture(params=KINDS)
def url(request, tmp_path):
    if request.param in SERVERS:
        return request.getfixturevalue(SERVERS[request.param])
    return "sqlite::memory:" if request.param == "sqlite memory" else f"sqlite:{tmp_path}/a.db"


@pytest.fixture
async def bus(url):
    async with running_engine(database_worker(url), state_worker()) as bus:
        await execute(bus, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
        yield bus


def insert(number):
    return {"sql": "INSERT INTO t VALUES (?)", "params": [number]}


def put(given, **place):
    return {"function_id": "state::set", "payload": {**PLACE, **place, "value": given}}


async def atomic(bus, *operations, **more):
    return await call(bus, "atomic", operations=list(operations), **more)


async def numbers(bus):
    return [row["id"] for row in await rows(bus, "SELECT id FROM t ORDER BY id")]


async def test_statements_and_state_happen_together_and_each_answers_its_result(bus):
    select = {"sql": "SELECT id FROM t", "expect_rows": 1}
    done = await atomic(bus, insert(1), put({"n": 1}), select, COUNT, GONE)
    assert done == {
        "results": [
            {"affected_rows": 1, "rows": []},
            {"old_value": None, "new_value": {"n": 1}},
            {"affected_rows": 0, "rows": [[1]]},
            {"old_value": {"n": 1}, "new_value": {"n": 2}},
            {"n": 2},
        ],
        "repeated": False,
    }
    assert await bus.trigger("state::get", PLACE) is None


@pytest.mark.parametrize("failing", [MISSING, {"sql": "INSERT INTO missing VALUES (1)"}, insert(1)])
async def test_nothing_is_left_of_operations_of_which_one_fails(bus, failing):
    await bus.trigger("state::set", {**PLACE, "value": "old"})
    error = await refused(bus, "atomic", operations=[insert(1), put("new"), put("made", key="two"), failing])
    assert error.details["failed_index"] == 3
    assert error.code == ("EXPECTATION_FAILED" if failing is MISSING else "DRIVER_ERROR")
    assert await numbers(bus) == []
    assert [await bus.trigger("state::get", {**PLACE, "key": key}) for key in ("one", "two")] == ["old", None]


async def test_operations_of_one_key_see_one_another(bus):
    done = await atomic(bus, put(1), GONE, GONE, put(2), put(3))
    assert done["results"][1:3] == [1, None]
    assert done["results"][4] == {"old_value": 2, "new_value": 3}
    assert await bus.trigger("state::get", PLACE) == 3


async def test_every_increment_of_many_callers_counts_once(bus):
    async def one(number):
        if number % 3 == 0:
            return await bus.trigger(COUNT["function_id"], COUNT["payload"])
        return (await atomic(bus, insert(number), COUNT))["results"][1]

    answers = await asyncio.gather(*(one(number) for number in range(12)))
    assert sorted(answer["new_value"]["n"] for answer in answers) == list(range(1, 13))
    assert len(await numbers(bus)) == 8


async def test_callers_that_want_one_key_again_and_again_all_have_their_turn(tmp_path):
    async with running_engine(database_worker(f"sqlite:{tmp_path}/a.db"), state_worker()) as bus:

        async def caller():
            for _ in range(60):
                await atomic(bus, {"sql": "SELECT 1"}, COUNT, put(1, key="two"))

        await asyncio.gather(*(caller() for _ in range(4)))
        assert await bus.trigger("state::get", PLACE) == {"n": 240}


async def test_a_repetition_with_the_same_key_gets_the_first_answer_and_does_nothing(bus):
    operations = [insert(1), COUNT, {"sql": "SELECT id FROM t"}]
    first = await call(bus, "atomic", operations=operations, idempotency_key="Abc")
    again = await call(bus, "atomic", operations=operations, idempotency_key="Abc")
    assert (first["repeated"], again["repeated"]) == (False, True)
    assert again["results"] == first["results"]
    assert await bus.trigger("state::get", PLACE) == {"n": 1}
    other = await call(bus, "atomic", operations=[COUNT], idempotency_key="aBC")
    assert other["repeated"] is False


async def test_a_repetition_of_guarded_operations_is_no_failed_expectation(bus):
    await execute(bus, "INSERT INTO t VALUES (1)")
    operations = [{"sql": "DELETE FROM t WHERE id = 1", "expect_rows": 1}]
    for repeated in (False, True):
        assert (await call(bus, "atomic", operations=operations, idempotency_key="k"))["repeated"] is repeated


async def test_of_calls_at_once_with_one_key_one_is_carried_out(bus):
    calls = [call(bus, "atomic", operations=[COUNT], idempotency_key="k") for _ in range(6)]
    answers = await asyncio.gather(*calls)
    assert sorted(answer["repeated"] for answer in answers) == [False, *[True] * 5]
    assert {answer["results"][0]["new_value"]["n"] for answer in answers} == {1}


async def test_a_key_of_other_operations_is_an_error_and_does_nothing(bus):
    await call(bus, "atomic", operations=[insert(1)], idempotency_key="k")
    error = await refused(bus, "atomic", operations=[insert(2)], idempotency_key="k")
    assert error.code == "IDEMPOTENCY_KEY_REUSED"
    assert await numbers(bus) == [1]


async def test_a_key_of_what_has_failed_is_free(bus):
    await refused(bus, "atomic", operations=[insert(1), MISSING], idempotency_key="k")
    assert (await call(bus, "atomic", operations=[insert(1)], idempotency_key="k"))["repeated"] is False


async def test_answers_are_forgotten_after_the_window(tmp_path):
    clock = ManualClock()
    async with running_engine(database_worker(f"sqlite:{tmp_path}/a.db"), clock=clock) as bus:
        await execute(bus, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
        for number in (1, 2):
            await call(bus, "atomic", operations=[insert(number)], idempotency_key=f"k{number}")
        await clock.advance(WINDOW_S + SWEEP_S)
        await call(bus, "atomic", operations=[insert(3)], idempotency_key="k3")

        async def one_is_left():
            return await value(bus, "SELECT count(*) FROM linkly_answers") == 1

        await until(one_is_left)


@pytest.mark.parametrize("db, where", [(None, "outside any database"), ("other", "in database `other`")])
async def test_state_that_is_not_in_that_database_is_an_error_that_names_the_setting(tmp_path, db, where):
    block = {"databases": {"primary": {"url": f"sqlite:{tmp_path}/a.db"}, "other": {"url": "sqlite::memory:"}}}
    databases = DatabaseWorker(read_settings(DatabaseSettings, block, "$"))
    async with running_engine(databases, state_worker(db)) as bus:
        await execute(bus, "CREATE TABLE t (id INTEGER PRIMARY KEY)", db="primary")
        error = await refused(bus, "atomic", db="primary", operations=[insert(1), put(1)])
        assert (error.code, error.details["failed_index"]) == ("NOT_ATOMIC", 1)
        assert where in error.message
        assert "`adapter: {name: database, config: {db: primary}}`" in error.message
        assert await numbers(bus) == []


@pytest.mark.parametrize("function_id", ["state::get", "missing::thing", "database::execute"])
async def test_a_function_that_does_not_take_part_is_an_error_before_anything_is_written(tmp_path, function_id):
    async with running_engine(database_worker(f"sqlite:{tmp_path}/a.db"), state_worker()) as bus:
        await execute(bus, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
        calls = [insert(1), {"function_id": function_id, "payload": PLACE}]
        error = await refused(bus, "atomic", operations=calls)
        assert (error.code, error.details["failed_index"]) == ("NOT_ATOMIC", 1)
        assert function_id in error.message
        assert await numbers(bus) == []


@pytest.mark.parametrize("operation", [{}, {"sql": "SELECT 1", "function_id": "state::set"}])
async def test_an_operation_is_a_statement_or_a_call(bus, operation):
    assert (await refused(bus, "atomic", operations=[operation])).code == "deserialization_error"


async def test_what_state_refuses_names_the_operation(bus):
    error = await refused(bus, "atomic", operations=[insert(1), {"function_id": "state::set", "payload": PLACE}])
    assert (error.code, error.details["failed_index"]) == ("deserialization_error", 1)
    error = await refused(bus, "atomic", operations=[insert(1), put(1, scope="s" * 1001)])
    assert (error.code, error.details["failed_index"]) == ("SET_ERROR", 1)


class Ear(Worker):
    """Hears what happens to state and to rows."""

    name = "ear"

    def __init__(self):
        super().__init__()
        self.heard = asyncio.Queue()

    @function("ear::state", triggers=[state("links")])
    async def state(self, event: dict) -> None:
        self.heard.put_nowait((event["event_type"], event["old_value"], event["new_value"]))

    @function("ear::rows", triggers=[trigger("database::row-changed", {"db": "primary", "table": "t"})])
    async def rows(self, event: dict) -> None:
        self.heard.put_nowait((event["op"], event["affected_rows"]))


async def test_functions_are_told_of_what_was_committed_and_of_nothing_else(run, tmp_path):
    ear = Ear()
    async with run(database_worker(f"sqlite:{tmp_path}/a.db"), state_worker(), ear) as bus, asyncio.timeout(WAIT_S):
        await execute(bus, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
        with pytest.raises(LinklyError):
            await atomic(bus, insert(1), put(1), MISSING)
        await atomic(bus, insert(2), put(2), put(3))
        await atomic(bus, GONE)
        heard = {await ear.heard.get() for _ in range(4)}
        assert heard == {
            ("insert", 1),
            ("state:created", None, 2),
            ("state:updated", 2, 3),
            ("state:deleted", 3, None),
        }
        assert ear.heard.empty()


class Rival(Worker):
    """Takes part with `rival::write`, and is first itself, again and again."""

    name = "rival"

    @function("rival::prepare")
    async def prepare(self, db: str, operations: list, attempt: int) -> dict:
        statement = {"sql": "UPDATE t SET id = id + 1 WHERE id = ?", "params": [attempt], "expect_rows": 1}
        return {"operations": [{"statements": [statement], "result": attempt} for _ in operations]}


async def test_operations_are_prepared_again_until_nobody_else_was_first(run, tmp_path):
    async with run(database_worker(f"sqlite:{tmp_path}/a.db"), Rival()) as bus:
        await execute(bus, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
        await execute(bus, "INSERT INTO t VALUES (5)")
        write = {"function_id": "rival::write"}
        assert (await atomic(bus, write))["results"] == [5]
        await execute(bus, "UPDATE t SET id = -1")
        error = await refused(bus, "atomic", operations=[write])
        assert (error.code, error.details["retryable"]) == ("CONFLICT", True)


async def test_what_was_committed_is_told_also_if_the_caller_has_gone(tmp_path):
    ear = Ear()
    async with (
        running_engine(database_worker(f"sqlite:{tmp_path}/a.db"), state_worker(), ear) as bus,
        asyncio.timeout(WAIT_S),
    ):
        await execute(bus, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
        for number in range(30):
            task = asyncio.create_task(bus.trigger("database::atomic", {"operations": [insert(number), put(number)]}))
            for _ in range(number % 15):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        written = set(await numbers(bus))
        heard = set()
        while heard != written:
            event = await ear.heard.get()
            if event[0].startswith("state"):
                heard.add(event[2])
        assert ear.heard.empty() or {event[0] for event in (ear.heard.get_nowait(),)} == {"insert"}
