"""What the database worker has answered is in the file, over three kill -9 in the middle of writes."""

import asyncio
import contextlib
import os
import signal
import sqlite3
from collections import Counter

from linkly import Client
from linkly.errors import ConnectionLost

CLIENTS = 4
CALLERS = 8
KILLS = 3
ANSWERS_BETWEEN_KILLS = 1000
WAIT_S = 60


class Ledger:
    """What the callers share: which inserts were sent, which were answered, which nobody knows about."""

    def __init__(self):
        self.singles, self.pairs = set(), set()
        self.sent, self.lost = 0, 0
        self.goal = ANSWERS_BETWEEN_KILLS
        self.reached = asyncio.Event()

    def next_id(self):
        self.sent += 1
        return self.sent

    def answered(self, kind, number):
        kind.add(number)
        if len(self.singles) + len(self.pairs) >= self.goal:
            self.reached.set()

    async def more_answers(self):
        """Return when another thousand inserts have been answered."""
        self.goal = len(self.singles) + len(self.pairs) + ANSWERS_BETWEEN_KILLS
        self.reached.clear()
        async with asyncio.timeout(WAIT_S):
            await self.reached.wait()


async def insert(bus, ledger):
    """Insert a row, then a pair of rows, and so on; an insert that was not answered is never repeated."""
    while True:
        for write in (insert_single, insert_pair):
            number = ledger.next_id()
            try:
                await write(bus, ledger, number)
            except ConnectionLost:
                ledger.lost += 1


async def insert_single(bus, ledger, number):
    answer = await bus.trigger("database::execute", {"sql": "INSERT INTO singles VALUES (?)", "params": [number]})
    assert answer["affected_rows"] == 1
    ledger.answered(ledger.singles, number)


async def insert_pair(bus, ledger, number):
    halves = [{"sql": "INSERT INTO pairs VALUES (?, ?)", "params": [number, half]} for half in ("left", "right")]
    answer = await bus.trigger("database::transaction", {"statements": halves})
    assert answer["committed"], answer
    ledger.answered(ledger.pairs, number)


async def test_three_kills_lose_and_double_no_answered_insert(linkly):
    linkly.start()
    ledger = Ledger()
    async with contextlib.AsyncExitStack() as stack:
        buses = [
            await stack.enter_async_context(Client(linkly.url, name=f"client {number}")) for number in range(CLIENTS)
        ]
        # No key and no index: an insert that ran twice would be there twice.
        for table in ("singles (id INTEGER)", "pairs (id INTEGER, half TEXT)"):
            await buses[0].trigger("database::execute", {"sql": f"CREATE TABLE {table}"})
        callers = [asyncio.create_task(insert(bus, ledger)) for bus in buses for _ in range(CALLERS)]
        for _ in range(KILLS):
            await ledger.more_answers()
            os.kill(linkly.pid, signal.SIGKILL)
            await asyncio.to_thread(linkly.end, signal.SIGKILL)
            await asyncio.to_thread(linkly.start)
        await ledger.more_answers()
        # Once more, so that only what is on disk speaks.
        await asyncio.to_thread(linkly.end, signal.SIGKILL)
        assert not any(caller.done() for caller in callers), "a caller met something else than a lost connection"
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
    assert ledger.lost >= KILLS, "the kills hit nobody"
    with contextlib.closing(sqlite3.connect(linkly.folder / "data/iii.db")) as database:
        singles = Counter(number for (number,) in database.execute("SELECT id FROM singles"))
        pairs = Counter(database.execute("SELECT id, half FROM pairs").fetchall())
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert set(singles.values()) == set(pairs.values()) == {1}, "an insert ran twice"
    left, right = ({number for number, half in pairs if half == each} for each in ("left", "right"))
    assert left == right, "half of a transaction"
    assert ledger.singles <= set(singles)
    assert ledger.pairs <= left
    assert len(ledger.singles) + len(ledger.pairs) >= (KILLS + 1) * ANSWERS_BETWEEN_KILLS
    assert len(singles) + len(left) <= ledger.sent
