"""The durable store: what is on disk when, what a failure takes with it, who may open it."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from linkly.errors import ConfigError, LinklyError
from linkly.schema import read_settings
from linkly_workers.state import StateSettings, StateWorker
from linkly_workers.state.errors import StoreError
from linkly_workers.state.stores import sqlite as store_module
from linkly_workers.state.stores.memory import MemoryStore
from linkly_workers.state.stores.sqlite import SqliteStore


@pytest.fixture
def file_worker(tmp_path):
    """Make state workers over one folder."""

    def make(folder=tmp_path / "kv", **settings):
        kv = {"store_method": "file_based", "file_path": str(folder)}
        return StateWorker(read_settings(StateSettings, {"adapter": {"name": "kv", "config": kv}, **settings}, "$"))

    make.file = tmp_path / "kv" / "state.db"
    return make


def rows(file, sql="SELECT scope, key, value FROM state ORDER BY position"):
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(sql).fetchall()


def write_sql(file, script):
    """What another program does to the file."""
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(script)


async def test_an_answered_write_is_in_the_file(run, file_worker):
    async with run(file_worker()) as bus:
        await bus.trigger("state::set", {"scope": "s", "key": "k", "value": {"a": 1}})
        assert rows(file_worker.file) == [("s", "k", b'{"a":1}')]
        await bus.trigger(
            "state::update", {"scope": "s", "key": "k", "ops": [{"type": "increment", "path": "a", "by": 1}]}
        )
        assert rows(file_worker.file) == [("s", "k", b'{"a":2}')]
        await bus.trigger("state::delete", {"scope": "s", "key": "k"})
        assert rows(file_worker.file) == []


async def test_the_file_keeps_values_and_their_order_across_a_restart(run, file_worker):
    async with run(file_worker()) as bus:
        for key in ("b", "a", "gone", "back"):
            await bus.trigger("state::set", {"scope": "s", "key": key, "value": {"key": key}})
        for key in ("gone", "back"):
            await bus.trigger("state::delete", {"scope": "s", "key": key})
        await bus.trigger("state::set", {"scope": "s", "key": "new", "value": 1})
        await bus.trigger("state::set", {"scope": "s", "key": "back", "value": 2})
    async with run(file_worker()) as bus:
        assert await bus.trigger("state::list_keys", {"scope": "s"}) == {"keys": ["b", "a", "new", "back"]}
        assert await bus.trigger("state::get", {"scope": "s", "key": "b"}) == {"key": "b"}


async def test_a_file_of_an_older_version_opens(run, file_worker):
    file_worker.file.parent.mkdir()
    write_sql(
        file_worker.file,
        "PRAGMA journal_mode = WAL; CREATE TABLE state (position INTEGER PRIMARY KEY AUTOINCREMENT, "
        "scope TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, UNIQUE (scope, key));"
        "INSERT INTO state (scope, key, value) VALUES ('s', 'b', CAST('{\"n\":1}' AS BLOB)), "
        "('s', 'a', CAST('[1]' AS BLOB));",
    )
    async with run(file_worker()) as bus:
        assert await bus.trigger("state::list", {"scope": "s"}) == [{"n": 1}, [1]]
        ops = [{"type": "increment", "path": "n", "by": 1}]
        await bus.trigger("state::update", {"scope": "s", "key": "b", "ops": ops})
        await bus.trigger("state::set", {"scope": "s", "key": "c", "value": 3})
    assert rows(file_worker.file) == [("s", "b", b'{"n":2}'), ("s", "a", b"[1]"), ("s", "c", b"3")]


async def test_stopping_writes_what_was_asked_for(run, file_worker):
    async with run(file_worker()) as bus:
        writes = [
            asyncio.ensure_future(bus.trigger("state::set", {"scope": "s", "key": f"k{n}", "value": n}))
            for n in range(900)
        ]
        await asyncio.gather(*writes)
    assert len(rows(file_worker.file)) == 900


async def test_a_refused_row_fails_its_own_caller_alone(run, file_worker):
    async with run(file_worker()) as bus:
        await bus.trigger("state::set", {"scope": "s", "key": "bad", "value": "old"})
        write_sql(
            file_worker.file,
            "CREATE TRIGGER refuse BEFORE UPDATE ON state WHEN NEW.key = 'bad' "
            "BEGIN SELECT RAISE(ABORT, 'no room for this'); END;"
            "CREATE TRIGGER keep BEFORE DELETE ON state WHEN OLD.key = 'bad' "
            "BEGIN SELECT RAISE(ABORT, 'it has to stay'); END;",
        )
        address = {"scope": "s", "key": "bad"}
        calls = [bus.trigger("state::set", {"scope": "s", "key": f"k{n}", "value": n}) for n in range(20)]
        calls += [
            bus.trigger("state::set", {**address, "value": "new"}),
            bus.trigger("state::update", {**address, "ops": [{"type": "append", "path": "", "value": "!"}]}),
            bus.trigger("state::delete", address),
        ]
        *fine, no_set, no_update, no_delete = await asyncio.gather(*calls, return_exceptions=True)
        assert [each["new_value"] for each in fine] == list(range(20))
        assert [each.code for each in (no_set, no_update, no_delete)] == ["SET_ERROR", "UPDATE_ERROR", "DELETE_ERROR"]
        assert "no room for this" in no_set.message
        assert "s/bad" in no_set.message
        assert "it has to stay" in no_delete.message
        assert await bus.trigger("state::get", address) == "old"
        assert ("s", "bad", b'"old"') in rows(file_worker.file)
        write_sql(file_worker.file, "DROP TRIGGER refuse; DROP TRIGGER keep;")
        assert (await bus.trigger("state::set", {**address, "value": "new"}))["old_value"] == "old"


async def test_a_value_that_cannot_be_changed_is_an_update_error(run, file_worker):
    file_worker.file.parent.mkdir()
    async with run(file_worker()) as bus:
        await bus.trigger("state::set", {"scope": "s", "key": "k", "value": 1})
    write_sql(file_worker.file, "UPDATE state SET value = CAST('{\"n\": 1e999}' AS BLOB)")
    async with run(file_worker()) as bus:
        with pytest.raises(LinklyError, match="s/k cannot be changed") as failure:
            await bus.trigger("state::update", {"scope": "s", "key": "k", "ops": []})
        assert failure.value.code == "UPDATE_ERROR"


class BrokenStore(MemoryStore):
    """A store that cannot be read."""

    def _fail(self, *_):
        raise StoreError("the shelf is empty")

    get = values = keys = after = scopes = _fail


@pytest.mark.parametrize(
    "function_id, payload, code",
    [
        ("state::get", {"scope": "s", "key": "k"}, "GET_ERROR"),
        ("state::list", {"scope": "s"}, "LIST_ERROR"),
        ("state::list_keys", {"scope": "s"}, "LIST_ERROR"),
        ("state::list_entries", {"scope": "s"}, "LIST_ERROR"),
        ("state::list_groups", {}, "LIST_GROUPS_ERROR"),
        ("state::set", {"scope": "s", "key": "k", "value": 1}, "SET_ERROR"),
        ("state::delete", {"scope": "s", "key": "k"}, "DELETE_ERROR"),
        ("state::update", {"scope": "s", "key": "k", "ops": []}, "UPDATE_ERROR"),
    ],
)
async def test_what_a_store_cannot_do_has_the_functions_code(run, function_id, payload, code):
    async with run(StateWorker(store=BrokenStore())) as bus:
        with pytest.raises(LinklyError, match="the shelf is empty") as failure:
            await bus.trigger(function_id, payload)
        assert failure.value.code == code


async def test_a_closed_store_refuses_instead_of_waiting_for_ever(tmp_path):
    store = SqliteStore(str(tmp_path))
    async with store.opened():
        pass
    with pytest.raises(StoreError, match="closed"):
        await store.write("s", "k", lambda _: b"1", lambda old, new: None)


@pytest.mark.parametrize("what", ["a file", "another engine", "no database"])
async def test_a_store_that_cannot_be_opened_is_a_config_error(run, tmp_path, file_worker, what):
    folder = tmp_path / "kv"
    message = {"a file": "cannot be opened", "another engine": "another engine is using it", "no database": "not a"}
    async with SqliteStore(str(tmp_path / "other")).opened():
        if what == "a file":
            folder.write_text("not a folder")
        elif what == "another engine":
            folder = tmp_path / "other"
        else:
            folder.mkdir()
            (folder / "state.db").write_bytes(b"x" * 5000)
        with pytest.raises(ConfigError, match=message[what]):
            async with run(file_worker(folder)):
                pass


async def test_files_that_iii_wrote_are_pointed_out(run, file_worker, caplog):
    file_worker.file.parent.mkdir()
    (file_worker.file.parent / "orders.bin").write_bytes(b"rkyv")
    async with run(file_worker()):
        pass
    assert "orders.bin" in caplog.text


# --- the store by itself ----------------------------------------------------------------------------------------


def text(value):
    return lambda _: value


def noted(notes):
    return lambda old, new: notes.append((old, new))


async def test_what_waits_together_writes_each_key_once(tmp_path):
    store = SqliteStore(str(tmp_path))

    def increment(old):
        return str(int(old or b"0") + 1).encode()

    async with store.opened():
        path = tmp_path / "state.db"
        with closing(sqlite3.connect(path)) as beside:
            beside.executescript(
                "CREATE TABLE written (a);"
                "CREATE TRIGGER i AFTER INSERT ON state BEGIN INSERT INTO written VALUES (new.value); END;"
                "CREATE TRIGGER u AFTER UPDATE ON state BEGIN INSERT INTO written VALUES (new.value); END;"
            )
        notes = []
        answers = await asyncio.gather(*(store.write("s", "k", increment, noted(notes)) for _ in range(1000)))
        with closing(sqlite3.connect(path)) as beside:
            assert beside.execute("SELECT count(*) FROM written").fetchone() == (1,)
        assert [int(new) for _, new in answers] == list(range(1, 1001))
        assert notes == answers


async def test_a_read_sees_no_write_before_it_is_answered(tmp_path):
    store = SqliteStore(str(tmp_path))
    async with store.opened():
        writing = asyncio.ensure_future(store.write("s", "k", text(b"1"), lambda old, new: None))
        seen_before = store.get("s", "k")
        await writing
        assert (seen_before, store.get("s", "k")) == (None, b"1")


async def test_a_batch_of_any_writes_leaves_the_file_as_the_memory(tmp_path, monkeypatch):
    """Set, deleted and set again within one batch and across batches, with keys SQLite's JSON cannot carry."""
    monkeypatch.setattr(store_module, "BATCH_WRITES", 7)
    store = SqliteStore(str(tmp_path))
    keys = ["a", "b", "c", "\0", "d\0e", 'quote"', "\U0001f600"]
    async with store.opened():
        await asyncio.gather(
            *(
                store.write("s", keys[n * 5 % 7], text(None if n % 3 == 1 else b"%d" % n), lambda old, new: None)
                for n in range(200)
            )
        )
        memory = [(key, value) for _, key, value in store.after("s", -1, 1000, 10**6)]
        assert memory == list(zip(store.keys("s"), store.values("s"), strict=True))
    again = SqliteStore(str(tmp_path))
    async with again.opened():
        assert [(key, value) for _, key, value in again.after("s", -1, 1000, 10**6)] == memory


@pytest.mark.parametrize("limit", [0, 10**9], ids=["row by row", "one json text"])
async def test_large_and_small_batches_are_written_alike(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(store_module, "JSON_BYTES", limit)
    store = SqliteStore(str(tmp_path))
    value = '{"text":"ä\\u0000\\"","n":[1.50,-0.0,1e5]}'.encode()
    async with store.opened():
        await asyncio.gather(*(store.write("s", f"k{n}", text(value), lambda old, new: None) for n in range(5)))
    assert rows(tmp_path / "state.db") == [("s", f"k{n}", value) for n in range(5)]


async def test_another_programs_lock_is_waited_for_once_by_all_that_write(tmp_path):
    store = SqliteStore(str(tmp_path), lock_patience_s=1)
    async with store.opened():
        with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = asyncio.get_running_loop().time()
            results = await asyncio.gather(
                *(store.write("s", str(number), lambda _: b"1", lambda *_: None) for number in range(20)),
                return_exceptions=True,
            )
            assert asyncio.get_running_loop().time() - began < 10  # one by one it would be 20 s
        assert [type(each) for each in results] == [StoreError] * 20
        assert "another program has locked" in str(results[0])
        assert store.count("s") == 0
        await store.write("s", "0", lambda _: b"1", lambda *_: None)
        assert store.get("s", "0") == b"1"


async def test_a_write_whose_caller_left_before_its_turn_does_not_happen(tmp_path):
    store = SqliteStore(str(tmp_path))
    async with store.opened():
        notes = []
        first = asyncio.ensure_future(store.write("s", "a", text(b"1"), noted(notes)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second = asyncio.ensure_future(store.write("s", "b", text(b"2"), noted(notes)))
        await asyncio.sleep(0)
        second.cancel()
        await first
        await asyncio.gather(second, return_exceptions=True)
        await store.write("s", "c", text(b"3"), noted(notes))
        assert store.keys("s") == ["a", "c"]
        assert notes == [(None, b"1"), (None, b"3")]


async def test_a_write_whose_caller_left_on_its_way_counts(tmp_path):
    store = SqliteStore(str(tmp_path))
    async with store.opened():
        notes = []
        leaving = asyncio.ensure_future(store.write("s", "a", text(b"1"), noted(notes)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        leaving.cancel()
        await store.write("s", "b", text(b"2"), noted(notes))
        assert notes == [(None, b"1"), (None, b"2")]
    assert [row[1] for row in rows(tmp_path / "state.db")] == ["a", "b"]
