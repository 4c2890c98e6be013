"""What the programs that are measured share: they do as they are told over stdin, and load in closed loops.

Peers use this as well, so that both sides measure alike; it imports neither linkly nor a peer.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

Turn = Callable[..., Awaitable[dict[str, float]]]

LINKS = 1000
LINK_BY_ID = "SELECT id, code, url, clicks FROM links WHERE id = $1"
"""What is asked of a server: `LINKS` rows, of `id` 0 on."""


async def serve_turns(turn: Turn, **hello: Any) -> None:
    """Say that this program is ready, then measure each time that a line asks for it, until stdin ends."""
    loop = asyncio.get_running_loop()
    print(json.dumps(hello), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await turn(**json.loads(line))), flush=True)


async def closed_loop(call: Callable[[], Awaitable[object]], in_flight: int, seconds: float) -> dict[str, float]:
    """Keep so many calls under way for a while.

    Returns:
        How many were answered (`count`), in how many `seconds`, and `p50 ms` and `p99 ms` of them.
    """
    clock = time.perf_counter
    waits: list[float] = []
    started = clock()
    end = started + seconds

    async def caller() -> None:
        while (before := clock()) < end:
            await call()
            waits.append(clock() - before)

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return {"count": len(waits), "seconds": clock() - started, **percentiles(waits)}


def percentiles(waits: list[float]) -> dict[str, float]:
    """Return p50 and p99 of seconds, in milliseconds."""
    ordered = sorted(waits)
    return {"p50 ms": ordered[len(ordered) // 2] * 1e3, "p99 ms": ordered[len(ordered) * 99 // 100] * 1e3}


def sized(payload_bytes: int) -> dict[str, str]:
    """Return a payload whose JSON has so many bytes."""
    return {"text": "x" * (payload_bytes - len('{"text":""}'))}


def value(number: int) -> dict[str, object]:
    """Return a value for a key; another one each time: SQLite writes nothing where nothing changes."""
    return {"url": "https://example.com/some/longer/path?with=a&query=string", "clicks": number, "by": "ann"}
