"""The connections of one database: at most so many, shared fairly, each as good as new for the next caller.

What a caller has left in a session is undone after his answer and before the next caller, beside both of them: nobody
waits for that while another connection is idle. A connection may have it done together with his last statement.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Hashable
from contextlib import asynccontextmanager
from typing import Any, Generic

import msgspec

from linkly.clock import Clock, time_limit
from linkly.context import current_invocation
from linkly.deadline import Deadlines, bounded
from linkly.errors import CallTimeout
from linkly_workers._line import Places
from linkly_workers.database._server.connection import C
from linkly_workers.database._server.driver import Driver
from linkly_workers.database._server.server import Server
from linkly_workers.database.backends import PoolSettings
from linkly_workers.database.errors import DriverError, PoolTimeout
from linkly_workers.database.idle import Idle

RESET_S = 5.0
"""How long the server may take to undo what a caller has left, before the connection is given up."""


class Lease(msgspec.Struct, Generic[C], eq=False):
    """A connection in the hands of a caller.

    Attributes:
        connection: His until he gives it back.
        place: For `Places`.
        function_id: What he called; `""` outside of a call.
        worker: Who called it; `""` if nobody says.
        since: Monotonic time.
    """

    connection: C
    place: Hashable
    function_id: str
    worker: str
    since: float


class Pool(Generic[C]):
    """Connections to one server.

    Attributes:
        has_written: A write has been committed.
    """

    def __init__(
        self,
        name: str,
        server: Server[C],
        driver: Driver,
        settings: PoolSettings,
        max_result_bytes: int,
        clock: Clock,
    ) -> None:
        self._name = name
        self._server = server
        self._driver = driver
        self._settings = settings
        self._max_result_bytes = max_result_bytes
        self._clock = clock
        self._places = Places(settings.max)
        self._waiting = 0
        self._idle: Idle[C] = Idle(settings.idle_timeout_ms / 1000, self._end, clock)
        self._hopes: dict[asyncio.Future[None], None] = {}
        self._leases: dict[Lease[C], None] = {}
        self.has_written = False
        self._resetting = 0
        self._deadlines = Deadlines(clock)
        self._behind: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def idle(self) -> int:
        """Count the open connections that nobody uses."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Count the callers that wait for a connection."""
        return self._waiting

    async def start(self) -> None:
        """Make the first connection, or wait for the server beside the callers.

        Raises:
            OSError: The server does not let anybody in, and waiting will not help; or what its driver raises then.
        """
        await self._server.check_files()
        try:
            self._keep(await self._server.connect())
        except self._driver.failures as error:
            if self._driver.is_final(error):
                raise
            self._server.is_away(error, self._found)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[C]:
        """Have a connection; see `take`."""
        lease = await self.take()
        try:
            yield lease.connection
        finally:
            self.give(lease)

    async def take(self) -> Lease[C]:
        """Take a connection; it has to be given back.

        Raises:
            PoolTimeout: None became free.
            DriverError: The server cannot be reached, or lets nobody in.
        """
        limit_s = self._settings.acquire_timeout_ms / 1000
        started = self._clock.monotonic()
        self._waiting += 1
        try:
            place: Hashable = await bounded(self._places.acquire(), self._deadlines, limit_s, "")
        except CallTimeout as error:
            raise self._exhausted(self._waiting - 1) from error
        finally:
            self._waiting -= 1
        try:
            connection = self._usable() or await self._made(limit_s - (self._clock.monotonic() - started))
        except BaseException:
            self._places.release(place)
            raise
        connection.allow(self._max_result_bytes)
        invocation = current_invocation.get()
        caller = None if invocation is None else invocation.caller
        function_id = "" if invocation is None else invocation.function_id
        worker = "" if caller is None else caller.worker_name or caller.worker_id
        lease = Lease(connection, place, function_id, worker, self._clock.monotonic())
        self._leases[lease] = None
        return lease

    def give(self, lease: Lease[C]) -> None:
        """Give a connection back, in whatever state it is."""
        self._leases.pop(lease, None)
        connection = lease.connection
        if self._closing or not connection.is_usable:
            self._places.release(lease.place)
            self._end(connection)
            return
        if connection.is_clean:
            self._keep(connection)
            self._places.release(lease.place)
        else:
            self._beside(self._cleaned(lease))

    async def _cleaned(self, lease: Lease[C]) -> None:
        connection = lease.connection
        self._resetting += 1
        try:
            await bounded(connection.reset(), self._deadlines, RESET_S, "")
        except CallTimeout:
            connection.abort()
        except self._driver.failures:
            connection.abort()
        except asyncio.CancelledError:
            connection.abort()
            raise
        finally:
            self._resetting -= 1
            self._keep(connection)
            self._places.release(lease.place)

    def lost(self) -> None:
        """A connection was gone before it was used: those that are idle are not better."""
        self._idle.end_all()

    def read_only(self, error: BaseException) -> None:
        """The server only reads now: make new connections, which ask anew where the server is.

        That is trouble only if it has written before: some servers are there to be read.
        """
        for lease in self._leases:
            lease.connection.fit = False
        self._idle.end_all()
        if self.has_written:
            self._server.takes_no_writes(error, self._found)

    async def close(self) -> None:
        """Close the connections, after what is being undone."""
        self._closing = True
        await self._server.close()
        self._idle.close()
        while self._behind:
            await asyncio.wait(self._behind)
        self._deadlines.close()

    def _usable(self) -> C | None:
        while (connection := self._idle.pop()) is not None:
            if connection.is_usable:
                return connection
        return None

    async def _made(self, limit_s: float) -> C:
        """Make a connection; while the server is away, one task asks for it, and all callers wait for that."""
        error: BaseException = OSError("it is away")
        end = self._clock.monotonic() + limit_s
        while not self._driver.is_final(error):
            try:
                async with time_limit(self._clock, max(0.0, end - self._clock.monotonic())):
                    await self._hope()
            except TimeoutError:
                break
            connection = self._usable()
            if connection is not None:
                return connection
            try:
                return await self._server.connect()  # which has a time limit of its own
            except self._driver.failures as failure:
                error = failure
                if not self._driver.is_final(failure):
                    self._server.is_away(failure, self._found)
        trouble = self._server.trouble or f"the server cannot be reached: {self._driver.described(error)}"
        raise DriverError(
            f"database `{self._name}`: {trouble}; nothing was written",
            details={
                "driver": self._driver.name,
                "inner_code": self._driver.code_of(error) or self._driver.unreachable,
                "retryable": not self._driver.is_final(error),
            },
        ) from error

    async def _hope(self) -> None:
        """Wait until the server can be reached, or another caller's connection is free: a server that is full makes no
        new ones."""
        if self._server.is_reachable:
            return
        free: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        reachable = asyncio.ensure_future(self._server.reachable())
        self._hopes[free] = None
        try:
            await asyncio.wait((free, reachable), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if free.done():
                self._free_for_another()
            raise
        finally:
            self._hopes.pop(free, None)
            reachable.cancel()

    def _free_for_another(self) -> None:
        if self._hopes:
            free = next(iter(self._hopes))
            del self._hopes[free]
            free.set_result(None)

    def _keep(self, connection: C) -> None:
        if self._closing or not connection.is_usable:
            self._end(connection)
            return
        self._idle.put(connection)
        self._server.answered()
        self._free_for_another()

    def _found(self, connection: C) -> None:
        """Have the connection that was made to see whether the server is there."""
        if len(self._leases) + len(self._idle) < self._settings.max:
            self._keep(connection)
        else:
            self._end(connection)

    def _end(self, connection: C) -> None:
        self._beside(connection.close())

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)

    def _exhausted(self, others: int) -> PoolTimeout:
        waited_ms = self._settings.acquire_timeout_ms
        invocation = current_invocation.get()
        origin = None if invocation is None else invocation.origin
        own = sum(1 for lease in self._leases if lease.place == origin)
        details: dict[str, Any] = {
            "db": self._name,
            "waited_ms": waited_ms,
            "in_use": len(self._leases),
            "waiting": others,
        }
        text = (
            f"no connection of `{self._name}` became free for {waited_ms} ms: {len(self._leases)} of "
            f"{self._settings.max} are in use, and {others} other callers wait"
        )
        if self._resetting:
            text += f"; {self._resetting} are being reset"
        oldest = min(self._leases, key=lambda lease: lease.since, default=None)
        if oldest is not None:
            held_ms = int((self._clock.monotonic() - oldest.since) * 1000)
            who = f" called by `{oldest.worker}`" if oldest.worker else ""
            text += f"; the oldest has been in use by `{oldest.function_id}`{who} for {held_ms} ms"
            details["oldest"] = {"function": oldest.function_id, "worker": oldest.worker, "held_ms": held_ms}
        if own and origin is not None:
            text += f"; this caller has {own} of them itself: end its transactions, or run the statement inside one"
            details["own"] = own
        return PoolTimeout(f"{text}; the setting is `pool.max`", details=details)
