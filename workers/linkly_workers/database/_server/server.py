"""What is known of one server, and the watch that is kept while it is away or takes no writes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Generic

from linkly.clock import Clock
from linkly_workers.database._server.connection import C, Connector
from linkly_workers.database._server.driver import Driver

log = logging.getLogger("linkly.database")

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0


class Server(Generic[C]):
    """The server of one database.

    Args:
        name: Of the database, for the log.
        connector: Makes its connections.
        driver: Says what errors mean.
        clock: For waiting.
    """

    def __init__(self, name: str, connector: Connector[C], driver: Driver, clock: Clock) -> None:
        self._name = name
        self._connector = connector
        self._driver = driver
        self._clock = clock
        self._trouble: str | None = None
        self._refuses_writes = False
        self._has_answered = False
        self._reachable = asyncio.Event()
        self._reachable.set()
        self._watching: asyncio.Task[None] | None = None

    @property
    def trouble(self) -> str | None:
        """Why it takes no writes now; `None` if nothing is known against it."""
        return None if self._has_answered and not self._refuses_writes else self._trouble

    def answered(self) -> None:
        """Note that a connection works: a server that makes no new ones may be full."""
        self._has_answered = True

    async def check_files(self) -> None:
        """Read the files that connections need; the server is not asked.

        Raises:
            OSError: One cannot be read.
        """
        await self._connector.check_files()

    async def connect(self) -> C:
        """Make one connection: see `Connector.connect`."""
        return await self._connector.connect()

    @property
    def is_reachable(self) -> bool:
        """Whether it can be reached, as far as is known."""
        return self._reachable.is_set()

    async def reachable(self) -> None:
        """Return when the server can be reached, as far as is known."""
        await self._reachable.wait()

    def is_away(self, error: BaseException, found: Callable[[C], None]) -> None:
        """Note that no connection can be made; try again and again, and hand over the first one to `found`."""
        self._has_answered = False
        self._note(self._unreachable(error), found)
        self._reachable.clear()

    def takes_no_writes(self, error: BaseException, found: Callable[[C], None]) -> None:
        """Note that the server only reads now: another one has taken over, or somebody has told it to."""
        self._refuses_writes = True
        self._note(self._reads_only(self._driver.described(error)), found)

    async def close(self) -> None:
        """Wait for nothing any more."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching

    def _note(self, trouble: str, found: Callable[[C], None]) -> None:
        if self._trouble is None:
            log.warning("database `%s`: %s", self._name, trouble)
        self._trouble = trouble
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(
                self._watch(found), name=f"waiting for {self._connector.url}"
            )

    async def _watch(self, found: Callable[[C], None]) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            await self._clock.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            try:
                connection = await self.connect()
            except self._driver.failures as error:
                self._trouble = self._unreachable(error)
                continue
            try:
                only_reads = await connection.only_reads()
            except BaseException as error:
                connection.abort()
                if not isinstance(error, self._driver.failures):
                    raise
                continue
            self._reachable.set()
            if not only_reads or not self._refuses_writes:
                break
            self._trouble = self._reads_only("its transactions only read")
            await connection.close()
        log.warning("database `%s`: %s serves again", self._name, self._connector.url)
        self._trouble = self._watching = None
        self._refuses_writes = False
        found(connection)

    def _unreachable(self, error: BaseException) -> str:
        return f"{self._connector.url} cannot be reached: {self._driver.described(error)}"

    def _reads_only(self, reason: str) -> str:
        return f"{self._connector.url} takes no writes: {reason}"
