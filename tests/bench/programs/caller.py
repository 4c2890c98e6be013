"""A worker that calls `bench::echoN` when told to: `caller.py URL native|json FUNCTIONS`."""

import sys
from itertools import cycle

import uvloop
from linkly_client import client
from turns import closed_loop, serve_turns, sized


async def main(url: str, kind: str, functions: int) -> None:
    """Call when told to."""
    async with client(url, kind, "caller") as bus:
        ids = cycle([f"bench::echo{number}" for number in range(functions)])

        async def turn(in_flight: int, payload_bytes: int, seconds: float) -> dict[str, float]:
            payload = sized(payload_bytes)
            assert await bus.trigger(next(ids), payload) == payload
            return await closed_loop(lambda: bus.trigger(next(ids), payload), in_flight, seconds)

        await serve_turns(turn)


uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
