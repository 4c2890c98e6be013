"""Databases of each kind that links can be kept in, and their stores."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from linkly import Bus
from linkly.schema import read_settings
from linkly.testing import running_engine
from linkly_workers.database import DatabaseSettings, DatabaseWorker
from linkly_workers.link.outcome import Counted
from linkly_workers.link.stores.sql.store import SqlStore
from linkly_workers.link.stores.store import Click

KINDS = ("sqlite", "postgres")

CLOCKS = {
    "postgres": (
        "CREATE TABLE IF NOT EXISTS clock (at TIMESTAMPTZ)",
        "INSERT INTO clock SELECT NULL WHERE NOT EXISTS (SELECT 1 FROM clock)",
        "CREATE OR REPLACE FUNCTION now() RETURNS TIMESTAMPTZ LANGUAGE sql STABLE AS 'SELECT at FROM clock'",
    )
}
"""What makes a server show the time that a test says: its own `now` is hidden by one of the test's schema."""

SET_CLOCK = "UPDATE clock SET at = ?::timestamptz"


def plain_url_of(kind: str, request: pytest.FixtureRequest) -> str:
    """Return the url of an empty database of a kind; the test is skipped where there is no server."""
    if kind == "sqlite":
        return f"sqlite:{request.getfixturevalue('tmp_path')}/links.db"
    url: str = request.getfixturevalue(f"{kind}_url")
    return url


def url_of(kind: str, request: pytest.FixtureRequest) -> str:
    """Return the url of an empty database of a kind, on a server whose clock may be set (`CLOCKS`)."""
    url = plain_url_of(kind, request)
    return f"{url}%2Cpg_catalog" if kind == "postgres" else url  # last, so that the test's own `now` goes before


@asynccontextmanager
async def running_database(url: str, now: str | None = None) -> AsyncIterator[Bus]:
    """Run the database worker alone; `now` is what the clock of a server shows, if that decides."""
    settings = {"databases": {"primary": {"url": url}}}
    async with running_engine(DatabaseWorker(read_settings(DatabaseSettings, settings, "$"))) as bus:
        if _kind(url) in CLOCKS:
            for sql in CLOCKS[_kind(url)]:
                await bus.trigger("database::execute", {"sql": sql})
            await bus.trigger("database::query", {"sql": SET_CLOCK, "params": [now]})
        yield bus


def store_on(url: str, trigger: Any) -> SqlStore:
    """Return a store; where the server's clock decides, that one shows the time of each click."""
    return _ServerStore(trigger, "primary") if _kind(url) in CLOCKS else SqlStore(trigger, "primary")


class _ServerStore(SqlStore):
    def __init__(self, trigger: Any, db: str) -> None:
        super().__init__(trigger, db)
        self._trigger = trigger

    async def count(self, click: Click, now: str) -> Counted:
        await self._trigger("database::query", {"sql": SET_CLOCK, "params": [now]})
        return await super().count(click, now)


def _kind(url: str) -> str:
    return url.partition(":")[0]
