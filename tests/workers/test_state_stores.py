"""One suite over all stores of state: in memory, in a file, in a database of each kind."""

import asyncio
import contextlib

import pytest

from linkly.testing import running_engine
from linkly_workers.state.stores.database.store import DatabaseStore
from linkly_workers.state.stores.memory import MemoryStore
from linkly_workers.state.stores.sqlite import SqliteStore
from linkly_workers.state.stores.store import answered
from support.database_calls import database_worker

NAMES = ["Abc", "aBC", "abc ", "abc", "", "\0", "a\0b", "ä", "a\u0308", "\U0001f600", "\U0001f603", "\ud83d", "'\"\\%_"]
"""Each pair of them is equal to some database under some collation, or cannot be a text there."""


@contextlib.asynccontextmanager
async def in_database(url):
    """Open a store in a database."""
    async with running_engine(database_worker(url)) as bus:
        store = DatabaseStore(bus.trigger, "primary")
        async with store.opened():
            yield store


@pytest.fixture
async def store(kind_of_state, url_of_state, tmp_path):
    if kind_of_state == "memory":
        yield MemoryStore()
    elif kind_of_state == "file":
        in_file = SqliteStore(str(tmp_path))
        async with in_file.opened():
            yield in_file
    else:
        async with in_database(url_of_state) as store:
            yield store


def untold(old, new):
    """Nobody wants to know."""


def put(store, key, value, scope="s", written=untold):
    """Set a value; `None` deletes."""
    return store.write(scope, key, lambda _: value, written)


def increment(old):
    return b"%d" % (int(old or 0) + 1)


async def get(store, key, scope="s"):
    return await answered(store.get(scope, key))


async def after(store, position, limit=100, max_bytes=10**6, scope="s"):
    return list(await answered(store.after(scope, position, limit, max_bytes)))


async def listed(store, scope="s"):
    """Return the pairs of a scope, after comparing all ways of reading them."""
    keys, values = await answered(store.keys(scope)), await answered(store.values(scope))
    pairs = [(key, value) for _, key, value in await after(store, -1, limit=len(keys), scope=scope)]
    assert pairs == list(zip(keys, values, strict=True))
    assert await answered(store.count(scope)) == len(keys)
    return pairs


async def test_a_write_answers_the_value_before_it_and_after_it(store):
    assert await put(store, "k", b"1") == (None, b"1")
    assert await put(store, "k", b"2") == (b"1", b"2")
    assert await get(store, "k") == b"2"
    assert await put(store, "k", None) == (b"2", None)
    assert await put(store, "k", None) == (None, None)
    assert await get(store, "k") is None


async def test_names_that_differ_in_anything_are_different_names(store):
    names = [name for name in NAMES if name != "\ud83d" or not isinstance(store, SqliteStore)]  # no text of SQLite
    for number, name in enumerate(names):
        await put(store, name, b"%d" % number)
        await put(store, "k", b"%d" % number, scope=name)
    for number, name in enumerate(names):
        assert await get(store, name) == await get(store, "k", scope=name) == b"%d" % number
    assert await listed(store) == [(name, b"%d" % number) for number, name in enumerate(names)]
    assert await answered(store.scopes()) == sorted(
        [*names, "s"], key=lambda name: name.encode("utf-8", "surrogatepass")
    )


async def test_any_bytes_come_back_as_they_were(store):
    value = '{"text": "\U0001f600ä\\u0000", "n": [1.50, -0.0, 1e5]}'.encode()
    await put(store, "k", value)
    assert await get(store, "k") == value
    assert await put(store, "k", b"null") == (value, b"null")


async def test_an_order_of_writes_is_kept_within_what_waits_together(store):
    told = []
    writes = [put(store, "k", b"%d" % number, written=lambda *pair: told.append(pair)) for number in range(50)]
    answers = await asyncio.gather(*writes)
    assert (
        answers == told == list(zip([None, *map(b"%d".__mod__, range(49))], map(b"%d".__mod__, range(50)), strict=True))
    )
    assert await get(store, "k") == b"49"


async def test_increments_that_wait_together_are_all_counted(store):
    keys = ["a", "b", "c"]
    answers = await asyncio.gather(*(store.write("s", keys[n % 3], increment, untold) for n in range(300)))
    assert await listed(store) == [(key, b"100") for key in keys]
    assert sorted(int(new) for _, new in answers) == sorted([*range(1, 101)] * 3)


async def test_any_mixture_of_writes_that_wait_together_is_as_if_done_one_by_one(store):
    """Keys that come, go and come again: what is told, the values and the order."""
    expected = MemoryStore()
    actions = [(n * 7 % 5, None if n % 4 == 1 else b"%d" % n) for n in range(60)]
    for part in (actions[:7], actions[7:40], actions[40:]):
        one_by_one = [await put(expected, f"k{key}", value) for key, value in part]
        together = await asyncio.gather(*(put(store, f"k{key}", value) for key, value in part))
        assert list(together) == one_by_one
        assert sorted(await listed(store)) == sorted(await listed(expected))


async def test_a_new_key_comes_last_and_an_old_one_keeps_its_place(store):
    for key in ("a", "b", "c"):
        await put(store, key, b"1")
    await put(store, "a", b"2")
    await put(store, "b", None)
    await put(store, "b", b"3")
    assert await listed(store) == [("a", b"2"), ("c", b"1"), ("b", b"3")]
    await asyncio.gather(put(store, "a", None), put(store, "d", b"4"), put(store, "a", b"5"))
    assert [key for key, _ in await listed(store)] == ["c", "b", "d", "a"]


async def test_keys_that_are_made_together_stand_in_the_order_in_which_they_were_asked_for(store):
    keys = [f"k{n * 37 % 300}" for n in range(300)]
    await asyncio.gather(*(put(store, key, b"1") for key in keys))
    assert [key for key, _ in await listed(store)] == keys


async def test_a_change_that_raises_does_nothing_and_concerns_its_caller_alone(store):
    def refuse(old):
        raise ValueError("no")

    writes = [store.write("s", "k", refuse if n == 3 else increment, untold) for n in range(6)]
    answers = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(each) for each in answers].count(ValueError) == 1
    assert await get(store, "k") == b"5"


async def test_a_part_of_a_listing_ends_behind_its_limits(store):
    for number in range(10):
        await put(store, f"k{number}", b"x" * 100)
    first = await after(store, -1)
    assert len(first) == 10
    third = first[2][0]
    assert [key for _, key, _ in await after(store, third)] == [f"k{number}" for number in range(3, 10)]
    assert [key for _, key, _ in await after(store, third, limit=2)][:3] == ["k3", "k4", "k5"]
    assert [key for _, key, _ in await after(store, third, max_bytes=250)][:3] == ["k3", "k4", "k5"]
    assert await after(store, first[-1][0]) == []
    assert await after(store, -1, scope="none") == []


async def test_scopes_are_those_that_have_keys_in_order(store):
    assert await answered(store.scopes()) == []
    for scope in ("b", "a", "c"):
        await put(store, "k", b"1", scope=scope)
        await put(store, "l", b"1", scope=scope)
    for key in ("k", "l"):
        await put(store, key, None, scope="b")
    assert await answered(store.scopes()) == ["a", "c"]


async def test_when_no_write_waits_all_are_answered(store):
    writes = [asyncio.ensure_future(put(store, f"k{number}", b"1")) for number in range(500)]
    await asyncio.sleep(0)
    await store.idle()
    await asyncio.sleep(0)
    assert all(write.done() for write in writes)
    assert await answered(store.count("s")) == 500


async def test_large_values_that_wait_together_are_all_kept(store):
    values = [b'"%s"' % (bytes([97 + number]) * 1_000_000) for number in range(12)]
    for _ in range(2):
        await asyncio.gather(*(put(store, f"k{number}", value) for number, value in enumerate(values)))
    for number, value in enumerate(values):
        assert await get(store, f"k{number}") == value


async def test_no_reason_is_known_against_a_store_that_works(store):
    await put(store, "k", b"1")
    assert await answered(store.trouble()) is None


async def test_an_identity_is_sixteen_bytes_and_stays(store):
    identity = await answered(store.identity())
    assert len(identity) == 16
    await put(store, "k", b"1")
    assert await answered(store.identity()) == identity
