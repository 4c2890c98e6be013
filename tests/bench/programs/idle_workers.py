"""Workers that do nothing: `idle_workers.py URL native|json WORKERS FUNCTIONS`, each with so many functions."""

import asyncio
import resource
import sys
from typing import Any

import uvloop
from linkly_client import client
from turns import serve_turns

from linkly import Client
from linkly.function import Function

AT_ONCE = 64


async def idle(payload: Any) -> Any:
    """Is never called."""
    return payload


async def main(url: str, kind: str, workers: int, functions: int) -> None:
    """Connect them all, and keep them until the process is ended."""
    kept: list[Client] = []
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with room:
            bus = client(url, kind, f"idle{number}")
            kept.append(bus)
            await bus.__aenter__()
            for which in range(functions):
                bus.register_function(Function(f"idle{number}::f{which}", idle))
            # What was said before a call is known when the call is answered.
            await bus.trigger("engine::functions::info", {"function_id": "engine::functions::info"})

    async def nothing(**_: Any) -> dict[str, float]:
        return {}

    await asyncio.gather(*(one(number) for number in range(workers)))
    await serve_turns(nothing)


resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
