"""A second engine on the same database file is refused; whoever follows the first one is not."""

import asyncio
import re
import sqlite3
import sys

import pytest

from linkly.errors import ConfigError
from linkly.testing import ManualClock, running_engine, settle, wired
from linkly.worker import running
from linkly_engine.engine import Engine
from linkly_workers._sqlite.ownership import PATIENCE_S, TAKE_OVER_S
from linkly_workers.database import DatabaseWorker
from support.database_calls import database_worker

WAIT_S = 20


@pytest.fixture
def worker(tmp_path):
    """Return what makes database workers, all over one file."""

    def make(url=f"sqlite:{tmp_path}/data/a.db"):
        return database_worker(url)

    return make


async def insert(bus):
    await bus.trigger("database::execute", {"sql": "CREATE TABLE IF NOT EXISTS t (a)"})
    await bus.trigger("database::execute", {"sql": "INSERT INTO t VALUES (1)"})


async def refusal_of(worker):
    """Start an engine whose database another one has, and let the time go by that it waits; return why it failed."""
    clock = ManualClock()
    entering = asyncio.create_task(running_engine(worker, clock=clock).__aenter__())
    await settle()
    assert not entering.done()
    await clock.advance(2 * PATIENCE_S)
    with pytest.raises(ConfigError) as refused:
        await asyncio.wait_for(entering, WAIT_S)
    return refused.value.message


async def test_a_second_engine_on_the_same_file_disturbs_no_first_one(run, worker):
    async with run(worker()) as bus:
        assert re.search(r"database `primary`: another engine uses .*a\.db; stop it", await refusal_of(worker()))
        await insert(bus)


async def test_another_name_of_the_file_is_the_same_file(worker, tmp_path):
    async with running_engine(worker()):
        (tmp_path / "link.db").symlink_to(tmp_path / "data" / "a.db")
        assert "another engine uses" in await refusal_of(worker(f"sqlite:{tmp_path}/link.db"))


async def test_an_engine_that_comes_after_the_first_one_has_ended_is_let_in(worker):
    for _ in range(2):
        async with running_engine(worker()) as bus:
            await insert(bus)


async def test_a_killed_predecessor_keeps_nobody_out(worker, tmp_path):
    program = (
        "import asyncio, sys\n"
        "from linkly.testing import running_engine\n"
        "from linkly_workers.database import DatabaseWorker\n"
        "async def main():\n"
        "    worker = DatabaseWorker.from_config({'databases': {'primary': {'url': sys.argv[1]}}})\n"
        "    async with running_engine(worker):\n"
        "        print('open', flush=True)\n"
        "        await asyncio.Event().wait()  # it is killed\n"
        "asyncio.run(main())\n"
    )
    url = f"sqlite:{tmp_path}/data/a.db"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, url, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), WAIT_S) == b"open\n"
        assert "another engine uses" in await refusal_of(worker())
    finally:
        process.kill()
        await process.wait()
    async with running_engine(worker()) as bus:
        await insert(bus)


async def test_other_programs_read_and_write_beside_the_engine(worker, tmp_path):
    async with running_engine(worker()) as bus:
        await insert(bus)
        shell = sqlite3.connect(tmp_path / "data" / "a.db")
        shell.execute("INSERT INTO t VALUES (2)")
        shell.commit()
        shell.close()
        rows = (await bus.trigger("database::query", {"sql": "SELECT a FROM t ORDER BY a"}))["rows"]
        assert rows == [{"a": 1}, {"a": 2}]


async def test_two_databases_of_one_config_may_be_one_file(tmp_path):
    url = {"url": f"sqlite:{tmp_path}/a.db"}
    async with running_engine(DatabaseWorker.from_config({"databases": {"primary": url, "again": url}})) as bus:
        await insert(bus)


async def test_the_next_generation_of_a_database_program_keeps_others_out(worker):
    clock = ManualClock()
    async with Engine(clock=clock) as engine, wired(engine, name="next") as following:
        async with wired(engine, name="last") as bus, running(worker(), bus):
            await settle()
            second = running(worker(), following)
            await second.__aenter__()
        await clock.advance(2 * TAKE_OVER_S)
        assert "another engine uses" in await refusal_of(worker())
        await second.__aexit__(None, None, None)


async def test_waiting_for_the_lock_ends_when_its_holder_lets_go(worker):
    first = running_engine(worker())
    await first.__aenter__()
    second = running_engine(worker())
    entering = asyncio.create_task(second.__aenter__())
    await settle()
    await first.__aexit__(None, None, None)
    await insert(await entering)
    await second.__aexit__(None, None, None)
