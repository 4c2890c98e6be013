"""Durable inserts over the bus: `insert.py FILE`, in process, each answered when it is on disk."""

import sys

import uvloop
from turns import closed_loop, serve_turns

from linkly.testing import running_engine
from linkly_workers.database import DatabaseWorker

CREATE = "CREATE TABLE clicks (id INTEGER PRIMARY KEY, code TEXT NOT NULL, at INTEGER NOT NULL)"
INSERT = "INSERT INTO clicks (code, at) VALUES (?, ?)"


async def main(file: str) -> None:
    """Insert when told to."""
    url = f"sqlite:{file}"
    worker = DatabaseWorker.from_config({"databases": {"primary": {"url": url, "durability": "power"}}})
    async with running_engine(worker) as bus:
        await bus.trigger("database::execute", {"sql": CREATE})

        async def insert() -> None:
            await bus.trigger("database::execute", {"sql": INSERT, "params": ["code", 1]})

        async def turn(callers: int, seconds: float) -> dict[str, float]:
            return await closed_loop(insert, callers, seconds)

        await serve_turns(turn)


uvloop.run(main(sys.argv[1]))
