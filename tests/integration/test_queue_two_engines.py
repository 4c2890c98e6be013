"""Two engines whose queues are in one PostgreSQL, and one of them is killed or stands still while jobs run on it."""

import asyncio
import collections
import contextlib
import itertools
import os
import signal
import sys
from pathlib import Path

import pytest

from linkly import Client, LinklyError
from support.database_calls import until
from support.engine_process import EngineProcess
from support.postgres_server import connected
from support.program import Program

WAIT_S = 120
JOBS = 600
CLIENTS = 8
GROUPS = 10
DONE = 4
PROGRAM = Path(__file__).parents[1] / "support" / "queue_program.py"
OFTEN = "max_retries: 20, backoff_ms: 5, keep_done: 1000000"
CONFIG = """workers:
  - name: iii-worker-manager
    config: {{port: {port}}}
  - name: database
    config: {{databases: {{jobs: {{url: '{url}'}}}}}}
  - name: queue
    config:
      db: jobs
      lease_ms: 1000
      queue_configs:
        fast: {{concurrency: 10, {often}}}
        lines: {{type: fifo, message_group_field: group, concurrency: 5, {often}}}
"""


@contextlib.contextmanager
def engine(url, folder, port, log):
    """Run an engine with a program beside it that runs jobs."""
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG.format(port=port, url=url, often=OFTEN))
    process = EngineProcess(folder)
    with contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        process.start()
        program = Program(
            [sys.executable, str(PROGRAM), process.url, "jobs", str(log)],
            environment={"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        stack.callback(program.end, signal.SIGKILL)
        program.until("serving")
        yield process


class Shop:
    """What clients have enqueued: the receipts by number."""

    def __init__(self):
        self.numbers = itertools.count()
        self.receipts = {}
        self.changed = asyncio.Event()

    async def reach(self, count):
        """Return when so many jobs are accepted."""
        async with asyncio.timeout(WAIT_S):
            while len(self.receipts) < count:
                self.changed.clear()
                await self.changed.wait()

    async def enqueue(self, *urls):
        """Enqueue jobs; each is repeated under its key until it is accepted, on the next engine."""
        async with contextlib.AsyncExitStack() as stack:
            buses = itertools.cycle([await stack.enter_async_context(Client(url)) for url in urls])
            bus = next(buses)
            while (number := next(self.numbers)) < JOBS:
                request = {
                    "function_id": "jobs::run",
                    "queue": "lines" if number % 2 else "fast",
                    "payload": {"group": f"g{number % GROUPS}", "number": number},
                    "idempotency_key": str(number),
                }
                while number not in self.receipts:
                    try:
                        answer = await bus.trigger("queue::enqueue", request, timeout_s=2)
                        self.receipts[number] = answer["messageReceiptId"]
                    except LinklyError:
                        bus = next(buses)
                self.changed.set()


async def all_done(postgres):
    """Return whether no job is in another state."""
    return not await postgres.fetchval("SELECT COUNT(*) FROM linkly_queue_jobs WHERE state <> $1", DONE)


async def kill(process):
    """End an engine as a power cut does."""
    await asyncio.to_thread(process.end, signal.SIGKILL)


async def stand_still(process):
    """Let an engine stand still for longer than its lease."""
    process.send(signal.SIGSTOP)
    await asyncio.sleep(2.5)  # its lease goes by the server's clock, which no test moves
    process.send(signal.SIGCONT)


@pytest.mark.parametrize("fail", [kill, stand_still])
async def test_every_job_is_done_when_one_of_two_engines_fails(fail, postgres_url, tmp_path, reserve_port):
    log, shop = tmp_path / "log", Shop()
    with (
        engine(postgres_url, tmp_path / "one", reserve_port(), log) as one,
        engine(postgres_url, tmp_path / "other", reserve_port(), log) as other,
    ):
        urls = (one.url, other.url)
        clients = [asyncio.create_task(shop.enqueue(*urls[:: 1 if n % 2 else -1])) for n in range(CLIENTS)]
        await shop.reach(JOBS // 3)
        await fail(one)
        await asyncio.gather(*clients)
        async with connected(postgres_url) as postgres:
            await until(lambda: all_done(postgres))
            rows = await postgres.fetch("SELECT id, position FROM linkly_queue_jobs")
            counts = await postgres.fetchrow(
                "SELECT SUM(accepted), SUM(done), SUM(dead + cancelled + discarded + expired), SUM(bytes)"
                " FROM linkly_queue_counts"
            )
    positions = {row["id"]: row["position"] for row in rows}
    assert set(positions) == set(shop.receipts.values())
    assert tuple(counts) == (JOBS, JOBS, 0, 0)
    ended, begun = set(), collections.defaultdict(list)
    for line in log.read_text().splitlines():
        what, job, _, group, number = line.split()
        if what == "end":
            ended.add(job)
        elif int(number) % 2:
            begun[group].append(positions[job])
    assert ended == set(positions)
    if fail is kill:  # what stands still goes on later with what others have begun meanwhile
        for group, places in begun.items():
            assert places == sorted(places), group
