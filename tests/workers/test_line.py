"""Fair lines: who comes next when one caller asks for much more than the others."""

import asyncio
import contextvars

import pytest

from linkly import Invocation
from linkly.context import current_invocation
from linkly.errors import Overloaded
from linkly.testing import settle
from linkly_workers._line import CALLER_LIMIT, FairLine, Places
from linkly_workers._sqlite import GroupCommitWriter
from linkly_workers.state.stores.sqlite import SqliteStore


def calling(origin, callable_, *arguments, **options):
    """Call something as a handler does whose call entered at `origin`."""
    context = contextvars.copy_context()
    context.run(current_invocation.set, Invocation(function_id="test::call", origin=origin))
    return context.run(callable_, *arguments, **options)


def starting(origin, coroutine):
    """Start a task as a handler does whose call entered at `origin`."""
    return calling(origin, asyncio.ensure_future, coroutine)


def emptied(line):
    return [line.popleft() for _ in range(len(line))]


# --- the line -----------------------------------------------------------------------------------------------------


def test_one_of_each_caller_is_served_in_turn():
    line = FairLine()
    for number in range(3):
        line.append("flooder", f"f{number}")
    line.append("a", "a0")
    line.append("b", "b0")
    line.append("a", "a1")
    assert emptied(line) == ["f0", "a0", "b0", "f1", "a1", "f2"]


def test_what_is_put_back_comes_before_the_callers_others():
    line = FairLine()
    line.append("a", "a1")
    line.append("b", "b0")
    line.appendleft("a", "a0")
    line.appendleft("c", "c0")
    assert emptied(line) == ["c0", "a0", "b0", "a1"]


@pytest.mark.parametrize("callers", ["aab", "ab", "a"])
def test_what_was_taken_last_can_be_made_the_head_again(callers):
    line, untouched = FairLine(), FairLine()
    for number, caller in enumerate(callers):
        line.append(caller, number)
        untouched.append(caller, number)
    line.undo(callers[0], line.popleft())
    assert emptied(line) == emptied(untouched)


def test_the_head_is_what_is_taken_next():
    line = FairLine()
    for caller in ("a", "a", "b"):
        line.append(caller, caller)
    while line:
        assert line.head == line.popleft()


def test_a_caller_is_full_at_his_own_limit_while_the_others_have_room():
    line = FairLine()
    for number in range(CALLER_LIMIT):
        line.append("flooder", number)
    assert line.is_full_for("flooder")
    assert not line.is_full_for("a")


def test_the_more_callers_wait_the_less_each_of_them_may():
    line = FairLine()
    for number in range(1000):
        line.append("flooder", number)
    assert not line.is_full_for("flooder")
    for number in range(99):
        line.append(number, number)
    assert line.share == 1000
    assert line.is_full_for("flooder")
    assert not line.is_full_for(1)


# --- places -------------------------------------------------------------------------------------------------------


async def test_a_place_goes_to_who_has_none_before_the_flooder_gets_his_third():
    places, served = Places(1), []

    async def use(name):
        nonlocal holder
        holder = await places.acquire()
        served.append(name)

    holder = await places.acquire()
    tasks = [starting("flooder", use(f"f{number}")) for number in range(3)]
    await settle()
    tasks.append(starting("a", use("a")))
    await settle()
    for _ in tasks:
        places.release(holder)
        await settle()
    assert served == ["f0", "a", "f1", "f2"]


async def test_a_place_that_was_given_to_a_cancelled_caller_goes_to_the_next():
    places = Places(1)
    holder = await places.acquire()
    first, second = starting("a", places.acquire()), starting("b", places.acquire())
    await settle()
    places.release(holder)
    first.cancel()
    await second
    assert first.cancelled()


async def test_who_was_cancelled_while_he_waited_gets_no_place():
    places = Places(1)
    holder = await places.acquire()
    first, second = starting("a", places.acquire()), starting("b", places.acquire())
    await settle()
    first.cancel()
    await settle()
    places.release(holder)
    await second
    assert first.cancelled()


async def test_one_caller_never_has_all_places_of_several():
    places = Places(3)
    flood = [starting("flooder", places.acquire()) for _ in range(4)]
    await settle()
    assert [each.done() for each in flood] == [True, True, False, False]
    mine = await starting("me", places.acquire())
    places.release(mine)
    await settle()
    assert not flood[2].done()
    places.release(flood[0].result())
    await settle()
    assert [each.done() for each in flood] == [True, True, True, False]
    flood[3].cancel()


async def test_who_waits_for_his_own_places_is_passed_over():
    places = Places(2)
    flood = [starting("flooder", places.acquire()) for _ in range(2)]
    first, second = starting("a", places.acquire()), starting("b", places.acquire())
    await settle()
    places.release(await first)
    assert await second == "b"
    assert not flood[1].done()
    flood[1].cancel()


# --- who uses them ------------------------------------------------------------------------------------------------

INSERT = "INSERT INTO t (who) VALUES (?)"


async def test_a_write_does_not_wait_behind_all_of_another_caller(tmp_path):
    async with GroupCommitWriter(str(tmp_path / "a.db")) as writer:
        await writer.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, who TEXT)")
        flood = [calling("flooder", writer.execute, INSERT, ["flooder"]) for _ in range(3000)]
        mine = await calling("me", writer.execute, INSERT, ["me"])
        ids = [(await each).last_insert_id for each in flood]
    assert mine.last_insert_id == 2
    assert ids == sorted(ids)


async def test_only_the_caller_with_too_many_writes_is_told_that_he_has(tmp_path):
    async with GroupCommitWriter(str(tmp_path / "a.db")) as writer:
        await writer.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, who TEXT)")
        flood = [calling("flooder", writer.execute, INSERT, ["flooder"]) for _ in range(CALLER_LIMIT)]
        with pytest.raises(Overloaded, match=f"{CALLER_LIMIT} writes of this caller wait .*nothing was written"):
            calling("flooder", writer.execute, INSERT, ["flooder"])
        assert (await calling("me", writer.execute, INSERT, ["me"])).affected_rows == 1
        await asyncio.gather(*flood)


async def test_a_turn_is_given_before_a_flood_of_writes_is_through(tmp_path):
    async with GroupCommitWriter(str(tmp_path / "a.db")) as writer:
        await writer.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, who TEXT)")
        flood = [calling("flooder", writer.execute, INSERT, ["flooder"]) for _ in range(3000)]
        turn = await starting("me", writer.turn())
        assert sum(each.done() for each in flood) < len(flood)
        turn.end()
        await asyncio.gather(*flood)


async def test_a_write_of_state_does_not_wait_behind_all_of_another_caller(tmp_path):
    store, order = SqliteStore(str(tmp_path)), []

    def write(who, key):
        return starting(who, store.write("s", key, lambda _: b"1", lambda old, new: order.append(who)))

    async with store.opened():
        flood = [write("flooder", f"k{number}") for number in range(3000)]
        mine = write("me", "mine")
        await mine
        await asyncio.gather(*flood)
    assert order.index("me") == 1
