"""A worker that answers what it is given: `callee.py URL native|json FUNCTIONS`, so many functions `bench::echoN`."""

import asyncio
import json
import sys
from typing import Any

import uvloop
from linkly_client import client

from linkly.function import Function


async def echo(payload: dict[str, Any]) -> dict[str, Any]:
    """Answer what came."""
    return {"text": payload["text"]}  # and not what a wire adds, as iii's JSON does


async def main(url: str, kind: str, functions: int) -> None:
    """Serve until the process is ended."""
    async with client(url, kind, "callee") as bus:
        for number in range(functions):
            bus.register_function(Function(f"bench::echo{number}", echo))
        # What is registered before a call is known when the call is answered.
        await bus.trigger("bench::echo0", {"text": ""})
        print(json.dumps({}), flush=True)
        await asyncio.Event().wait()


uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
