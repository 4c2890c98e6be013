"""The limits of the machine: file descriptors, memory, a config.yaml that cannot be read."""

import asyncio
import contextlib
import logging
import os
import resource
import sys
from pathlib import Path

import pytest

from linkly.testing import ManualClock, settle
from linkly_engine.project.descriptors import exhausted, watch_descriptors
from support.engine_process import EngineProcess

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of another process are Linux's")


@contextlib.contextmanager
def no_descriptor_left():
    """Take every file descriptor that there is."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, limits[1]))
    taken = [free]
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in taken:
            os.close(descriptor)


def test_running_out_of_file_descriptors_is_noticed():
    assert exhausted() is None
    with no_descriptor_left():
        reason = exhausted()
    assert reason.startswith("this process has all ")
    assert exhausted() is None


async def test_it_is_said_once_and_so_is_its_end(caplog):
    caplog.set_level(logging.WARNING, "linkly.engine")
    clock = ManualClock()
    watching = asyncio.ensure_future(watch_descriptors(clock))
    await settle()
    with no_descriptor_left():
        await clock.advance(3)
        await clock.advance(3)
    await clock.advance(3)
    watching.cancel()
    said = [record.getMessage() for record in caplog.records if record.name == "linkly.engine"]
    assert [text.split(":")[0] for text in said] == ["out of file descriptors", "file descriptors are free again"]
    assert "ulimit -n" in said[0]


async def test_a_config_that_cannot_be_read_is_not_said_to_be_gone(live, caplog):
    async with live("  - name: state\n") as run:
        path = run.folder / "config.yaml"
        text = path.read_text()
        path.unlink()
        path.mkdir()
        for _ in range(2):
            assert await run.project.reload() is None
        path.rmdir()
        path.write_text(text)
        assert await run.project.reload() is None
    said = [record.getMessage() for record in caplog.records if "config.yaml" in record.getMessage()]
    assert said == [f"{path} cannot be read: Is a directory; what runs keeps running"]


@LINUX
def test_a_stop_at_a_memory_limit_ends_without_a_traceback(tmp_path):
    (tmp_path / "config.yaml").write_text(
        "workers:\n  - {name: iii-worker-manager, config: {port: 0}}\n  - {name: state}\n  - {name: database}\n"
    )
    engine = EngineProcess(tmp_path)
    try:
        engine.start()
        size = int(Path(f"/proc/{engine.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(engine.pid, resource.RLIMIT_AS, (size + 6 * 1024 * 1024, -1))  # no room for a thread's stack
        program = engine.program
        assert engine.end() == 0
    finally:
        engine.kill()
    assert not any("Traceback" in line for line in program.lines)
