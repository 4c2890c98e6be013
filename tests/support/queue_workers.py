"""What queue tests run: a queue worker over a database of its own, and a worker whose functions do as they are told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from linkly import Bus, Worker, current, function
from linkly.clock import Clock
from linkly.schema import read_settings
from linkly.testing import running_engine
from linkly_workers.queue import QueueWorker
from linkly_workers.queue.settings import QueueWorkerSettings
from support.database_calls import database_worker, until

WAIT_S = 30.0
URLS = {"sqlite": None, "postgres": "postgres_url"}
"""Databases that jobs can be in, and the fixture that has the url of those on a server."""

Handler = Callable[[Any], Awaitable[Any]]


class App(Worker):
    """Its functions note their calls, and then do what `handler` does."""

    name = "app"

    def __init__(self, handler: Handler | None = None) -> None:
        super().__init__()
        self.handler = handler
        self.calls: list[Any] = []
        self.jobs: list[Any] = []
        self._called = asyncio.Event()

    @function("app::work")
    async def work(self, payload: Any) -> Any:
        """Do as told."""
        return await self._handled(payload)

    @function("app::other")
    async def other(self, payload: Any) -> Any:
        """Do as told."""
        return await self._handled(payload)

    async def _handled(self, payload: Any) -> Any:
        self.calls.append(payload)
        self.jobs.append((current().metadata or {}).get("job"))
        self._called.set()
        return None if self.handler is None else await self.handler(payload)

    async def called(self, times: int) -> list[Any]:
        """Return the payloads of the calls when there were so many."""
        async with asyncio.timeout(WAIT_S):
            while len(self.calls) < times:
                self._called.clear()
                await self._called.wait()
        return self.calls


def url_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """Return the url of an empty database of a kind; the test is skipped where there is no server."""
    fixture = URLS[kind]
    return f"sqlite:{folder}/queue.db" if fixture is None else str(request.getfixturevalue(fixture))


def queue_worker(**settings: Any) -> QueueWorker:
    """Make a queue worker; `settings` as in config.yaml."""
    return QueueWorker(read_settings(QueueWorkerSettings, settings, "$"))


@asynccontextmanager
async def running_queue(
    url: str, *workers: Worker, wire: bool = False, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[Bus]:
    """Run an engine with a database, a queue worker over it, and other workers."""
    async with running_engine(database_worker(url), queue_worker(**settings), *workers, wire=wire, clock=clock) as bus:
        yield bus


async def states(bus: Bus) -> dict[str, int]:
    """Count jobs by state."""
    sql = "SELECT state, COUNT(*) AS n FROM linkly_queue_jobs GROUP BY state"
    names = ("waiting", "delayed", "retrying", "active", "done", "dead", "cancelled", "discarded", "expired")
    rows = (await bus.trigger("database::query", {"sql": sql}))["rows"]
    return {names[row["state"]]: row["n"] for row in rows}


async def until_states(bus: Bus, **wanted: int) -> None:
    """Return when so many jobs are in these states, and none in others."""

    async def reached() -> bool:
        return await states(bus) == wanted

    await until(reached)


async def counted(bus: Bus) -> dict[str, int]:
    """Return what the counters say of all queues; those that are zero are left out.

    Raises:
        AssertionError: They do not agree with the jobs.
    """
    names = ("accepted", "done", "dead", "cancelled", "discarded", "expired")
    sums = ", ".join(f"CAST(COALESCE(SUM({name}), 0) AS BIGINT) AS {name}" for name in (*names, "bytes"))
    [found] = (await bus.trigger("database::query", {"sql": f"SELECT {sums} FROM linkly_queue_counts"}))["rows"]
    there = await states(bus)
    assert found["accepted"] == sum(there.values()), (found, there)
    assert all(found[name] == there.get(name, 0) for name in names[1:]), (found, there)
    sql = "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) AS bytes FROM linkly_queue_jobs WHERE state < 4"
    assert found.pop("bytes") == (await bus.trigger("database::query", {"sql": sql}))["rows"][0]["bytes"]
    return {name: number for name, number in found.items() if number}
