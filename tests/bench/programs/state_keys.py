"""A state worker that gets keys: `state_keys.py memory|FOLDER`; each turn sets so many new ones."""

import asyncio
import gc
import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

import uvloop
from turns import serve_turns

from linkly.testing import running_engine
from linkly_workers.state import StateWorker

VALUE_BYTES = 117
AT_ONCE = 1000


def value(number: int) -> dict[str, Any]:
    """Return a record of five fields that has `VALUE_BYTES` as JSON."""
    record = {"url": f"https://a.example/{number:07}", "created_at": "2026-01-01T00:00:00Z", "clicks": 1, "by": "me"}
    record["tags"] = ""
    record["tags"] = "t" * (VALUE_BYTES - len(json.dumps(record, separators=(",", ":"))))
    return record


def resident_bytes() -> int:
    """Return how much of this process is resident."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def main(where: str) -> None:
    """Do as told."""
    adapter = {} if where == "memory" else {"store_method": "file_based", "file_path": where}
    numbers = itertools.count()
    async with running_engine(StateWorker.from_config({"adapter": {"name": "kv", "config": adapter}})) as bus:

        async def set_one(number: int) -> None:
            await bus.trigger("state::set", {"scope": "links", "key": f"link:{number:07}", "value": value(number)})

        async def turn(keys: float) -> dict[str, float]:
            gc.collect()
            before = resident_bytes()
            left = int(keys)
            while left > 0:
                await asyncio.gather(*(set_one(number) for number in itertools.islice(numbers, min(left, AT_ONCE))))
                left -= AT_ONCE
            gc.collect()
            return {"bytes/key": (resident_bytes() - before) / keys}

        await serve_turns(turn)


uvloop.run(main(sys.argv[1]))
