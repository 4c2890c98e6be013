"""Rows by their key over the bus: `postgres_query.py URL POOL`, in process; the table is there."""

import sys
from itertools import cycle

import uvloop
from turns import LINK_BY_ID, LINKS, closed_loop, serve_turns

from linkly.testing import running_engine
from linkly_workers.database import DatabaseWorker


async def main(url: str, pool: int) -> None:
    """Query when told to."""
    worker = DatabaseWorker.from_config({"databases": {"primary": {"url": url, "pool": {"max": pool}}}})
    async with running_engine(worker) as bus:
        ids = cycle(range(LINKS))

        async def query() -> None:
            await bus.trigger("database::query", {"sql": LINK_BY_ID, "params": [next(ids)]})

        async def turn(callers: int, seconds: float) -> dict[str, float]:
            return await closed_loop(query, callers, seconds)

        await serve_turns(turn)


uvloop.run(main(sys.argv[1], int(sys.argv[2])))
