"""What one call costs inside the engine's process: `bus.trigger` of functions that do nothing.

    python tests/bench/bench_trigger.py [--rounds 9] [--calls 20000] [--against CHECKOUT]

CPU time per call in microseconds, the loop of the benchmark (0.05 us) included: a frozen Struct in and out, dicts in
and out, `state::get` of the store in memory, a handler that suspends once, a call that nests two others, and a call
as a connection starts it (`Endpoint.start`). Also what it costs to register a function and to take it back.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import comparison
import msgspec
import uvloop

from linkly import Bus, Invocation, Worker, function
from linkly.function import Function
from linkly.schema import encode
from linkly.testing import running_engine
from linkly_workers.state import StateWorker


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
VALUE = {"url": "https://example.com/some/longer/path?with=a&query=string", "clicks": 17, "by": "ann"}
ADDRESS = {"scope": "s", "key": "k"}


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
        return await self.bus.trigger("idle::middle", asked, result_type=Answered)

    @function("idle::middle")
    async def middle(self, asked: Asked) -> Answered:
        """Call another function."""
        return await self.bus.trigger("idle::typed", asked, result_type=Answered)


def ignore(result: object, error: object) -> None:
    """Take an answer."""


async def cost(calls: int, call: Callable[[], Awaitable[object]]) -> float:
    """Return the CPU time of one call in microseconds."""
    for _ in range(calls // 10):
        await call()
    started = time.process_time()
    for _ in range(calls):
        await call()
    return (time.process_time() - started) / calls * 1e6


async def start_cost(calls: int, function_id: str, worker: Worker) -> float:
    """Return the CPU time of one call in microseconds, started as a connection starts it, 16 in a turn of the loop."""
    served = Function(function_id, worker.typed if function_id == "idle::typed" else worker.suspends)  # type: ignore[attr-defined]
    payload = msgspec.Raw(encode(ASKED))
    idle = asyncio.Event()
    served.idle = idle.set
    spent = 0.0
    for turn in range(calls // 16):
        if turn == calls // 160:
            spent = time.process_time()
        for _ in range(16):
            served.start(Invocation(function_id=function_id, payload=payload), ignore)
        await asyncio.sleep(0)
        while served.active:
            idle.clear()
            await idle.wait()
    return (time.process_time() - spent) / (calls // 16 - calls // 160) / 16 * 1e6


def registration_cost(calls: int, bus: Bus) -> dict[str, float]:
    """Return the CPU time of registering a function and of taking it back, in microseconds."""
    functions = [Function(f"extra::f{number}", ignored) for number in range(calls // 20)]
    started = time.process_time()
    registrations = [bus.register_function(each) for each in functions]
    between = time.process_time()
    for each in registrations:
        each.unregister()
    ended = time.process_time()
    count = len(functions)
    return {
        "register a function, us": (between - started) / count * 1e6,
        "take it back, us": (ended - between) / count * 1e6,
    }


async def ignored() -> None:
    """Do nothing."""


async def measure(calls: int) -> dict[str, float]:
    """Run one turn."""
    worker = Idle()
    async with running_engine(worker, StateWorker()) as bus:
        await bus.trigger("state::set", {**ADDRESS, "value": VALUE})
        trigger = bus.trigger
        return {
            "frozen Struct in and out, us": await cost(
                calls, lambda: trigger("idle::typed", ASKED, result_type=Answered)
            ),
            "dicts in and out, us": await cost(calls, lambda: trigger("idle::plain", PAYLOAD)),
            "dict in, frozen Struct out, us": await cost(
                calls, lambda: trigger("idle::typed", PAYLOAD, result_type=Answered)
            ),
            "state::get, us": await cost(calls, lambda: trigger("state::get", ADDRESS)),
            "suspends once, us": await cost(calls, lambda: trigger("idle::suspends", ASKED, result_type=Answered)),
            "nested, 3 calls, us": await cost(calls, lambda: trigger("idle::nested", ASKED, result_type=Answered)),
            "started, us": await start_cost(calls, "idle::typed", worker),
            "started, suspends once, us": await start_cost(calls, "idle::suspends", worker),
            **registration_cost(calls, bus),
        }


def main() -> int:
    """Run the benchmark."""
    parser = comparison.arguments(__doc__, rounds=9)
    parser.add_argument("--calls", type=int, default=20_000)
    options = parser.parse_args()
    if options.turn:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(json.dumps(runner.run(measure(options.calls))))
        return 0
    words = ("--calls", options.calls)
    return comparison.by_turns(
        lambda: comparison.in_a_process(__file__, comparison.THIS, *words),
        lambda: comparison.in_a_process(__file__, options.against or comparison.THIS, *words),
        options.rounds,
    )


if __name__ == "__main__":
    sys.exit(main())
