"""Durable `state::set`: `state_set.py FOLDER`, in process, each answered when it is on disk."""

import sys
from itertools import count, cycle

import uvloop
from turns import closed_loop, serve_turns, value

from linkly.schema import read_settings
from linkly.testing import running_engine
from linkly_workers.state import StateSettings, StateWorker


async def main(folder: str) -> None:
    """Write when told to."""
    kv = {"store_method": "file_based", "file_path": f"{folder}/state"}
    worker = StateWorker(read_settings(StateSettings, {"adapter": {"name": "kv", "config": kv}}, "$"))
    async with running_engine(worker) as bus:
        keys, numbers = cycle([f"key {number}" for number in range(1000)]), count()

        async def write() -> None:
            await bus.trigger("state::set", {"scope": "s", "key": next(keys), "value": value(next(numbers))})

        async def turn(callers: int, seconds: float) -> dict[str, float]:
            return await closed_loop(write, callers, seconds)

        await serve_turns(turn)


uvloop.run(main(sys.argv[1]))
