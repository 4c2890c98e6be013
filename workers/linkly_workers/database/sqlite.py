"""One SQLite database: a writer that commits in groups, and connections that read beside it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from linkly_workers._sqlite import Durability, GroupCommitWriter, StatementResult
from linkly_workers._sqlite import execute
from linkly_workers.database.errors import DriverError, PoolTimeout, QueryTimeout, driver_error
from linkly_workers.database.reader import Reader


class SqliteDatabase:
    """One file.

    Args:
        name: As the config calls it.
        path: File name or `:memory:`.
        durability: What an answered write survives.
        readers: How many queries may run at once.
        acquire_timeout_ms: How long a query waits for a connection.
    """

    driver = "sqlite"

    def __init__(self, name: str, path: str, *, durability: Durability, readers: int, acquire_timeout_ms: int) -> None:
        self.name = name
        self.path = path
        self._writer = GroupCommitWriter(path, durability=durability)
        self._limit = readers
        self._acquire_timeout_ms = acquire_timeout_ms
        self._free = asyncio.Semaphore(readers)
        self._idle: list[Reader] = []
        self._retiring: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[SqliteDatabase]:
        """Keep the database open."""
        async with self._writer:
            try:
                yield self
            finally:
                for reader in self._idle:
                    self._retire(reader)
                await asyncio.gather(*self._retiring)

    async def query(self, sql: str, parameters: list[Any], timeout_ms: int) -> StatementResult:
        """Run a statement for its rows; one that writes is sent to the writer.

        Raises:
            QueryTimeout: It took too long and was interrupted.
            PoolTimeout: No connection became free.
            DriverError: SQLite refused it.
        """
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                if self.path == ":memory:":
                    return await self._writer.execute(sql, parameters)
                try:
                    return await self._read(sql, parameters)
                except sqlite3.OperationalError as error:
                    # A reader refuses to write: that is how a write is told from a read, not by its text.
                    if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_READONLY:
                        raise
                    return await self._writer.execute(sql, parameters)
        except TimeoutError as error:
            raise QueryTimeout(
                f"the statement took longer than {timeout_ms} ms and was interrupted",
                details={"db": self.name, "timeout_ms": timeout_ms},
            ) from error
        except (sqlite3.Error, sqlite3.Warning, OverflowError) as error:
            raise driver_error(error) from error

    async def execute(self, sql: str, parameters: list[Any]) -> StatementResult:
        """Run a statement that writes; answered when it is on disk.

        Raises:
            DriverError: SQLite refused it.
        """
        try:
            return await self._writer.execute(sql, parameters)
        except (sqlite3.Error, sqlite3.Warning, OverflowError) as error:
            raise driver_error(error) from error

    async def transaction(self, statements: list[tuple[str, list[Any]]]) -> list[StatementResult]:
        """Run statements all or not at all; answered when they are on disk.

        Raises:
            DriverError: One failed; `details.failed_index` says which. Nothing was written.
        """

        def operation(connection: sqlite3.Connection) -> list[StatementResult]:
            results: list[StatementResult] = []
            for index, (sql, parameters) in enumerate(statements):
                try:
                    results.append(execute(connection, sql, parameters))
                except (sqlite3.Error, sqlite3.Warning, OverflowError) as error:
                    failure = driver_error(error)
                    failure.details["failed_index"] = index
                    raise failure from error
            return results

        try:
            return await self._writer.run(operation)
        except sqlite3.Error as error:
            raise driver_error(error) from error

    @property
    def waiting_writes(self) -> int:
        """Count the writes that wait for their turn."""
        return self._writer.waiting

    async def _read(self, sql: str, parameters: list[Any]) -> StatementResult:
        reader = await self._acquire()
        try:
            result = await reader.read(sql, parameters)
        except asyncio.CancelledError:
            # Its thread may still be at work: it ends by itself, and nobody else waits behind it.
            self._retire(reader)
            raise
        except BaseException:
            self._idle.append(reader)
            raise
        else:
            self._idle.append(reader)
            return result
        finally:
            self._free.release()

    async def _acquire(self) -> Reader:
        try:
            # Not `wait_for`: Python 3.11's loses a cancellation that comes when the semaphore has just been acquired.
            async with asyncio.timeout(self._acquire_timeout_ms / 1000):
                await self._free.acquire()
        except TimeoutError as error:
            raise PoolTimeout(
                f"all {self._limit} connections of `{self.name}` were busy for {self._acquire_timeout_ms} ms",
                details={"db": self.name, "waited_ms": self._acquire_timeout_ms},
            ) from error
        if self._idle:
            return self._idle.pop()
        reader = Reader(self.path)
        try:
            await reader.open()
        except BaseException as error:
            self._free.release()
            if isinstance(error, sqlite3.Error):
                raise DriverError(f"database `{self.name}` cannot be opened: {error}") from error
            raise
        return reader

    def _retire(self, reader: Reader) -> None:
        task = asyncio.get_running_loop().create_task(reader.close())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
