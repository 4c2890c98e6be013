"""Enqueues jobs and runs them in one process, to see how long they wait: `job_latency.py URL KIND`."""

import asyncio
import sys
import time
from typing import Any

import uvloop
from linkly_client import client
from turns import percentiles, serve_turns

from linkly import Worker, function
from linkly.bus import Enqueue
from linkly.worker import running

IN_FLIGHT = 64


class Jobs(Worker):
    """One function, which notes how long its jobs have waited."""

    name = "bench"

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.ran = asyncio.Event()

    @function("bench::job")
    async def job(self, sent: float) -> None:
        """Note the wait."""
        self.waits.append(time.perf_counter() - sent)
        self.ran.set()


async def main(url: str, kind: str) -> None:
    jobs = Jobs()
    async with client(url, kind, "bench") as bus, running(jobs, bus):

        async def enqueue() -> Any:
            return await bus.trigger("bench::job", {"sent": time.perf_counter()}, action=Enqueue("default"))

        async def until_all_are_done(count: int) -> None:
            while len(jobs.waits) < count:
                jobs.ran.clear()
                await jobs.ran.wait()

        async def turn(seconds: float) -> dict[str, float]:
            clock = time.perf_counter
            jobs.waits.clear()
            began, sent = clock(), 0

            async def caller() -> None:
                nonlocal sent
                while clock() < began + seconds / 2:
                    await enqueue()
                    sent += 1

            await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
            await until_all_are_done(sent)
            saturation = sent / (clock() - began)
            jobs.waits.clear()
            began, tasks = clock(), list[asyncio.Task[Any]]()
            for number in range(int(saturation / 2 * seconds / 2)):
                await asyncio.sleep(max(0.0, began + number / (saturation / 2) - clock()))  # the pace is measured
                tasks.append(asyncio.create_task(enqueue()))
            await asyncio.gather(*tasks)
            await until_all_are_done(len(tasks))
            return {"saturation jobs/s": saturation, **percentiles(jobs.waits)}

        await serve_turns(turn)


uvloop.run(main(*sys.argv[1:]))
