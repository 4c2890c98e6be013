"""A program that would end in the same way again is given up at once; every other one is tried again."""

import shutil

import pytest

from linkly.testing import ManualClock
from linkly_engine.process.hopeless import is_hopeless


@pytest.mark.parametrize(
    "source, expected",
    [
        ("import no_such_module_here", "No module named 'no_such_module_here'"),
        ("import os.path.nothing", "No module named"),
        ("def broken(:\n    pass", "SyntaxError"),
        ("def f():\nreturn 1", "IndentationError"),
        ("import other", "SyntaxError"),
    ],
)
async def test_a_python_program_that_cannot_heal_is_given_up_at_once(children, source, expected):
    async with children(clock=ManualClock()) as run:
        run.manifest("exec python main.py")
        run.write("main.py", source)
        run.write("other.py", "x = = 1")
        child = run.child()
        await child.start()
        await child.status.outcome()
        assert (child.status.state, child.status.restarts) == ("failed", 0)
        for part in (expected, "linkly worker restart w", "when a file in"):
            assert part in child.status.reason


@pytest.mark.parametrize("start", ["python no_such_file.py", "python -m no_such_module_here", "no-such-interpreter x"])
async def test_a_program_that_is_not_there_is_given_up_at_once(children, start):
    async with children(clock=ManualClock()) as run:
        run.manifest(f"exec {start}")
        child = run.child()
        await child.start()
        await child.status.outcome()
        assert (child.status.state, child.status.restarts) == ("failed", 0)


async def test_a_script_that_may_not_be_run_is_given_up_at_once(children):
    async with children(clock=ManualClock()) as run:
        run.manifest("./main.sh")
        run.write("main.sh", "#!/bin/sh\n")
        child = run.child()
        await child.start()
        await child.status.outcome()
        assert child.status.state == "failed"
        assert "cannot be executed" in child.status.reason


@pytest.mark.parametrize(
    "source", ["require('no-such-module-here')", "import('./nothing.mjs')", "const = 1", "import 'no-such-module-here'"]
)
async def test_a_node_program_that_cannot_heal_is_given_up_at_once(children, source):
    if shutil.which("node") is None:
        pytest.skip("there is no node: install Debian's package `nodejs`")
    async with children(clock=ManualClock()) as run:
        name = "main.mjs" if source.startswith("import '") else "main.cjs"
        run.manifest(f"exec node {name}")
        run.write(name, source)
        child = run.child()
        await child.start()
        await child.status.outcome()
        assert (child.status.state, child.status.restarts) == ("failed", 0)


async def test_what_was_given_up_runs_when_what_it_lacked_is_there(children, program):
    async with children() as run:
        run.manifest("exec python main.py")
        run.write("main.py", "import missing_part\n" + program())
        child = run.child()
        await child.start()
        await child.status.reaches("failed")
        await child.watching()
        run.write("missing_part.py", "")
        await child.status.reaches("running")


@pytest.mark.parametrize(
    "source",
    [
        "raise SystemExit(1)",
        "raise ConnectionRefusedError('no database')",
        "import ast; ast.literal_eval('not [code')",
        "print('SyntaxError: said, not raised'); raise SystemExit(3)",
    ],
)
async def test_what_may_heal_is_tried_again(children, source):
    async with children(clock=ManualClock()) as run:
        run.manifest("exec python main.py")
        run.write("main.py", source)
        child = run.child()
        await child.start()
        await child.status.reaches("waiting")


async def test_a_node_program_that_could_not_read_what_it_was_sent_is_tried_again(children):
    if shutil.which("node") is None:
        pytest.skip("there is no node: install Debian's package `nodejs`")
    async with children(clock=ManualClock()) as run:
        run.manifest("exec node main.cjs")
        run.write("main.cjs", "JSON.parse('<html>')")
        child = run.child()
        await child.start()
        await child.status.reaches("waiting")


@pytest.mark.parametrize(
    "code, lines", [(0, ["SyntaxError: x"]), (None, []), (-9, ["ModuleNotFoundError: x"]), (1, [])]
)
def test_only_a_program_that_failed_by_itself_is_hopeless(code, lines):
    assert not is_hopeless(code, lines)
