"""MySQL and MariaDB, through asyncmy (`pip install 'linkly[mysql]'`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from linkly_workers.database._server.opening import application_of, check_password_file, kept_open
from linkly_workers.database.backends import OneDatabase, Opening, refuse_unused
from linkly_workers.database.mysql.address import address_of

if TYPE_CHECKING:
    from linkly_workers.database.mysql.database import MysqlDatabase

examples = ("mysql://user:password@host/database",)

_UNUSED = {"pooler": "PostgreSQL", "direct_url": "PostgreSQL"}


def check(settings: OneDatabase) -> None:
    """Check an entry of `databases`.

    Raises:
        ValueError: The driver is missing, its url or password_file cannot be used, or a setting is not for it.
    """
    refuse_unused(settings, "MySQL", _UNUSED)
    if find_spec("asyncmy") is None:
        raise ValueError("url: MySQL and MariaDB need a driver; install it with: pip install 'linkly[mysql]'")
    check_password_file(settings, [address_of(settings).password])


@asynccontextmanager
async def open(opening: Opening) -> AsyncIterator[MysqlDatabase]:
    """Keep a pool of connections; a server that is away is waited for.

    Raises:
        ConfigError: The server does not let the user in.
    """
    # Not before: they import the driver.
    from linkly_workers.database.mysql.database import MysqlDatabase
    from linkly_workers.database.mysql.errors import DRIVER

    written = opening.settings.password_file
    file = None if written is None else opening.located(written)
    async with kept_open(MysqlDatabase(opening, await application_of(opening), file), DRIVER) as database:
        yield database
