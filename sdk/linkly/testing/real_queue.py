"""The real queue worker in a test: its jobs in memory, run until there are none, by a clock that is moved."""

from __future__ import annotations

import asyncio
import importlib
from datetime import datetime
from typing import Any

from linkly.bus import Bus
from linkly.testing.clock import ManualClock
from linkly.worker import Worker

LOOK_AGAIN_S = 0.001
"""Of real time: jobs are written by a thread, which moves by no clock of ours."""

UNFINISHED = ("waiting", "delayed", "retrying", "active")


def queue_in_memory(**settings: Any) -> tuple[Worker, Worker]:
    """Make a queue worker and the database worker that keeps its jobs, in memory.

    Args:
        settings: Of the queue worker, as in config.yaml: `queue_configs={"mails": {"max_retries": 5}}`.
    """
    database: Any = importlib.import_module("linkly_workers.database").DatabaseWorker
    queue: Any = importlib.import_module("linkly_workers.queue").QueueWorker
    return (
        database.from_config({"databases": {"primary": {"url": "sqlite::memory:"}}}),
        queue.from_config(settings),
    )


async def run_queue(bus: Bus, clock: ManualClock, *, within_s: float = 30.0) -> None:
    """Return when the queue worker has nothing to run: its jobs, and those that they enqueue, are done or dead.

    The clock is moved on to each delay and each retry, when nothing else runs.

    Args:
        bus: Where the queue worker is.
        clock: The engine's.
        within_s: Seconds of real time that this may take.

    Raises:
        AssertionError: The time is over, or jobs are left that nothing starts: nobody serves their function, or their
            queue is paused. The message says which.
    """
    try:
        async with asyncio.timeout(within_s):
            while jobs := await _jobs(bus):
                timed = [job for job in jobs if job["state"] in ("delayed", "retrying")]
                held_up = {_line(job) for job in timed if job["state"] == "retrying" and job.get("message_group")}
                running = [job for job in jobs if job["state"] == "active"]
                waiting = [job for job in jobs if job["state"] == "waiting" and _line(job) not in held_up]
                if running or waiting:
                    if not running:
                        await _check_that_they_start(bus, waiting)
                    await asyncio.sleep(LOOK_AGAIN_S)  # a job that begins tells nobody; its end is looked for
                else:
                    due = min(datetime.fromisoformat(job["due_at"]).timestamp() for job in timed)
                    await clock.advance(max(0.001, due - clock.time()))
    except TimeoutError:
        left = [f"{job['id']} of `{job['function_id']}` is {job['state']}" for job in await _jobs(bus)]
        raise AssertionError(f"the queue was not empty after {within_s:g} s: {', '.join(left[:10])}") from None


def _line(job: dict[str, Any]) -> tuple[str, str | None]:
    return job["queue"], job.get("message_group")


async def _jobs(bus: Bus) -> list[dict[str, Any]]:
    """Return the jobs that have not ended.

    All are read, in the order of their acceptance, so none is missed: what a job has enqueued stands behind it.
    A message that is kept for a first subscription is none: it has no function yet.
    """
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = await bus.trigger("queue::jobs", {"limit": 1000, "cursor": cursor})
        found += [job for job in page["jobs"] if job["state"] in UNFINISHED and job["function_id"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


async def _check_that_they_start(bus: Bus, waiting: list[dict[str, Any]]) -> None:
    """Raise `AssertionError` if none of them can."""
    queues = {each["queue"]: each for each in (await bus.trigger("queue::list", {}))["queues"]}
    why: set[str] = set()
    for job in waiting:
        queue = queues[job["queue"]]
        if queue["paused"]:
            why.add(f"queue `{job['queue']}` is paused")
        elif (job["function_id"], job["namespace"]) in {
            (lane["function_id"], lane["namespace"]) for lane in queue["absent"]
        }:
            why.add(f"nobody serves `{job['function_id']}`")
        else:
            return
    raise AssertionError(f"jobs are left that nothing starts: {', '.join(sorted(why))}")
