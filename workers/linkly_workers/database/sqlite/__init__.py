"""SQLite: one file, or a database in memory, in the process of the worker."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from linkly.errors import ConfigError, LinklyError
from linkly.paths import check_path
from linkly_workers._sqlite.ownership import OwnedElsewhere, Ownership
from linkly_workers.database.backends import OneDatabase, Opening, refuse_unused
from linkly_workers.database.sqlite.database import IN_MEMORY, SqliteDatabase

log = logging.getLogger("linkly.database")

examples = ("sqlite:./data/name.db", "sqlite::memory:")

_SERVERS = "PostgreSQL, MySQL and MariaDB"
_UNUSED = {"tls": _SERVERS, "password_file": _SERVERS, "pooler": "PostgreSQL", "direct_url": "PostgreSQL"}


def check(settings: OneDatabase) -> None:
    """Check an entry of `databases`.

    Raises:
        ValueError: Its path cannot be used, or a setting is for a server.
    """
    refuse_unused(settings, "SQLite", _UNUSED)
    check_path("url", _path(settings))


@asynccontextmanager
async def open(opening: Opening) -> AsyncIterator[SqliteDatabase]:
    """Keep a database open; the file and its folder are made on first use.

    Raises:
        ConfigError: It cannot be opened, or another engine has it.
    """
    written = _path(opening.settings)
    database = SqliteDatabase(opening, IN_MEMORY if written == IN_MEMORY else str(opening.located(written)))
    async with AsyncExitStack() as stack:
        try:
            if database.path != IN_MEMORY:
                await _own(database, opening, stack)
            await stack.enter_async_context(database)
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"database `{database.name}` ({database.path}) cannot be opened: {error}") from error
        yield database


async def _own(database: SqliteDatabase, opening: Opening, stack: AsyncExitStack) -> None:
    """Keep other engines from the file."""
    try:
        engine_id = await opening.engine_id()
    except LinklyError as error:
        log.warning("database `%s` is not locked: the engine does not say who it is: %s", database.name, error)
        return
    ownership = Ownership(database.path, engine_id, opening.clock)
    try:
        await ownership.take()
    except OwnedElsewhere as error:
        raise ConfigError(
            f"database `{database.name}`: another engine uses {database.path}; stop it, or give each engine a file "
            "of its own (`url`)"
        ) from error
    stack.callback(ownership.release)


def _path(settings: OneDatabase) -> str:
    path = settings.url.partition(":")[2]
    return path.removeprefix("//")
