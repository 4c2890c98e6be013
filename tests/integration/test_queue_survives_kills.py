"""Every accepted job is done or dead, over kill -9 of the engine and of its workers.

`LINKLY_TEST_JOBS=20000` runs the whole proof: 20,000 jobs and ten kills of the engine. By default it is a tenth of it.
"""

import asyncio
import collections
import contextlib
import itertools
import os
import random
import signal
import sqlite3
import sys
from pathlib import Path

import pytest

from linkly import Client
from linkly.errors import LinklyError
from support.program import Program

JOBS = int(os.environ.get("LINKLY_TEST_JOBS", "2000"))
KILLS = 10 if JOBS >= 20_000 else 3
WORKER_KILLS = 2 * KILLS
CLIENTS = 32
GROUPS = 40
QUEUES = ("fast", "slow", "lines")
MAX_ATTEMPTS = 12
"""So many that a job is dead only if it has to be: it may be killed with its engine or its worker now and then."""

ALWAYS = MAX_ATTEMPTS
WAITING, DELAYED, RETRYING, ACTIVE, DONE, DEAD = range(6)
PROGRAM = Path(__file__).parents[1] / "support" / "queue_program.py"


def payload_of(number):
    """Return what a job does: one in 97 fails always, one in 23 at first."""
    fails = ALWAYS if number % 97 == 5 else 1 if number % 23 == 3 else 0
    return {"group": f"g{number % GROUPS}", "number": number, "fails": fails}


@pytest.fixture
def queued(linkly):
    """The project with three queues."""
    path = linkly.folder / "config.yaml"
    often = f"max_retries: {MAX_ATTEMPTS}, backoff_ms: 5, keep_done: 1000000"
    path.write_text(
        path.read_text()
        + "  - name: queue\n    config:\n      queue_configs:\n"
        + f"        fast: {{concurrency: 20, {often}}}\n"
        + f"        slow: {{concurrency: 2, {often}}}\n"
        + f"        lines: {{type: fifo, message_group_field: group, concurrency: 10, {often}}}\n"
    )
    return linkly


class Shop:
    """What the clients share: which jobs are accepted, by number."""

    def __init__(self):
        self.numbers = itertools.count()
        self.receipts = {}
        self.changed = asyncio.Event()

    async def reach(self, count):
        """Return when so many jobs are accepted."""
        while len(self.receipts) < count:
            self.changed.clear()
            await self.changed.wait()


async def enqueue(shop, url):
    """Enqueue jobs one after another; each is repeated under its key until it is accepted."""
    async with Client(url) as bus:
        while (number := next(shop.numbers)) < JOBS:
            request = {
                "function_id": "jobs::run",
                "queue": QUEUES[number % len(QUEUES)],
                "payload": payload_of(number),
                "idempotency_key": f"job-{number}",
            }
            while number not in shop.receipts:
                try:
                    answer = await bus.trigger("queue::enqueue", request, timeout_s=10)
                except LinklyError:
                    await asyncio.sleep(0.02)
                    continue
                shop.receipts[number] = answer["messageReceiptId"]
            shop.changed.set()


def start_worker(url, name, log):
    """Start a program that runs jobs."""
    program = Program(
        [sys.executable, str(PROGRAM), url, name, str(log)], environment={"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    program.until("serving")
    return program


async def kill_workers(url, log, stop):
    """Keep two workers running, and kill one of them now and then."""
    chance = random.Random(1)
    workers = [await asyncio.to_thread(start_worker, url, f"jobs-{place}", log) for place in range(2)]
    try:
        for _ in range(WORKER_KILLS):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(chance.uniform(0.2, 1.0)):
                    await stop.wait()
            if stop.is_set():
                break
            place = chance.randrange(2)
            await asyncio.to_thread(workers[place].end, signal.SIGKILL)
            workers[place] = await asyncio.to_thread(start_worker, url, f"jobs-{place}", log)
        await stop.wait()
    finally:
        for worker in workers:
            await asyncio.to_thread(worker.end, signal.SIGKILL)


async def verify(url, stop):
    """Ask again and again whether the counters agree with the jobs; return how often they did."""
    agreed = 0
    async with Client(url) as bus:
        while not stop.is_set():
            try:
                answer = await bus.trigger("queue::verify", timeout_s=10)
            except LinklyError:  # the engine is down
                await asyncio.sleep(0.02)
                continue
            assert answer["ok"], answer["differences"]
            agreed += 1
    return agreed


def books(folder):
    """Return the sums of the counters and the jobs by state, by queue, as they are on disk."""
    with contextlib.closing(sqlite3.connect(folder / "data/iii.db")) as database:
        counters = database.execute(
            "SELECT queue, SUM(accepted), SUM(done), SUM(dead), SUM(cancelled + discarded + expired)"
            " FROM linkly_queue_counts GROUP BY queue"
        ).fetchall()
        rows = database.execute("SELECT queue, state, COUNT(*) FROM linkly_queue_jobs GROUP BY queue, state").fetchall()
    by_queue = collections.defaultdict(collections.Counter)
    for queue, state, count in rows:
        by_queue[queue][state] = count
    return counters, by_queue


def check_books(folder):
    """Every accepted job is in exactly one state."""
    counters, rows = books(folder)
    for queue, accepted, done, dead, others in counters:
        states = rows[queue]
        assert (done, dead, others) == (states[DONE], states[DEAD], 0)
        assert accepted == sum(states.values())


async def test_every_accepted_job_is_done_or_dead_over_kills(queued):
    log, shop, stop = queued.folder / "attempts.log", Shop(), asyncio.Event()
    queued.start()
    url = queued.url
    workers = asyncio.create_task(kill_workers(url, log, stop))
    verified = asyncio.create_task(verify(url, stop))
    clients = [asyncio.create_task(enqueue(shop, url)) for _ in range(CLIENTS)]
    for kill in range(1, KILLS + 1):
        await shop.reach(JOBS * kill // (KILLS + 1))
        await asyncio.to_thread(queued.end, signal.SIGKILL)
        check_books(queued.folder)
        await asyncio.to_thread(queued.start)
    await asyncio.gather(*clients)
    async with asyncio.timeout(60 + JOBS / 20):
        while True:
            _, rows = books(queued.folder)
            if not any(states[state] for states in rows.values() for state in (WAITING, DELAYED, RETRYING, ACTIVE)):
                break
            await asyncio.sleep(0.2)
    stop.set()
    await workers
    assert await verified > KILLS
    await asyncio.to_thread(queued.end, signal.SIGKILL)
    check_books(queued.folder)
    with contextlib.closing(sqlite3.connect(queued.folder / "data/iii.db")) as database:
        jobs = {
            job: (position, state, starts - returned, reason)
            for position, job, state, starts, returned, reason in database.execute(
                "SELECT position, id, state, starts, returned, reason FROM linkly_queue_jobs"
            )
        }
    assert set(jobs) == set(shop.receipts.values())
    assert len(jobs) == JOBS
    begun, ended = collections.Counter(), set()
    starts_of = collections.defaultdict(list)
    for line in log.read_text().splitlines():
        what, job, _, group, number = line.split()
        if what == "begin":
            begun[job] += 1
            if QUEUES[int(number) % len(QUEUES)] == "lines":
                starts_of[group].append(jobs[job][0])
        else:
            ended.add(job)
    for number, job in shop.receipts.items():
        _, state, attempts, reason = jobs[job]
        always = payload_of(number)["fails"] == ALWAYS
        assert state == (DEAD if always else DONE), (number, state, attempts, reason)
        assert 1 <= attempts <= MAX_ATTEMPTS
        assert begun[job] >= 1
        assert always or job in ended
    for group, positions in starts_of.items():
        # The head of a line may begin again, when an attempt was cut off; what comes behind never begins before.
        assert positions == sorted(positions), group
