"""Writes rows, state, jobs and messages until a failpoint kills it, and looks at what is left: a JSON verdict a seed.

    python atomic_program.py FOLDER (atomic|apart) FIRST_SEED COUNT

Each seed is a file of its own and two processes, made by forking: the first one writes and kills itself, the second one
starts an engine over what is there, compares, and in `atomic` sends everything that was sent once more under its
idempotency key. `apart` makes the same changes by three calls, as a program does that has no `linkly.atomic`.
"""

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import linkly
from linkly import Enqueue, durable_subscriber
from linkly.schema import read_settings
from linkly.testing import running_engine
from linkly_workers._sqlite.connection import Connection
from linkly_workers.database.sqlite import database as sqlite_database
from linkly_workers.database.sqlite.database import SqliteDatabase
from linkly_workers.state import StateSettings, StateWorker
from support.database_calls import database_worker
from support.queue_workers import App, queue_worker

FAILPOINTS = ("before write", "after write", "before commit", "after commit", "before answer")
CALLERS = 4
CALLS = 10
MOST_HITS = {"before write": 120, "after write": 120, "before commit": 12, "after commit": 12, "before answer": 30}
"""Of so many times that a failpoint is passed, one kills: calls of four callers share commits."""


class Failpoint:
    """Kills this process when it has been passed so often."""

    def __init__(self, seed):
        chance = random.Random(seed)
        self.name = FAILPOINTS[seed % len(FAILPOINTS)]
        self.left = chance.randint(1, MOST_HITS[self.name])

    def passed(self, name):
        if name == self.name:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def install(self):
        execute, own, transaction = sqlite_database.execute, Connection.own, SqliteDatabase.transaction

        def writing(*arguments):
            self.passed("before write")
            result = execute(*arguments)
            self.passed("after write")
            return result

        def owned(connection, sql, *arguments):
            if sql != "COMMIT":
                return own(connection, sql, *arguments)
            self.passed("before commit")
            result = own(connection, sql, *arguments)
            self.passed("after commit")
            return result

        async def answering(*arguments, **more):
            result = await transaction(*arguments, **more)
            self.passed("before answer")
            return result

        sqlite_database.execute, Connection.own, SqliteDatabase.transaction = writing, owned, answering


class Subscriber(App):
    """Subscribes to a topic, beside what it does for jobs."""

    def triggers_of(self, function):
        return [durable_subscriber("order.created")] if function.id == "app::other" else []


@asynccontextmanager
async def engine(folder):
    """Run an engine over the file of a seed."""
    adapter = {"name": "database", "config": {"db": "primary"}}
    workers = [
        database_worker(f"sqlite:{folder}/a.db", durability="process"),
        StateWorker(read_settings(StateSettings, {"adapter": adapter}, "$")),
        queue_worker(),
        Subscriber(),
    ]
    async with running_engine(*workers) as bus:
        await bus.trigger("database::execute", {"sql": "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY)"})
        yield bus


async def order(bus, name):
    """Write a row, a value, a job and a message, and count, all or none."""
    async with linkly.atomic(bus, idempotency_key=name) as tx:
        tx.execute("INSERT INTO orders VALUES (?)", [name], expect_rows=1)
        tx.set_state("orders", name, 1)
        tx.update_state("counts", "orders", [{"type": "increment", "path": "n", "by": 1}])
        receipt = tx.trigger("app::work", name, action=Enqueue("default"))
        tx.publish("order.created", name)
    return receipt.result["messageReceiptId"]


async def order_apart(bus, name):
    """Do the same one after another."""
    await bus.trigger(
        "database::transaction", {"statements": [{"sql": "INSERT INTO orders VALUES (?)", "params": [name]}]}
    )
    await bus.trigger("state::set", {"scope": "orders", "key": name, "value": 1})
    ops = [{"type": "increment", "path": "n", "by": 1}]
    await bus.trigger("state::update", {"scope": "counts", "key": "orders", "ops": ops})
    receipt = await bus.trigger("app::work", name, action=Enqueue("default"))
    await bus.trigger("iii::durable::publish", {"topic": "order.created", "data": name})
    return receipt.message_receipt_id


async def write(folder, seed, mode):
    """Write until the failpoint kills, or there is nothing more to do; note what was sent and what was answered."""
    journal = os.open(folder / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    send = order if mode == "atomic" else order_apart
    async with engine(folder) as bus:

        async def caller(number):
            for call in range(CALLS):
                name = f"{number}.{call}"
                os.write(journal, f"sent {name}\n".encode())
                receipt = await send(bus, name)
                os.write(journal, f"answered {name} {receipt}\n".encode())

        Failpoint(seed).install()
        await asyncio.gather(*(caller(number) for number in range(CALLERS)))
        os._exit(0)


async def found(bus):
    """Return what there is of each order: in the table, in state, as job and as message, and how many were counted."""

    async def column(sql):
        return [next(iter(row.values())) for row in (await bus.trigger("database::query", {"sql": sql}))["rows"]]

    async def payloads(kind):
        sql = "SELECT payload FROM linkly_queue_jobs AS job JOIN linkly_queues AS queue ON queue.id = job.queue"
        return sorted(json.loads(payload) for payload in await column(f"{sql} WHERE kind = '{kind}'"))

    return {
        "rows": sorted(await column("SELECT id FROM orders")),
        "state": sorted((await bus.trigger("state::list_keys", {"scope": "orders"}))["keys"]),
        "jobs": await payloads("queue"),
        "messages": await payloads("subscription"),
        "counted": ((await bus.trigger("state::get", {"scope": "counts", "key": "orders"})) or {"n": 0})["n"],
    }


def disagreements(there, answered):
    """Say where a row, its value, its job and its message are not all there, or not all absent."""
    names = [Counter(there[each]) for each in ("rows", "state", "jobs", "messages")]
    wrong = [name for name in set().union(*names) if len({each[name] for each in names}) > 1]
    wrong += [name for name in answered if name not in names[0]]
    if there["counted"] != len(there["rows"]):
        wrong.append(f"{there['counted']} counted")
    return wrong


async def look(folder, mode):
    """Compare what is left; then send everything once more, and compare again."""
    lines = [line.split() for line in (folder / "journal").read_text().splitlines()]
    answered = {line[1]: line[2] for line in lines if line[0] == "answered"}
    sent = {line[1] for line in lines if line[0] == "sent"}
    async with engine(folder) as bus:
        there = await found(bus)
        verdict = {"sent": len(sent), "unanswered": len(sent - set(answered)), "wrong": disagreements(there, answered)}
        if mode == "atomic":
            receipts = {name: await order(bus, name) for name in sorted(sent)}
            again = await found(bus)
            verdict["wrong"] += disagreements(again, sent)
            verdict["wrong"] += [name for name in answered if receipts[name] != answered[name]]
            verdict["made_later"] = len(again["rows"]) - len(there["rows"])
        (folder / "verdict").write_text(json.dumps(verdict))
        os._exit(0)  # an orderly end is not what is tried here


def in_process(work):
    """Run something in a process of its own; return how that ended."""
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(work)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    work.close()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main():
    """Try every seed."""
    root, mode, first, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    for seed in range(first, first + count):
        folder = root / f"{mode}{seed}"
        folder.mkdir()
        ended = in_process(write(folder, seed, mode))
        if ended not in (0, -signal.SIGKILL) or in_process(look(folder, mode)) != 0:
            sys.exit(f"seed {seed} has failed by itself: {ended}")
        verdict = json.loads((folder / "verdict").read_text())
        print(
            json.dumps({"seed": seed, "failpoint": Failpoint(seed).name, "killed": ended != 0, **verdict}), flush=True
        )
        for file in folder.iterdir():
            file.unlink()


if __name__ == "__main__":
    main()
