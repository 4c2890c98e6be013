"""A program that ends is started again, later each time, until it is given up; what it leaves behind ends with it."""

import os
import sys

import pytest

from linkly.testing import ManualClock, settle
from linkly_engine.process import sessions
from linkly_engine.process.backoff import Backoff
from linkly_engine.process.output import Feed, Output
from linkly_engine.process.program import Program

WAITS = [1, 2, 4, 8, 16, 30, 30]


def test_waits_double_until_it_is_given_up():
    backoff = Backoff()
    assert [backoff.ended(0.1) for _ in range(8)] == [*WAITS, None]
    backoff.reset()
    assert backoff.ended(0.1) == 1


def test_a_long_run_begins_the_count_anew():
    backoff = Backoff()
    for _ in range(5):
        backoff.ended(59.9)
    assert backoff.ended(60) == 1
    assert backoff.ended(3) == 2


async def test_a_program_that_goes_on_crashing_is_given_up_with_a_reason(children):
    clock = ManualClock()
    async with children(clock=clock) as run:
        run.manifest("echo run >> ../runs; echo no database >&2; exit 3")
        child = run.child()
        await child.start()
        for number, wait_s in enumerate(WAITS):
            status = await child.status.reaches("waiting")
            assert "exit code 3" in status.reason
            assert "no database" in status.reason
            assert (status.pid, status.restarts) == (None, number)
            await settle()  # the wait itself has begun
            await clock.advance(wait_s - 0.5)
            assert (child.status.state, child.status.restarts) == ("waiting", number)
            await clock.advance(0.51)
            # The next one runs, or has ended already and waits in its turn.
            assert child.status.state != "waiting" or child.status.restarts == number + 1
        await child.status.outcome()
        assert child.status.state == "failed"
        for part in ("exit code 3", "8th time", "no database", "linkly worker restart w"):
            assert part in child.status.reason
        assert (run.folder / "runs").read_text().count("run") == 8


async def test_a_program_that_was_given_up_is_tried_again(children):
    clock = ManualClock()
    async with children(clock=clock) as run:
        run.manifest("exit 1")
        child = await given_up(run, clock)
        await child.restart()
        assert child.status.state == "waiting"  # it counts from the beginning again
        await child.stop()
        assert child.status.state == "stopped"
        child = await given_up(run, clock)
        await child.watching()
        run.write("src/data.txt", "anything")
        await child.status.reaches("waiting")


async def given_up(run, clock):
    child = run.child()
    await child.start()
    for wait_s in WAITS:
        await child.status.reaches("waiting")
        await settle()
        await clock.advance(wait_s)
    await child.status.reaches("failed")
    return child


async def test_a_change_ends_the_wait(children, program):
    clock = ManualClock()
    async with children(clock=clock) as run:
        run.manifest("exec python main.py")
        run.write("main.py", "raise SystemExit('not yet')")
        child = run.child()
        await child.start()
        assert "not yet" in (await child.status.reaches("waiting")).reason
        await child.watching()
        run.write("main.py", program())
        await child.status.reaches("starting")


async def test_a_program_that_never_connects_counts_as_running_after_ten_seconds(children):
    clock = ManualClock()
    async with children(clock=clock) as run:
        run.manifest("echo up; exec sleep 1000")
        child = await run.after_its_word("up")
        await settle()
        await clock.advance(9.9)
        assert child.status.state == "starting"
        await clock.advance(0.2)
        assert (child.status.state, child.status.reason) == ("running", None)


@pytest.mark.parametrize(
    "start, expected",
    [
        ("exit 0", "has to keep running"),
        ("kill -9 $$", "SIGKILL"),
        ("surely-no-such-command", "not found; is it installed"),
        ("sh -c 'kill -9 $$'; exit $?", "137 (SIGKILL)"),
    ],
)
async def test_the_reason_says_how_it_ended(children, start, expected):
    async with children(clock=ManualClock()) as run:
        run.manifest(start)
        child = run.child()
        await child.start()
        assert expected in (await child.status.reaches("waiting", "failed")).reason


async def test_what_a_crashed_program_leaves_behind_ends(children, ended):
    async with children(clock=ManualClock()) as run:
        run.manifest("sleep 1000 & echo $! > ../left; exit 1")
        child = run.child()
        await child.start()
        await child.status.reaches("waiting")
        assert ended(int((run.folder / "left").read_text()), 0)


async def test_nothing_is_left_of_a_worker_that_is_stopped(children, ended):
    async with children() as run:
        # One of them has left the process group, as an interactive shell's jobs do.
        run.manifest("sleep 1000 & echo $! > ../a; set -m; sleep 1000 & echo $! > ../b; echo up; sleep 1000")
        child = await run.after_its_word("up")
        session = child.status.pid
        assert len(sessions.members(session)) >= 3
        await child.stop()
        assert (child.status.state, child.status.pid) == ("stopped", None)
        assert sessions.members(session) == []
        assert ended(int((run.folder / "a").read_text()), 0)
        assert ended(int((run.folder / "b").read_text()), 0)
        await child.start()
        assert child.status.state == "starting"


async def test_a_program_that_does_not_listen_is_killed(children, tmp_path, said):
    async with children() as run:
        with said("linkly.worker.deaf") as lines:
            program = Program.start(
                "trap '' TERM; echo up; while :; do sleep 1000; done",
                folder=tmp_path,
                environment=dict(os.environ),
                feed=Feed(output := Output("deaf", tmp_path / "logs")),
                guard=run.guard,
            )
            await lines.line_with("up")
            await program.end(kill_after_s=0.1)
        output.close()
        assert program.returncode == -9
        assert sessions.members(program.pid) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_program_inherits_no_file_of_the_engine(children):
    async with children() as run:
        run.manifest('exec python -c \'import os; print("fds", *sorted(os.listdir("/proc/self/fd"), key=int))\'')
        child = run.child()
        await child.start()
        await child.status.reaches("waiting")
        assert child.output.tail(1)[0] == ["fds 0 1 2 3"]  # the last is the listing's own
