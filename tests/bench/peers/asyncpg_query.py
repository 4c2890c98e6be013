"""Rows by their key with asyncpg: `asyncpg_query.py URL POOL`, `Pool.fetch` as it comes; the table is there."""

import sys
from itertools import cycle

import asyncpg
import uvloop
from turns import LINK_BY_ID, LINKS, closed_loop, serve_turns


async def main(url: str, pool: int) -> None:
    async with asyncpg.create_pool(url, min_size=pool, max_size=pool) as connections:
        ids = cycle(range(LINKS))

        async def query() -> None:
            await connections.fetch(LINK_BY_ID, next(ids))

        async def turn(callers: int, seconds: float) -> dict[str, float]:
            return await closed_loop(query, callers, seconds)

        await serve_turns(turn)


uvloop.run(main(sys.argv[1], int(sys.argv[2])))
