"""A worker on iii's own Python SDK that calls when told to: `iii_caller.py URL`."""

import asyncio
import sys

from iii import InitOptions, register_worker
from turns import closed_loop, serve_turns, sized

worker = register_worker(sys.argv[1], InitOptions(worker_name="caller"))


async def turn(in_flight: int, payload_bytes: int, seconds: float) -> dict[str, float]:
    request = {"function_id": "bench::echo0", "payload": sized(payload_bytes)}
    assert await worker.trigger_async(request) == request["payload"]
    return await closed_loop(lambda: worker.trigger_async(request), in_flight, seconds)


asyncio.run(serve_turns(turn))
