"""Opening a database on a server: what its settings say, and how long it stays open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from linkly.errors import ConfigError, LinklyError
from linkly.paths import check_path
from linkly_workers.database._server.database import ServerDatabase
from linkly_workers.database._server.driver import Driver
from linkly_workers.database.backends import OneDatabase, Opening

D = TypeVar("D", bound=ServerDatabase[Any, Any, Any])


def check_password_file(settings: OneDatabase, passwords: Iterable[str | None]) -> None:
    """Check the file of a password; `passwords` are those that urls have.

    Raises:
        ValueError: It cannot be a file, or the password is said twice.
    """
    if settings.password_file is not None:
        check_path("password_file", settings.password_file)
        if any(password is not None for password in passwords):
            raise ValueError("password_file: the url has a password as well; say it in one place")


async def application_of(opening: Opening) -> str:
    """Return how connections call themselves: by the engine, as far as somebody says which one it is."""
    try:
        return f"linkly:{await opening.engine_id()}"
    except LinklyError:
        return "linkly"


@asynccontextmanager
async def kept_open(database: D, driver: Driver) -> AsyncIterator[D]:
    """Keep a database open; a server that is away is waited for.

    Raises:
        ConfigError: The server does not let the user in.
    """
    try:
        await database.start()
    except driver.failures as error:
        raise ConfigError(f"database `{database.name}` ({database.url}): {driver.described(error)}") from error
    try:
        yield database
    finally:
        await database.close()
