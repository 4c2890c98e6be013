"""What one call costs inside a process, metrics and traces on: `trigger.py KIND`, functions that do nothing.

Processor time of a call in microseconds, the loop around it (0.05 us) included.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import uvloop
from turns import serve_turns

from linkly import Bus, Invocation, Worker, function
from linkly.function import Function
from linkly.schema import encode
from linkly.testing import running_engine
from linkly_workers.state import StateWorker

BATCH = 2000
"""Calls between two looks at the clock."""

STARTED = 16
"""Calls that a connection starts in one turn of the loop."""


class Asked(msgspec.Struct, frozen=True):
    """A request that nobody can change."""

    code: str
    number: int = 0


class Answered(msgspec.Struct, frozen=True):
    """An answer that nobody can change."""

    url: str
    number: int = 0


ASKED = Asked("py", 1)
ANSWERED = Answered("https://www.python.org/downloads/", 1)
PAYLOAD = {"code": "py", "number": 1}
RESULT = {"url": "https://www.python.org/downloads/", "number": 1}
ADDRESS = {"scope": "s", "key": "k"}
SET = {
    **ADDRESS,
    "value": {"url": "https://example.com/some/longer/path?with=a&query=string", "clicks": 17, "by": "ann"},
}


class Idle(Worker):
    """Answers at once."""

    name = "idle"

    @function("idle::typed")
    async def typed(self, asked: Asked) -> Answered:
        """Answer a typed request."""
        return ANSWERED

    @function("idle::plain")
    async def plain(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Answer plain data."""
        return RESULT

    @function("idle::suspends")
    async def suspends(self, asked: Asked) -> Answered:
        """Let the loop turn once."""
        await asyncio.sleep(0)
        return ANSWERED

    @function("idle::nested")
    async def nested(self, asked: Asked) -> Answered:
        """Call another function, which calls another one."""
        answered: Answered = await self.bus.trigger("idle::middle", asked, result_type=Answered)
        return answered

    @function("idle::middle")
    async def middle(self, asked: Asked) -> Answered:
        """Call another function."""
        answered: Answered = await self.bus.trigger("idle::typed", asked, result_type=Answered)
        return answered


Batch = Callable[[], Awaitable[object]]
"""Makes `BATCH` calls."""


def triggered(bus: Bus, function_id: str, payload: object, result_type: Any = Any) -> Batch:
    """Return what calls one after the other."""

    async def batch() -> None:
        for _ in range(BATCH):
            await bus.trigger(function_id, payload, result_type=result_type)

    return batch


def started(function_id: str, handler: Callable[..., Any]) -> Batch:
    """Return what calls as a connection does (`Endpoint.start`), several in one turn of the loop."""
    served = Function(function_id, handler)
    payload = msgspec.Raw(encode(ASKED))
    idle = asyncio.Event()
    served.idle = idle.set

    async def batch() -> None:
        for _ in range(BATCH // STARTED):
            for _ in range(STARTED):
                served.start(Invocation(function_id=function_id, payload=payload), lambda result, error: None)
            await asyncio.sleep(0)
            while served.active:
                idle.clear()
                await idle.wait()

    return batch


def registered(bus: Bus) -> Batch:
    """Return what registers functions and takes them back."""
    functions = [Function(f"extra::f{number}", nothing) for number in range(BATCH)]

    async def batch() -> None:
        for each in [bus.register_function(one) for one in functions]:
            each.unregister()

    return batch


async def nothing() -> None:
    """Do nothing."""


async def main(kind: str) -> None:
    """Call when told to."""
    worker = Idle()
    async with running_engine(worker, StateWorker()) as bus:
        await bus.trigger("state::set", SET)
        batch = {
            "struct": lambda: triggered(bus, "idle::typed", ASKED, Answered),
            "dict": lambda: triggered(bus, "idle::plain", PAYLOAD),
            "mixed": lambda: triggered(bus, "idle::typed", PAYLOAD, Answered),
            "get": lambda: triggered(bus, "state::get", ADDRESS),
            "set": lambda: triggered(bus, "state::set", SET),
            "suspends": lambda: triggered(bus, "idle::suspends", ASKED, Answered),
            "nested": lambda: triggered(bus, "idle::nested", ASKED, Answered),
            "started": lambda: started("idle::typed", worker.typed),
            "started-suspends": lambda: started("idle::suspends", worker.suspends),
            "registered": lambda: registered(bus),
        }[kind]()

        async def turn(seconds: float) -> dict[str, float]:
            calls, began, cpu = 0, time.perf_counter(), time.process_time()
            while time.perf_counter() - began < seconds:
                await batch()
                calls += BATCH
            return {"us": (time.process_time() - cpu) / calls * 1e6}

        await serve_turns(turn)


uvloop.run(main(sys.argv[1]))
