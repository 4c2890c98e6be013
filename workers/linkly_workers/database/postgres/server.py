"""Makes connections to the server of one database, and waits for a server that is away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg

from linkly.clock import Clock
from linkly_workers.database.postgres.address import Address
from linkly_workers.database.postgres.connection import Connection
from linkly_workers.database.postgres.counting import Meter, counting_loop
from linkly_workers.database.postgres.errors import FAILURES, code_of

log = logging.getLogger("linkly.database")

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
SESSION = {"TimeZone": "UTC", "DateStyle": "ISO", "standard_conforming_strings": "on"}
"""What a session starts with, and what `RESET ALL` brings back."""

DIRECT_SESSION = {"IntervalStyle": "postgres"}
"""Besides, where no pooler stands between that would refuse it."""


class Server:
    """One address, and what is known of it.

    Args:
        name: Of the database, for the log.
        address: Where it is.
        application: How connections call themselves.
        password_file: Holds the password.
        pooled: A transaction pooler stands between.
        clock: For waiting.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        *,
        application: str,
        password_file: Path | None,
        pooled: bool,
        clock: Clock,
    ) -> None:
        self._name = name
        self._address = address
        self._password_file = password_file
        self._clock = clock
        self.pooled = pooled
        self._settings = {
            **SESSION,
            **({} if pooled else DIRECT_SESSION),
            "application_name": application,
            **address.server_settings,
        }
        self._trouble: str | None = None
        self._refuses_writes = False
        self._reachable = asyncio.Event()
        self._reachable.set()
        self._watching: asyncio.Task[None] | None = None

    @property
    def trouble(self) -> str | None:
        """Why it takes no writes now; `None` if nothing is known against it."""
        return self._trouble

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

    async def reachable(self) -> None:
        """Return when the server can be reached, as far as is known."""
        await self._reachable.wait()

    def is_away(self, error: BaseException, found: Callable[[Connection], None]) -> None:
        """Note that no connection can be made; try again and again, and hand over the first one to `found`."""
        self._note(self._unreachable(error), found)
        self._reachable.clear()

    def takes_no_writes(self, error: BaseException, found: Callable[[Connection], None]) -> None:
        """Note that the server only reads now: another one has taken over, or somebody has told it to."""
        self._refuses_writes = True
        self._note(self._reads_only(described(error)), found)

    async def close(self) -> None:
        """Wait for nothing any more."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching

    def _note(self, trouble: str, found: Callable[[Connection], None]) -> None:
        if self._trouble is None:
            log.warning("database `%s`: %s", self._name, trouble)
        self._trouble = trouble
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch(found), name="waiting for PostgreSQL")

    async def _watch(self, found: Callable[[Connection], None]) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            await self._clock.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            try:
                connection = await self.connect()
            except FAILURES as error:
                self._trouble = self._unreachable(error)
                continue
            try:
                read_only = await connection.raw.fetchval("SHOW transaction_read_only")
            except BaseException as error:
                connection.raw.terminate()
                if not isinstance(error, FAILURES):
                    raise
                continue
            self._reachable.set()
            if read_only == "off" or not self._refuses_writes:
                break
            self._trouble = self._reads_only("its transactions only read")
            await connection.close()
        log.warning("database `%s`: %s serves again", self._name, self._address.url)
        self._trouble = self._watching = None
        self._refuses_writes = False
        found(connection)

    def _unreachable(self, error: BaseException) -> str:
        return f"{self._address.url} cannot be reached: {described(error)}"

    def _reads_only(self, reason: str) -> str:
        return f"{self._address.url} takes no writes: {reason}"


def described(error: BaseException) -> str:
    """Return an error in one clause, with the server's code if it has one; without user or password."""
    code = code_of(error)
    text = str(error) or type(error).__name__
    if "unsupported startup parameter" in text:
        text += "; that is how a pooler refuses what a session begins with: say `pooler: transaction`"
    return text if code is None else f"{text} ({code})"


def ssl_of(address: Address) -> ssl.SSLContext | str | bool:
    """Return how the driver secures a connection.

    Raises:
        OSError: A file of certificates cannot be read.
    """
    if all(host.startswith("/") for host, _ in address.hosts) or address.ssl == "disable":
        return False
    if address.ssl in ("allow", "prefer"):
        return address.ssl
    try:
        context = ssl.create_default_context(cafile=address.ca_cert)
    except OSError as error:
        raise OSError(f"the certificates of {address.ca_cert} cannot be read: {error}") from error
    context.verify_flags &= (
        ~ssl.VERIFY_X509_STRICT
    )  # Python's default from 3.13 on; libpq takes older private CAs as well
    context.check_hostname = address.ssl == "verify-full"
    if address.ssl == "require":
        context.verify_mode = ssl.CERT_NONE
    if address.client_cert is not None:
        context.load_cert_chain(*address.client_cert)
    return context
