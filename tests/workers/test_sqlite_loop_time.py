"""What statements may take of one turn of the loop, all together."""

import asyncio

import pytest

from linkly_workers._sqlite import Statements, connect
from linkly_workers._sqlite.loop_time import QUICK_S, TURN_S, loop_time
from linkly_workers.database.sqlite.reader import LOOP_READ_S, LoopReader

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*), {} FROM n"


@pytest.fixture
async def reader(tmp_path):
    path = str(tmp_path / "a.db")
    connect(path).close()
    statements = Statements()
    reader = LoopReader(path, statements)
    yield lambda sql: reader.read(statements.of(sql), []), statements
    reader.close()


async def next_turn():
    turned = asyncio.Event()
    asyncio.get_running_loop().call_soon(turned.set)
    await turned.wait()


async def test_what_is_quick_costs_a_turn_nothing():
    time = loop_time()
    for _ in range(1000):
        time.spend(QUICK_S / 2)
    assert time.left_s == TURN_S


async def test_what_was_spent_comes_back_in_the_next_turn():
    time = loop_time()
    time.spend(0.003)
    time.spend(0.003)
    assert time.left_s == pytest.approx(TURN_S - 0.006)
    await next_turn()
    assert time.left_s == TURN_S


async def test_everything_on_a_loop_shares_its_time():
    assert loop_time() is loop_time()


async def test_of_many_slow_queries_only_the_first_run_on_the_loop_in_one_turn(reader):
    read, statements = reader
    for number in range(20):
        assert read(ENDLESS.format(number)) is None
    assert 1 <= statements.slow_reads <= TURN_S / LOOP_READ_S


async def test_a_query_is_left_to_a_thread_when_others_have_used_up_the_turn(reader):
    read, _ = reader
    loop_time().spend(TURN_S)
    assert read("SELECT 1") is None
    await next_turn()
    assert read("SELECT 1").rows == [(1,)]


async def test_a_query_that_had_less_than_its_time_is_not_remembered_as_slow(reader):
    read, statements = reader
    loop_time().spend(TURN_S - LOOP_READ_S / 2)
    assert read(ENDLESS.format(0)) is None
    assert statements.slow_reads == 0
