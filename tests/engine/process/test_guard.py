"""An engine that is killed takes its workers' processes along."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from linkly_engine.process.guard import Guard

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="waits for processes that are not its own")

ENGINE = """\
import asyncio, sys
from pathlib import Path
from linkly_engine.engine import Engine
from linkly_engine.process.child import ChildWorker
from linkly_engine.process.guard import Guard
from linkly_engine.process.starting import Starter

async def main():
    folder = Path(sys.argv[1])
    async with Engine() as engine, Guard() as guard:
        starter = Starter(
            engine.exchange,
            engine.peers,
            name="w",
            folder=folder,
            url=lambda: "ws://127.0.0.1:1",
            logs=folder / "logs",
            guard=guard,
        )
        await ChildWorker(engine.clock, starter).start()
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_kill_9_of_the_engine_ends_children_and_grandchildren(tmp_path, ended):
    pipe = tmp_path / "pids"
    os.mkfifo(pipe)
    (tmp_path / "iii.worker.yaml").write_text(
        "name: w\nscripts:\n  start: |\n"
        "    trap '' TERM\n"
        "    sleep 1000 &\n"
        "    sh -c 'sleep 1000 & wait' &\n"
        f"    echo $$ $! > {pipe}\n"
        "    wait\n"
    )
    engine = subprocess.Popen([sys.executable, "-c", ENGINE, str(tmp_path)], start_new_session=True)
    try:
        child, grandchild = map(int, pipe.read_text().split())
        guard = next(pid for pid in children_of(engine.pid) if pid != child)
        engine.send_signal(signal.SIGKILL)
        engine.wait(10)
        # The shell does not listen to SIGTERM: it takes the second, harder step.
        assert ended(grandchild, 15)
        assert ended(child, 15)
        assert ended(guard, 15)
    finally:
        engine.kill()
        engine.wait(10)


async def test_a_guard_that_is_killed_is_replaced(children, said):
    async with children() as run:
        run.manifest("echo up; exec sleep 1000")
        child = await run.after_its_word("up")
        first = run.guard.pid
        with said("linkly.process") as lines:
            os.kill(first, signal.SIGKILL)
            await lines.line_with("another one is started")
        assert run.guard.pid != first
        session = child.status.pid
        os.kill(run.guard.pid, 0)
        assert run.guard.sessions == {session}
        await child.stop()
        assert run.guard.sessions == set()


async def test_there_is_no_guard_without_a_child():
    async with asyncio.timeout(10), Guard() as guard:
        assert guard.pid is None
        guard.ready()
        pid = guard.pid
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]
