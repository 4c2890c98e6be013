"""PostgreSQL, from version 12 on, through asyncpg (`pip install 'linkly[postgres]'`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from linkly_workers.database._server.opening import application_of, check_password_file, kept_open
from linkly_workers.database.backends import OneDatabase, Opening
from linkly_workers.database.postgres.address import address_of, direct_address_of

if TYPE_CHECKING:
    from linkly_workers.database.postgres.database import PostgresDatabase

examples = ("postgres://user:password@host/database",)

LONGEST_NAME = 63
"""What the server keeps of an application_name, in bytes."""


def check(settings: OneDatabase) -> None:
    """Check an entry of `databases`.

    Raises:
        ValueError: The driver is missing, or its url or its password_file cannot be used.
    """
    if find_spec("asyncpg") is None:
        raise ValueError("url: PostgreSQL needs a driver; install it with: pip install 'linkly[postgres]'")
    address = address_of(settings)
    passwords = [address.password]
    if settings.direct_url is not None:
        if settings.pooler is None:
            raise ValueError("direct_url: it is for what cannot go through a pooler, and `pooler` names none")
        passwords.append(direct_address_of(settings, settings.direct_url).password)
    check_password_file(settings, passwords)


@asynccontextmanager
async def open(opening: Opening) -> AsyncIterator[PostgresDatabase]:
    """Keep a pool of connections; a server that is away is waited for.

    Raises:
        ConfigError: The server does not let the user in.
    """
    # Not before: they import the driver.
    from linkly_workers.database.postgres.database import PostgresDatabase
    from linkly_workers.database.postgres.errors import DRIVER

    written = opening.settings.password_file
    file = None if written is None else opening.located(written)
    application = (await application_of(opening))[:LONGEST_NAME]
    async with kept_open(PostgresDatabase(opening, application, file), DRIVER) as database:
        yield database
