"""Makes connections to the server of one database."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import asyncpg

from linkly_workers.database._server.lookup import check_host
from linkly_workers.database._server.tls import context_of
from linkly_workers.database.postgres.address import Address
from linkly_workers.database.postgres.connection import Connection
from linkly_workers.database.postgres.counting import Meter, counting_loop
from linkly_workers.database.postgres.insistent import Insistent

SESSION = {"TimeZone": "UTC", "DateStyle": "ISO", "standard_conforming_strings": "on"}
"""What a session starts with, and what `RESET ALL` brings back."""

DIRECT_SESSION = {"IntervalStyle": "postgres"}
"""Besides, where no pooler stands between that would refuse it."""


class Connector:
    """Makes connections to one address, each with the password of that moment.

    Args:
        address: Where the server is.
        application: How connections call themselves.
        password_file: Holds the password.
        pooled: A transaction pooler stands between.

    Attributes:
        url: Where it is, without a password.
        pooled: As given.
    """

    def __init__(self, address: Address, *, application: str, password_file: Path | None, pooled: bool) -> None:
        self.url = address.url
        self.pooled = pooled
        self._address = address
        self._password_file = password_file
        self._settings = {
            **SESSION,
            **({} if pooled else DIRECT_SESSION),
            "application_name": application,
            **address.server_settings,
        }

    async def check_files(self) -> None:
        """Read the files that connections need; the server is not asked.

        Raises:
            OSError: One cannot be read.
        """
        await asyncio.to_thread(ssl_of, self._address)
        self._password()

    def _password(self) -> str | None:
        return self._address.password if self._password_file is None else self._password_file.read_text().strip()

    async def connect(self) -> Connection:
        """Make one connection.

        Raises:
            OSError, asyncpg.PostgresError: The server cannot be reached, or lets nobody in.
        """
        meter = Meter()
        address = self._address
        try:
            if len(address.hosts) == 1 and not address.hosts[0][0].startswith("/"):
                async with asyncio.timeout(address.connect_timeout_s):
                    await check_host(address.hosts[0][0])
            connect: Any = asyncpg.connect
            raw = await connect(
                host=[host for host, _ in address.hosts],
                port=[port for _, port in address.hosts],
                user=address.user,
                password=self._password(),
                database=address.database,
                ssl=await asyncio.to_thread(ssl_of, address),
                direct_tls=address.direct_tls or None,
                timeout=address.connect_timeout_s,
                server_settings=self._settings,
                target_session_attrs=address.session_attributes,
                statement_cache_size=0,
                connection_class=Insistent,
                loop=counting_loop(meter),
            )
        except TimeoutError as error:
            raise OSError(f"no answer within {address.connect_timeout_s:g} s") from error
        try:
            if not meter.received:
                raise RuntimeError("this version of asyncpg does not use the loop that it is given")
            meter.connected = True
            connection = Connection(raw, meter, keeps_statements=not self.pooled)
            await connection.open()
        except BaseException:
            raw.terminate()
            raise
        return connection


def ssl_of(address: Address) -> ssl.SSLContext | str | bool:
    """Return how the driver secures a connection.

    Raises:
        OSError: A file of certificates cannot be read.
    """
    if all(host.startswith("/") for host, _ in address.hosts) or address.ssl == "disable":
        return False
    if address.ssl in ("allow", "prefer"):
        return address.ssl
    return context_of(address)
