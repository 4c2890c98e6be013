"""Database workers with one database, calls of their functions, and waiting for what a server does by itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from linkly import Bus, LinklyError
from linkly.schema import read_settings
from linkly.testing import running_engine
from linkly_workers.database import DatabaseSettings, DatabaseWorker

WAIT_S = 30.0


def database_worker(url: str, *, max_result_bytes: int | None = None, **entry: Any) -> DatabaseWorker:
    """Make a worker whose database `primary` is at `url`; `entry` has more of its settings.

    Raises:
        ConfigError: The settings cannot be used.
    """
    block: dict[str, Any] = {"databases": {"primary": {"url": url, **entry}}}
    if max_result_bytes is not None:
        block["max_result_bytes"] = max_result_bytes
    return DatabaseWorker(read_settings(DatabaseSettings, block, "$"))


@asynccontextmanager
async def running(url: str, *, max_result_bytes: int = 1_000_000, **entry: Any) -> AsyncIterator[Bus]:
    """Run an engine with a worker that `database_worker` makes; its results are small."""
    async with running_engine(database_worker(url, max_result_bytes=max_result_bytes, **entry)) as bus:
        yield bus


async def call(bus: Bus, name: str, **payload: Any) -> Any:
    """Call a function of the database worker, which answers in time."""
    async with asyncio.timeout(WAIT_S):
        return await bus.trigger(f"database::{name}", payload)


async def refused(bus: Bus, name: str, **payload: Any) -> LinklyError:
    """Call a function that fails, and return its error."""
    with pytest.raises(LinklyError) as failure:
        await call(bus, name, **payload)
    return failure.value


async def execute(bus: Bus, sql: str, *params: Any, **more: Any) -> Any:
    """Run a statement and return the answer."""
    return await call(bus, "execute", sql=sql, params=list(params), **more)


async def rows(bus: Bus, sql: str, *params: Any, **more: Any) -> list[dict[str, Any]]:
    """Return the rows of a statement."""
    found: list[dict[str, Any]] = (await call(bus, "query", sql=sql, params=list(params), **more))["rows"]
    return found


async def value(bus: Bus, sql: str, *params: Any, **more: Any) -> Any:
    """Return the one value that a statement has as its result."""
    ((found,),) = [list(row.values()) for row in await rows(bus, sql, *params, **more)]
    return found


async def values(bus: Bus, sql: str = "SELECT a FROM t ORDER BY a") -> list[Any]:
    """Return the one column that a statement has as its result."""
    return [found for (found,) in [row.values() for row in await rows(bus, sql)]]


async def begin(bus: Bus, **payload: Any) -> str:
    """Begin a transaction over several calls, and return its id."""
    return str((await call(bus, "beginTransaction", **payload))["transaction"]["id"])


async def ready(bus: Bus) -> bool:
    """Return whether the worker says that all of its databases can be used."""
    return bool((await call(bus, "readiness"))["ready"])


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what a server does beside its callers: it tells nobody, so it is asked again and again."""
    async with asyncio.timeout(WAIT_S):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def not_any_more(condition: Callable[[], Awaitable[bool]]) -> Callable[[], Awaitable[bool]]:
    """Return the opposite of a condition."""

    async def ask() -> bool:
        return not await condition()

    return ask
