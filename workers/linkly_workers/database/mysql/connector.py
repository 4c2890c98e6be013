"""Makes connections to the server of one database."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from linkly_workers.database._server.tls import context_of
from linkly_workers.database.mysql.address import Address
from linkly_workers.database.mysql.connection import Connection
from linkly_workers.database.mysql.errors import FAILURES
from linkly_workers.database.mysql.stopping import Stopper
from linkly_workers.database.mysql.wire import Wire, connected


class Connector:
    """Makes connections to one address, each with the password of that moment, and one more that stops statements.

    Args:
        address: Where the server is.
        application: How connections call themselves.
        password_file: Holds the password.

    Attributes:
        url: Where it is, without a password.
    """

    def __init__(self, address: Address, *, application: str, password_file: Path | None) -> None:
        self.url = address.url
        self._address = address
        self._application = application
        self._password_file = password_file
        self._stopper = Stopper(self._wire)

    async def check_files(self) -> None:
        """Read the files that connections need; the server is not asked.

        Raises:
            OSError: One cannot be read.
        """
        if self._address.ssl != "disable":
            await asyncio.to_thread(context_of, self._address)
        self._password()

    async def connect(self) -> Connection:
        """Make one connection.

        Raises:
            asyncmy.errors.MySQLError, OSError: The server cannot be reached, or lets nobody in.
        """
        wire = await self._wire()
        with suppress(*FAILURES):  # it is tried again when a statement has to be stopped
            await self._stopper.ready()
        return Connection(wire, self._stopper)

    async def close(self) -> None:
        """Give up the connection that stops statements."""
        await self._stopper.close()

    def _password(self) -> bytes:
        if self._password_file is not None:
            return self._password_file.read_text().strip().encode()
        return (self._address.password or "").encode()

    async def _wire(self) -> Wire:
        return await connected(self._address, self._password(), self._application)
