"""Databases of each kind that links can be kept in, and their stores."""

import os
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
from support import mariadb_server

SERVERS = {"postgres": "postgres_url", "mariadb": "mariadb_url"}
"""The fixture of each."""

if mariadb_server.VARIABLES["mysql"] in os.environ:
    SERVERS["mysql"] = "real_mysql_url"

KINDS = ("sqlite", *SERVERS)

CLOCKS = {
    "postgres": (
        "CREATE TABLE IF NOT EXISTS clock (at TIMESTAMPTZ)",
        "INSERT INTO clock SELECT NULL WHERE NOT EXISTS (SELECT 1 FROM clock)",
        "CREATE OR REPLACE FUNCTION now() RETURNS TIMESTAMPTZ LANGUAGE sql STABLE AS 'SELECT at FROM clock'",
    ),
    "mysql": (
        "CREATE TABLE IF NOT EXISTS clock (at DATETIME(3))",
        "INSERT INTO clock SELECT NULL FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM clock)",
    ),
}
"""What makes a server show the time that a test says. PostgreSQL's own `now` is hidden by one of the test's schema; on
MariaDB nothing can hide `UTC_TIMESTAMP`, so it is written over in the statements of the store."""

SET_CLOCK = {
    "postgres": "UPDATE clock SET at = ?::timestamptz",
    "mysql": "UPDATE clock SET at = REPLACE(REPLACE(?, 'T', ' '), 'Z', '')",
}


def plain_url_of(kind: str, request: pytest.FixtureRequest) -> str:
    """Return the url of an empty database of a kind; the test is skipped where there is no server."""
    if kind == "sqlite":
        return f"sqlite:{request.getfixturevalue('tmp_path')}/links.db"
    url: str = request.getfixturevalue(SERVERS[kind])
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
            await bus.trigger("database::query", {"sql": SET_CLOCK[_kind(url)], "params": [now]})
        yield bus


def store_on(url: str, trigger: Any, *, each_sets_clock: bool = True) -> SqlStore:
    """Return a store; where the server's clock decides, that one shows the time of each click, if it is to."""
    kind = _kind(url)

    async def ours(function_id: str, payload: Any, **more: Any) -> Any:
        for each in payload.get("statements", [payload]):
            if "sql" in each:
                each["sql"] = each["sql"].replace("UTC_TIMESTAMP(3)", "(SELECT at FROM clock)")
        return await trigger(function_id, payload, **more)

    trigger_here = ours if kind == "mysql" else trigger
    if kind in CLOCKS and each_sets_clock:
        return _ServerStore(trigger_here, SET_CLOCK[kind])
    return SqlStore(trigger_here, "primary")


class _ServerStore(SqlStore):
    def __init__(self, trigger: Any, set_clock: str) -> None:
        super().__init__(trigger, "primary")
        self._trigger, self._set_clock = trigger, set_clock

    async def count(self, click: Click, now: str) -> Counted:
        await self._trigger("database::query", {"sql": self._set_clock, "params": [now]})
        return await super().count(click, now)


def _kind(url: str) -> str:
    return url.partition(":")[0]
