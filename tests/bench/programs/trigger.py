"""A call inside one process, metrics and traces on: `trigger.py struct|dict|state|state-set`."""

import sys
import time
from typing import Any

import msgspec
import uvloop
from turns import serve_turns

from linkly import Worker, function
from linkly.testing import running_engine
from linkly_workers.state import StateWorker

BATCH = 2000
"""Calls between two looks at the clock."""


class Point(msgspec.Struct, frozen=True):
    """A typed value, immutable all the way down."""

    x: int
    y: int
    name: str


class Echo(Worker):
    """Answers what it is given."""

    name = "echo"

    @function("echo::struct")
    async def struct(self, point: Point) -> Point:
        """Answer a point."""
        return point

    @function("echo::dict")
    async def dict(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Answer an object."""
        return payload


CALLS: dict[str, tuple[str, object, Any]] = {
    "struct": ("echo::struct", Point(1, 2, "a"), Point),
    "dict": ("echo::dict", {"x": 1, "y": 2, "name": "a"}, Any),
    "state": ("state::get", {"scope": "s", "key": "k"}, Any),
    "state-set": ("state::set", {"scope": "s", "key": "k", "value": {"url": "https://a.example", "clicks": 17}}, Any),
}


async def main(kind: str) -> None:
    """Call when told to."""
    function_id, payload, result_type = CALLS[kind]
    async with running_engine(Echo(), StateWorker()) as bus:
        await bus.trigger(*CALLS["state-set"][:2])

        async def turn(seconds: float) -> dict[str, float]:
            calls, began, cpu = 0, time.perf_counter(), time.process_time()
            while time.perf_counter() - began < seconds:
                for _ in range(BATCH):
                    await bus.trigger(function_id, payload, result_type=result_type)
                calls += BATCH
            return {"us": (time.process_time() - cpu) / calls * 1e6, "calls/s": calls / (time.perf_counter() - began)}

        await serve_turns(turn)


uvloop.run(main(sys.argv[1]))
