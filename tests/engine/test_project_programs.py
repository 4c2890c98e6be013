"""Programs in processes of their own are a part of the project like every other worker."""

import asyncio
import json
import os
import sys

import pytest

from linkly.errors import ConfigError
from linkly_engine.project.loader import read

WAIT_S = 30

PROGRAM = """\
import asyncio, json, os
from linkly import Client, Function

settings = json.loads(os.environ.get("LINKLY_WORKER_CONFIG", "null")) or {}

if settings.get("fail"):
    raise SystemExit("no such greeting")

async def hello(payload):
    return settings.get("greeting", "hello")

async def pid(payload):
    return os.getpid()

async def main():
    print("looking for", os.environ["III_URL"], flush=True)
    async with Client(os.environ["LINKLY_URL"], name=os.environ["LINKLY_WORKER_NAME"]) as bus:
        bus.register_function(Function("greeter::hello", hello))
        bus.register_function(Function("greeter::pid", pid))
        await asyncio.Event().wait()

asyncio.run(main())
"""

ENTRY = "  - path: ./greeter\n"
STATE = "  - name: state\n"


@pytest.fixture
def greeter(tmp_path):
    folder = tmp_path / "greeter"
    folder.mkdir()
    (folder / "main.py").write_text(PROGRAM)
    paths = os.pathsep.join(path for path in sys.path if path.endswith(("sdk", "engine", "workers")))
    (folder / "iii.worker.yaml").write_text(
        f"name: greeter\nscripts:\n  start: exec {sys.executable} main.py\nenv:\n  PYTHONPATH: {json.dumps(paths)}\n"
    )
    return folder


async def settled(run, name="greeter"):
    async with asyncio.timeout(WAIT_S):
        await run.project.members.find(name).child.status.outcome()
    return (await run.rows())[name]


async def test_a_program_starts_with_the_project_and_ends_with_it(live, greeter):
    async with live(STATE + ENTRY) as run:
        row = await settled(run)
        assert (row["kind"], row["status"], row["functions"], row["path"]) == ("path", "running", 2, str(greeter))
        assert await run.bus.trigger("greeter::hello") == "hello"
        pid = await run.bus.trigger("greeter::pid")
        status = await run.bus.trigger("worker::status", {"name": "greeter"})
        assert status["function_ids"] == ["greeter::hello", "greeter::pid"]
        assert status["logs_dir"] == str(run.folder / ".linkly/logs/greeter")
        assert status["pid"] == row["pid"]
        logs = await run.bus.trigger("worker::logs", {"name": "greeter", "tail": 1})
        assert logs["stdout"] == [f"looking for {run.project.listeners.servers[0].url}"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_program_is_added_changed_and_removed(live, greeter):
    async with live(STATE) as run:
        state = run.worker("state")
        assert (await run.change(STATE + ENTRY)).started == ["greeter"]
        await settled(run)
        first = await run.bus.trigger("greeter::pid")
        applied = await run.change(STATE + ENTRY + "    config: {greeting: hi}\n")
        assert (applied.changed, applied.problems) == (["greeter"], [])
        await settled(run)
        assert await run.bus.trigger("greeter::hello") == "hi"
        assert (await run.change(STATE)).stopped == ["greeter"]
        assert list(await run.rows()) == ["state"]
        assert run.worker("state") is state
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)


async def test_no_call_fails_while_a_program_takes_another_config(live, greeter):
    async with live(ENTRY) as run:
        await settled(run)
        answers: list[str] = []
        done = asyncio.Event()

        async def ask():
            while not done.is_set():
                answers.append(await run.bus.trigger("greeter::hello"))

        asking = asyncio.create_task(ask())
        await run.change(ENTRY + "    config: {greeting: hi}\n")
        row = await settled(run)
        assert (row["restarts"], row["status"]) == (1, "running")
        assert await run.bus.trigger("greeter::hello") == "hi"
        done.set()
        await asking
        assert set(answers) <= {"hello", "hi"}
        assert answers[0] == "hello"


async def test_a_config_that_a_program_cannot_run_by_keeps_its_earlier_generation(live, greeter):
    async with live(ENTRY) as run:
        await settled(run)
        await run.change(ENTRY + "    config: {greeting: hi, fail: true}\n")
        row = await settled(run)
        assert row["status"] == "running"
        assert "no such greeting" in row["reason"]
        assert await run.bus.trigger("greeter::hello") == "hello"
        await run.change(ENTRY + "    config: {greeting: hi}\n")
        assert "reason" not in await settled(run)
        assert await run.bus.trigger("greeter::hello") == "hi"


async def test_a_program_that_did_not_change_is_the_same_process(live, greeter):
    async with live(STATE + ENTRY) as run:
        await settled(run)
        before = await run.bus.trigger("greeter::pid")
        await run.change("  - name: state\n    config: {triggers_enabled: false}\n" + ENTRY)
        assert await run.bus.trigger("greeter::pid") == before


async def test_a_program_is_stopped_and_started_by_name(live, greeter):
    async with live(ENTRY) as run:
        await settled(run)
        pid = await run.bus.trigger("greeter::pid")
        row = await run.bus.trigger("worker::stop", {"name": "greeter"})
        assert (row["status"], row["functions"], row["pid"]) == ("stopped", 0, None)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert (await run.change(STATE + ENTRY)).started == ["state"]
        assert (await run.rows())["greeter"]["status"] == "stopped"
        row = await run.bus.trigger("worker::start", {"name": "greeter"})
        assert (row["status"], row["functions"]) == ("running", 2)
        started = await run.bus.trigger("greeter::pid")
        row = await run.bus.trigger("worker::restart", {"name": "greeter"})
        assert row["status"] == "running"
        assert await run.bus.trigger("greeter::pid") != started


async def test_a_program_follows_the_worker_port(live, greeter, reserve_port):
    async with live(ENTRY) as run:
        await settled(run)
        before = await run.bus.trigger("greeter::pid")
        port = reserve_port()
        (run.folder / "config.yaml").write_text(
            f"workers:\n  - name: iii-worker-manager\n    config: {{port: {port}}}\n" + ENTRY
        )
        await run.project.reload()
        await settled(run)
        assert await run.bus.trigger("greeter::pid") != before
        logs = await run.bus.trigger("worker::logs", {"name": "greeter"})
        assert logs["stdout"][-1] == f"looking for ws://127.0.0.1:{port}"


@pytest.mark.parametrize(
    "manifest, expected",
    [
        (None, ["config.yaml:4: $.workers[1].path", "linkly worker init"]),
        ("name: greeter\nscripts: {start: x, strat: y}\n", ["config.yaml:4", "iii.worker.yaml:2", "$.scripts.strat"]),
        ("name: state\nscripts: {start: x}\n", ["config.yaml:4: $.workers[1].name", "`state`", "another worker"]),
    ],
)
async def test_a_folder_that_cannot_be_used_is_refused_before_anything_changes(live, greeter, manifest, expected):
    if manifest is None:
        (greeter / "iii.worker.yaml").unlink()
    else:
        (greeter / "iii.worker.yaml").write_text(manifest)
    async with live(STATE) as run:
        assert await run.change(ENTRY + STATE) is None
        for part in expected:
            assert part in run.project.file.refusal
        with pytest.raises(ConfigError):
            read(run.folder / "config.yaml")
