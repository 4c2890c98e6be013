"""The connections that long queries run on: shared fairly, and closed when nobody has used them for some time."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from typing import TypeVar

from linkly.clock import Clock, time_limit
from linkly_workers._line import Places
from linkly_workers.database.backends import PoolSettings
from linkly_workers.database.errors import DriverError, PoolTimeout
from linkly_workers.database.idle import Idle
from linkly_workers.database.sqlite.reader import Reader

T = TypeVar("T")

CLOSE_S = 2.0
"""How long a statement may go on when the pool is closed."""


class ReaderPool:
    """Readers of one file, and places for whatever else holds a connection."""

    def __init__(self, name: str, make: Callable[[], Reader], settings: PoolSettings, clock: Clock) -> None:
        self._name = name
        self._make = make
        self._limit = settings.max
        self._acquire_timeout_ms = settings.acquire_timeout_ms
        self._clock = clock
        self._places = Places(settings.max)
        self._idle: Idle[Reader] = Idle(settings.idle_timeout_ms / 1000, self._retire, clock)
        self._retiring: set[asyncio.Task[None]] = set()
        self._used: set[Reader] = set()
        self._given_back = asyncio.Event()
        self._closing = False

    @property
    def idle(self) -> int:
        """Count the open readers that nobody uses."""
        return len(self._idle)

    async def using(self, work: Callable[[Reader], Awaitable[T]]) -> T:
        """Run a statement on one of the readers, and return what it gives.

        Raises:
            PoolTimeout: No place became free.
            sqlite3.Error: It failed, for example because it writes.
            DriverError: The file cannot be opened.
        """
        place = await self.acquire()
        try:
            reader = self._idle.pop() or self._make()
            self._used.add(reader)
            if not reader.is_open:
                await self._open(reader)
            try:
                result = await work(reader)
            except asyncio.CancelledError:
                # Its thread may still be at work: it ends by itself, and nobody else waits behind it.
                self._retire(reader)
                raise
            except BaseException:
                self._keep(reader)
                raise
            self._keep(reader)
            return result
        finally:
            self._places.release(place)

    async def acquire(self) -> Hashable:
        """Take a place; returns whose it is, for `release`.

        Raises:
            PoolTimeout: None became free.
        """
        try:
            # Not `wait_for`: Python 3.11's loses a cancellation that comes when the place has just been taken.
            async with time_limit(self._clock, self._acquire_timeout_ms / 1000):
                return await self._places.acquire()
        except TimeoutError as error:
            raise PoolTimeout(
                f"no connection of `{self._name}` became free for {self._acquire_timeout_ms} ms: there are "
                f"{self._limit}, and one caller may have all but one of several; the setting is `pool.max`",
                details={"db": self._name, "waited_ms": self._acquire_timeout_ms},
            ) from error

    def release(self, place: Hashable) -> None:
        """Give a place back."""
        self._places.release(place)

    async def close(self) -> None:
        """Close the readers, after the statements that run; those that run for long are stopped."""
        self._closing = True
        self._idle.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._all_given_back()
        for reader in self._used:
            reader.stop()
        with suppress(TimeoutError):  # whoever reads a stream may not take its rows
            async with asyncio.timeout(CLOSE_S):
                await self._all_given_back()
        while self._retiring:
            await asyncio.wait(self._retiring)

    async def _all_given_back(self) -> None:
        while self._used:
            self._given_back.clear()
            await self._given_back.wait()

    async def _open(self, reader: Reader) -> None:
        try:
            await reader.open()
        except asyncio.CancelledError:
            self._retire(reader)
            raise
        except sqlite3.Error as error:
            self._leave(reader)
            raise DriverError(f"database `{self._name}` cannot be opened: {error}") from error

    def _keep(self, reader: Reader) -> None:
        if self._closing:
            self._retire(reader)
            return
        self._leave(reader)
        self._idle.put(reader)

    def _retire(self, reader: Reader) -> None:
        self._leave(reader)
        task = asyncio.get_running_loop().create_task(reader.close())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _leave(self, reader: Reader) -> None:
        self._used.discard(reader)
        self._given_back.set()
