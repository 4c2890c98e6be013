"""Workers stopped and started by name, worker ports that move, and which entry continues which."""

import asyncio
import random

import pytest

from linkly import Client, Function
from linkly.errors import ConfigError, FunctionNotFound
from linkly_engine.engine import Engine
from linkly_engine.project.config import EMBEDDED, load, parse
from linkly_engine.project.listener import Listener
from linkly_engine.project.listeners import Listeners
from linkly_engine.project.loader import load_workers
from linkly_engine.project.member import continues
from linkly_engine.project.project import Project

STATE = "  - name: state\n"
PROBE = "  - module: live_probe:Probe\n    config: {greeting: old}\n"


async def state_of(run, name="probe"):
    return (await run.rows())[name]["status"]


async def test_a_worker_is_stopped_and_started_by_name(live):
    async with live(STATE + PROBE) as run:
        row = await run.bus.trigger("worker::stop", {"name": "probe"})
        assert (row["status"], row["running"], row["functions"]) == ("stopped", False, 0)
        with pytest.raises(FunctionNotFound):
            await run.bus.trigger("probe::hello")
        hint = (await run.bus.trigger("worker::status", {"name": "probe"}))["hint"]
        assert hint == "start it with `linkly worker start probe`"
        row = await run.bus.trigger("worker::start", {"name": "probe"})
        assert (row["status"], row["functions"], row["restarts"]) == ("running", 2, 0)
        assert await run.bus.trigger("worker::start", {"name": "probe"}) == row
        assert run.probe.notes == ["old ends", "old starts"]


async def test_a_stopped_worker_stays_stopped_until_its_own_entry_changes(live):
    async with live(STATE + PROBE) as run:
        await run.bus.trigger("worker::stop", {"name": "probe"})
        applied = await run.change("  - name: state\n    config: {triggers_enabled: false}\n" + PROBE)
        assert applied.changed == ["state"]
        assert await state_of(run) == "stopped"
        await run.project.reload(forced=True)
        assert await state_of(run) == "stopped"
        applied = await run.change(STATE + PROBE.replace("old", "new"))
        assert applied.started == ["probe"]
        assert (await run.bus.trigger("probe::hello"))["body"] == "new"


async def test_a_restart_waits_for_calls_in_flight(live):
    async with live(PROBE) as run:
        call = asyncio.create_task(run.bus.trigger("probe::wait"))
        await run.probe.entered.wait()
        restart = asyncio.create_task(run.bus.trigger("worker::restart", {"name": "probe"}))
        await run.until_it_ends("probe::hello")
        later = asyncio.create_task(run.bus.trigger("probe::hello"))
        run.probe.gate.set()
        assert await call == "old"
        assert (await later)["body"] == "old"
        assert (await restart)["restarts"] == 1
        assert run.probe.notes == ["old ends", "old starts"]


async def test_changes_are_made_one_after_the_other(live):
    async with live(STATE + PROBE) as run:
        kinds = ["stop", "restart", "start", "stop", "restart", "stop", "start"]
        await asyncio.gather(*(run.bus.trigger(f"worker::{kind}", {"name": "probe"}) for kind in kinds))
        assert await state_of(run) == "running"
        assert run.probe.notes == ["old ends", "old starts"] * 3


async def test_a_start_that_fails_says_why_and_nothing_is_left(live):
    async with live(PROBE) as run:
        await run.bus.trigger("worker::stop", {"name": "probe"})
        await run.change(PROBE.replace("old", "old, fail_start: true"))
        assert await state_of(run) == "failed"
        with pytest.raises(ConfigError, match="no disk"):
            await run.bus.trigger("worker::start", {"name": "probe"})
        assert run.engine.tables.functions.find("default", "probe::hello") is None


async def test_a_running_worker_makes_its_tables_in_a_database_that_was_replaced(live, tmp_path, monkeypatch):
    def database(name):
        return f"  - name: database\n    config: {{databases: {{primary: {{url: 'sqlite:./{name}.db'}}}}}}\n"

    monkeypatch.chdir(tmp_path)
    async with live("") as run:
        link = "  - name: http\n    config: {port: 0}\n  - name: link\n"
        await run.change(STATE + database("one") + link)
        untouched = run.worker("link")
        await run.bus.trigger("link::create", {"url": "https://iii.dev", "code": "iii"})
        assert (await run.change(STATE + database("two") + link)).changed == ["database"]
        assert run.worker("link") is untouched
        assert (await run.bus.trigger("link::create", {"url": "https://iii.dev", "code": "iii"}))["code"] == "iii"


async def test_without_a_file_the_defaults_run_until_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("linkly_engine.project.config.EMBEDDED", "workers:\n  - name: state\n")
    config = load(None)
    config.listeners = [Listener(port=0)]
    async with Engine() as engine:
        project = Project(engine, config, load_workers(config))
        await project.start()
        bus = engine.bus("test")
        assert (await bus.trigger("worker::list"))["config_path"] is None
        (tmp_path / "config.yaml").write_text(
            "workers:\n  - name: iii-worker-manager\n    config: {port: 0}\n  - name: state\n  - name: http\n"
            "    config: {port: 0}\n"
        )
        applied = await project.reload()
        assert (applied.started, applied.listeners.opened) == (["http"], [])
        assert (await bus.trigger("worker::list"))["config_path"] == str(tmp_path / "config.yaml")
        await project.close()
        assert await project.reload(forced=True) is None
        await project.stop()


async def test_a_change_between_the_reading_of_the_file_and_the_start_is_applied(tmp_path):
    ports = "workers:\n  - name: iii-worker-manager\n    config: {port: 0}\n"
    (tmp_path / "config.yaml").write_text(ports)
    config = load(tmp_path / "config.yaml")
    async with Engine() as engine:
        (tmp_path / "config.yaml").write_text(ports + "  - name: state\n")
        project = Project(engine, config, load_workers(config))
        await project.start()
        applied = await project.reload()
        await project.close()
        await project.stop()
    assert applied is not None
    assert applied.started == ["state"]


@pytest.fixture
async def listeners():
    async with Engine() as engine:
        opened = Listeners(engine)
        yield opened
        await opened.stop()


async def refused(port):
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.transport.abort()
    return False


async def test_a_worker_port_moves_and_connections_stay(listeners, reserve_port):
    await listeners.start([Listener(port=0)])
    old, new = listeners.servers[0].port, reserve_port()
    async with Client(listeners.url, name="stays") as client:
        client.register_function(Function("stays::here", _here))
        changes = await listeners.change([Listener(port=new)])
        assert changes.opened == [f"ws://127.0.0.1:{new}"]
        assert changes.closed == [f"ws://127.0.0.1:{old}"]
        assert await refused(old)
        async with Client(listeners.url, name="new") as other:
            assert await other.trigger("stays::here") == "here"


async def _here(payload: object) -> str:
    return "here"


async def test_settings_of_a_worker_port_change_without_the_port(listeners, reserve_port):
    port = reserve_port()
    await listeners.start([Listener(port=port), Listener(port=0)])
    kept = listeners.servers[1]
    changes = await listeners.change([Listener(port=port, handshake_timeout_s=1), Listener(port=0)])
    assert changes.problems == []
    assert listeners.servers[1] is kept
    assert not await refused(port)


async def test_a_worker_port_that_cannot_be_opened_leaves_the_old_one_open(listeners, reserve_port):
    await listeners.start([Listener(port=0)])
    old, busy = listeners.servers[0], reserve_port()
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", busy):
        changes = await listeners.change([Listener(port=busy)])
    assert str(busy) in changes.problems[0]
    assert listeners.servers == [old]
    assert not await refused(old.port)


@pytest.mark.parametrize(
    "taken, way_out",
    [
        (True, "Address already in use; another engine may be running"),
        (False, "Cannot assign requested address; choose another address"),
    ],
)
async def test_a_worker_port_that_cannot_be_opened_says_what_to_do(listeners, reserve_port, taken, way_out):
    port = reserve_port()
    first = [Listener(port=port)] if taken else []
    await listeners.start(first)
    with pytest.raises(ConfigError) as caught:
        await listeners.start([Listener(port=port, host="127.0.0.1" if taken else "192.0.2.1")])
    assert way_out in caught.value.message
    assert "`- name: iii-worker-manager`" in caught.value.message


async def test_programs_connect_to_this_machine_whatever_the_port_listens_on(listeners):
    await listeners.start([Listener(host="0.0.0.0", port=0)])
    assert listeners.url == f"ws://127.0.0.1:{listeners.servers[0].port}"


def entries(text):
    return parse("workers:\n" + text, "f", {}).workers


def test_an_entry_continues_the_equal_one_before_its_namesake():
    old = entries("  - name: state\n  - name: http\n    config: {port: 1}\n  - path: ./a\n    name: a\n")
    assert continues(old, old) == [0, 1, 2]
    assert continues(old, list(reversed(old))) == [2, 1, 0]
    changed = entries("  - name: http\n    config: {port: 2}\n  - name: link\n  - path: ./b\n    name: a\n")
    assert continues(old, changed) == [1, None, 2]
    # A second one of a name gives both of them numbers; the first one is the same all the same.
    both = entries("  - name: http\n    config: {port: 2}\n  - name: http\n    config: {port: 1}\n")
    assert continues(old, both) == [None, 1]
    # A program does not continue a worker in the engine's process.
    assert continues(entries("  - name: a\n"), entries("  - name: a\n    path: ./a\n")) == [None]


def test_the_embedded_defaults_continue_themselves():
    assert continues(parse(EMBEDDED, "f", {}).workers, parse(EMBEDDED, "f", {}).workers) == [0, 1, 2, 3, 4]


async def test_after_any_sequence_of_changes_what_runs_is_what_the_file_says(live):
    order = random.Random(7)
    pool = {
        "state": [STATE, "  - name: state\n    config: {triggers_enabled: false}\n"],
        "http": [
            "  - name: http\n    config: {port: 0}\n",
            "  - name: http\n    config: {port: 0, default_timeout: 9}\n",
        ],
        "probe": [PROBE, PROBE.replace("old", "new"), PROBE.replace("old", "new, fail_ready: true")],
    }
    async with live("") as run:
        chosen: dict[str, str] = {}
        for _ in range(40):
            before = {name: (text, run.worker(name)) for name, text in chosen.items()}
            names = order.sample(sorted(pool), order.randint(0, 3))
            chosen = {name: order.choice(pool[name]) for name in names}
            applied = await run.change("".join(chosen.values()) + f"# {order.random()}\n")
            rows = await run.rows()
            assert list(rows) == names
            fails = "fail_ready" in chosen.get("probe", "")
            assert len(applied.problems) == fails
            for name in names:
                was, worker = before.get(name, (None, None))
                if was == chosen[name] and not (fails and name == "probe"):
                    assert run.worker(name) is worker
                assert rows[name]["running"] or fails
            running = [worker.name for worker in run.engine.host.running]
            assert running == [name for name in names if rows[name]["running"]]
            listed = await run.bus.trigger("engine::functions::list", {"worker": "probe"})
            assert len(listed["functions"]) == 2 * ("probe" in running)
