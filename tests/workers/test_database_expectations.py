"""`expect_rows`: how many rows a statement of a transaction has to change or to find, on every kind of database."""

import asyncio
import os

import pytest

from linkly.testing import running_engine
from linkly_workers._sqlite import loop_batch
from linkly_workers._sqlite.commits import Commits
from support.database_calls import call, database_worker, execute, refused, rows, value, values

SERVERS = {"postgres": "postgres_url", "mariadb": "mariadb_url", "mysql": "real_mysql_url"}
KINDS = (
    "sqlite file",
    "sqlite memory",
    *[kind for kind in SERVERS if kind != "mysql" or "LINKLY_TEST_MYSQL" in os.environ],
)
NUMBERS = "SELECT id FROM t ORDER BY id"


@pytest.fixture(params=KINDS)
def url(request, tmp_path):
    if request.param in SERVERS:
        return request.getfixturevalue(SERVERS[request.param])
    return "sqlite::memory:" if request.param == "sqlite memory" else f"sqlite:{tmp_path}/a.db"


@pytest.fixture
async def bus(url):
    async with running_engine(database_worker(url)) as bus:
        await execute(bus, "CREATE TABLE t (id INTEGER PRIMARY KEY, version INTEGER NOT NULL)")
        await execute(bus, "INSERT INTO t VALUES (1, 1), (2, 1)")
        yield bus


def guarded(sql, expected, *params):
    return {"sql": sql, "params": list(params), "expect_rows": expected}


def failure(answer):
    error = answer["error"]
    return answer["committed"], answer["failed_index"], error["code"], error["expected"], error["actual"]


@pytest.mark.parametrize(
    "sql, count",
    [
        ("INSERT INTO t VALUES (3, 1), (4, 1)", 2),
        ("UPDATE t SET version = version + 1 WHERE id < 7", 2),
        ("UPDATE t SET version = version WHERE id = 1", 1),
        ("DELETE FROM t WHERE id = 1", 1),
        ("DELETE FROM t WHERE id = 9", 0),
        ("SELECT id FROM t WHERE id < 7", 2),
        ("SELECT id FROM t WHERE id = 9", 0),
        ("WITH one AS (SELECT 1 AS id) SELECT t.id FROM t JOIN one ON one.id = t.id", 1),
    ],
)
async def test_other_rows_than_the_expected_ones_roll_the_transaction_back(bus, sql, count):
    before, unread = "INSERT INTO t VALUES (7, 1)", "INSERT INTO missing VALUES (1)"
    refused = await call(bus, "transaction", statements=[before, guarded(sql, count + 1), unread])
    assert failure(refused) == (False, 1, "EXPECTATION_FAILED", count + 1, count)
    assert await rows(bus, "SELECT id, version FROM t ORDER BY id") == [
        {"id": 1, "version": 1},
        {"id": 2, "version": 1},
    ]
    done = await call(bus, "transaction", statements=[before, guarded(sql, count)])
    assert done["committed"] is True
    assert 7 in await values(bus, NUMBERS)


async def test_a_single_statement_with_other_rows_is_not_committed(bus):
    refused = await call(bus, "transaction", statements=[guarded("DELETE FROM t", 1)])
    assert failure(refused) == (False, 0, "EXPECTATION_FAILED", 1, 2)
    assert await values(bus, NUMBERS) == [1, 2]


async def test_of_those_who_have_read_the_same_version_one_writes(bus):
    def write(number):
        update = guarded("UPDATE t SET version = 2 WHERE id = 1 AND version = 1", 1)
        insert = f"INSERT INTO t VALUES ({10 + number}, 1)"
        return call(bus, "transaction", statements=[insert, update])

    answers = await asyncio.gather(*(write(number) for number in range(8)))
    winners = [number for number, answer in enumerate(answers) if answer["committed"]]
    assert len(winners) == 1
    assert {failure(answer)[1:] for answer in answers if not answer["committed"]} == {(1, "EXPECTATION_FAILED", 1, 0)}
    assert await values(bus, NUMBERS) == [1, 2, 10 + winners[0]]


async def test_an_expectation_in_statements_sent_as_text_counts_as_well(bus):
    answer = await call(bus, "executeBatch", statements='[{"sql": "DELETE FROM t", "expect_rows": 3}]')
    assert failure(answer) == (False, 0, "EXPECTATION_FAILED", 3, 2)


async def test_fewer_rows_than_none_cannot_be_expected(bus):
    assert (
        await refused(bus, "transaction", statements=[guarded("DELETE FROM t", -1)])
    ).code == "deserialization_error"


async def test_what_a_select_changes_by_its_with_is_what_counts(postgres_url):
    async with running_engine(database_worker(postgres_url)) as bus:
        await execute(bus, "CREATE TABLE t (id INTEGER)")
        sql = "WITH gone AS (DELETE FROM t RETURNING id) SELECT count(*) FROM gone"
        answer = await call(bus, "transaction", statements=[guarded(sql, 1)])
        assert failure(answer) == (False, 0, "EXPECTATION_FAILED", 1, 0)


@pytest.mark.parametrize("returning", ["", " RETURNING id"])
async def test_an_upsert_counts_the_rows_that_it_returns_or_not(tmp_path, returning):
    async with running_engine(database_worker(f"sqlite:{tmp_path}/a.db")) as bus:
        await execute(bus, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
        insert = f"INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING{returning}"
        assert (await call(bus, "transaction", statements=[guarded(insert, 1)]))["committed"] is True
        assert failure(await call(bus, "transaction", statements=[guarded(insert, 1)]))[3:] == (1, 0)


async def test_a_failed_expectation_shares_the_commit_of_its_neighbours(tmp_path, monkeypatch):
    batches = []
    commit = Commits.commit

    def counted(self, batch, disk):
        batches.append(len(batch))
        return commit(self, batch, disk)

    monkeypatch.setattr(Commits, "commit", counted)
    for name in ("BATCH_S", "LEAST_BATCH_S"):  # a slow machine cuts no batch in two
        monkeypatch.setattr(loop_batch, name, 60.0)
    async with running_engine(database_worker(f"sqlite:{tmp_path}/a.db")) as bus:
        await execute(bus, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
        batches.clear()
        statements = [["INSERT INTO t VALUES (100)", guarded("DELETE FROM t WHERE id = 9", 1)]]
        statements += [[f"INSERT INTO t VALUES ({number})"] for number in range(7)]
        answers = await asyncio.gather(*(call(bus, "transaction", statements=each) for each in statements))
        assert [answer["committed"] for answer in answers] == [False, *[True] * 7]
        assert await value(bus, "SELECT count(*) FROM t") == 7
    assert batches == [8]


@pytest.mark.parametrize(
    "first, actual", [("UPDATE t SET id = id + 50 WHERE id < 10", 2), ("CREATE TABLE other (id INTEGER)", 0)]
)
async def test_a_first_statement_that_has_done_something_else_is_undone_without_its_neighbours(tmp_path, first, actual):
    async with running_engine(database_worker(f"sqlite:{tmp_path}/a.db")) as bus:
        await execute(bus, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
        await execute(bus, "INSERT INTO t VALUES (1), (2)")
        statements = [["INSERT INTO t VALUES (11)"], [guarded(first, 1)], ["INSERT INTO t VALUES (12)"]]
        answers = await asyncio.gather(*(call(bus, "transaction", statements=each) for each in statements))
        assert failure(answers[1]) == (False, 0, "EXPECTATION_FAILED", 1, actual)
        assert [answers[0]["committed"], answers[2]["committed"]] == [True, True]
        assert await values(bus, NUMBERS) == [1, 2, 11, 12]
        assert await values(bus, "SELECT name FROM sqlite_schema WHERE type = 'table'") == ["t"]
