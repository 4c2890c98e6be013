"""Enqueues when told to: `enqueuer.py URL KIND CALLERS CONNECTIONS`; callers share connections evenly."""

import asyncio
import itertools
import sys
import time
from contextlib import AsyncExitStack

import uvloop
from linkly_client import client
from turns import percentiles, serve_turns

from linkly import Client
from linkly.bus import Enqueue

PAYLOAD = {"number": 1, "text": "x" * 60}


async def main(url: str, kind: str, callers: str, connections: str) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client(url, kind, f"c{place}")) for place in range(int(connections))]

        async def turn(seconds: float, calls: int = 0, batch: int = 0) -> dict[str, float]:
            clock, waits = time.perf_counter, list[float]()
            left = itertools.count(1)
            many = {"jobs": [{"function_id": "bench::job", "payload": PAYLOAD}] * batch}
            started = clock()
            end = started + seconds

            async def caller(bus: Client) -> None:
                while (before := clock()) < end and not (calls and next(left) > calls):
                    if batch:
                        await bus.trigger("queue::enqueue_many", many)
                    else:
                        await bus.trigger("bench::job", PAYLOAD, action=Enqueue("default"))
                    waits.append(clock() - before)

            await asyncio.gather(*(caller(clients[place % len(clients)]) for place in range(int(callers))))
            return {"count": len(waits), "seconds": clock() - started, **percentiles(waits)}

        await serve_turns(turn)


uvloop.run(main(*sys.argv[1:]))
