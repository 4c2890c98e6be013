"""One SQLite database: a writer that commits in groups, and connections that read beside it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Any

from linkly.clock import Clock, TimerHandle
from linkly.errors import Overloaded
from linkly_workers._sqlite import Connection, Durability, GroupCommitWriter, StatementResult, execute, trouble
from linkly_workers._sqlite.connection import LOOP_VALUE_BYTES
from linkly_workers._sqlite.line import Places
from linkly_workers._sqlite.text import TEXT_LIMIT, is_vacuum
from linkly_workers.database.errors import DriverError, PoolTimeout, QueryTimeout, driver_error
from linkly_workers.database.interactive import InteractiveTransaction
from linkly_workers.database.reader import LoopReader, Reader, compile_only, is_write
from linkly_workers.database.shapes import DEFAULT_TIMEOUT_MS
from linkly_workers.database.sql import changes_schema
from linkly_workers.database.target import Target, target_of
from linkly_workers.database.types import ColumnTypes

TARGETS_LIMIT = 1024
LONGEST_TIMEOUT_MS = 3_600_000
Changed = Callable[[Target, StatementResult], None]

_FAILURES = (sqlite3.Error, sqlite3.Warning, OverflowError)


class SqliteDatabase:
    """One file.

    Args:
        name: As the config calls it.
        path: File name or `:memory:`.
        durability: What an answered write survives.
        readers: How many long queries and interactive transactions there may be at once; one caller has at most all
            but one of several.
        idle_timeout_ms: After this time without use a reading connection is closed.
        acquire_timeout_ms: How long a query waits for a connection.
        max_result_bytes: A call whose results are larger fails.
    """

    driver = "sqlite"

    def __init__(
        self,
        name: str,
        path: str,
        *,
        durability: Durability,
        readers: int,
        idle_timeout_ms: int,
        acquire_timeout_ms: int,
        max_result_bytes: int,
    ) -> None:
        self.name = name
        self.path = path
        self._durability: Durability = durability
        self._max_result_bytes = max_result_bytes
        self._writer = GroupCommitWriter(
            path, durability=durability, value_bytes=LOOP_VALUE_BYTES, max_result_bytes=max_result_bytes
        )
        self._here: LoopReader | None = None
        self._types = ColumnTypes(":memory:")
        self._limit = readers
        self._idle_timeout_s = idle_timeout_ms / 1000
        self._acquire_timeout_ms = acquire_timeout_ms
        self._places = Places(readers)
        self._idle: list[Reader] = []
        self._sweeping: TimerHandle | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._closing = False
        self._targets: dict[str, Target] = {}

    @contextlib.asynccontextmanager
    async def opened(self, clock: Clock) -> AsyncIterator[SqliteDatabase]:
        """Keep the database open."""
        self._clock = clock
        self._writer.count_by(clock)
        async with self._writer:
            try:
                if self.path != ":memory:":
                    self._here = LoopReader(self.path, self._max_result_bytes)
                    self._types = ColumnTypes(self.path)
                yield self
            finally:
                if self._sweeping is not None:
                    self._sweeping.cancel()
                self._closing = True
                for reader in self._idle:
                    self._retire(reader)
                while self._retiring:
                    await asyncio.wait(self._retiring)
                if self._here is not None:
                    self._here.close()
                self._types.close()

    @property
    def waiting_writes(self) -> int:
        """Count the writes that wait for their turn."""
        return self._writer.waiting

    def trouble(self) -> str | None:
        """Say why writes do not go through now, `None` if nothing is known against it."""
        return trouble(self._writer)

    @property
    def idle_readers(self) -> int:
        """Count the open connections that nobody uses."""
        return len(self._idle)

    async def query(
        self, sql: str, parameters: list[Any], timeout_ms: int, changed: Changed | None = None
    ) -> StatementResult:
        """Run a statement for its rows; one that writes is sent to the writer.

        Raises:
            QueryTimeout: It took too long and was interrupted.
            PoolTimeout: No connection became free.
            DriverError: SQLite refused it.
        """
        if self._here is None:
            result = await self.execute(sql, parameters, timeout_ms, changed)
            if result.columns and self._types.can_learn(sql):
                count = len(result.columns)
                with contextlib.suppress(TimeoutError, Overloaded, sqlite3.Error):  # then they are not told
                    await self._writer.run(lambda connection: self._types.learn(connection, sql, count), timeout_s=1)
            return result
        try:
            found = self._here.read(sql, parameters)
            if found is not None:
                return found
            async with asyncio.timeout(_seconds(timeout_ms)):
                return await self._read(sql, parameters)
        except TimeoutError as error:
            raise self._timeout(timeout_ms) from error
        except _FAILURES as error:
            if not (is_write(error) or is_vacuum(sql)):
                raise driver_error(error, parameters) from error
        return await self.execute(sql, parameters, timeout_ms, changed)

    async def read_only(self, sql: str, parameters: list[Any], timeout_ms: int) -> StatementResult:
        """Run a statement that must not write.

        Raises:
            DriverError: SQLite refused it, with `inner_code` SQLITE_READONLY if it writes.
            QueryTimeout: It took too long and was interrupted.
        """
        try:
            if self._here is None:
                return await self._writer.run(
                    lambda connection: _without_writing(connection, sql, parameters), timeout_s=_seconds(timeout_ms)
                )
            async with asyncio.timeout(_seconds(timeout_ms)):
                return await self._read(sql, parameters)
        except TimeoutError as error:
            raise self._timeout(timeout_ms) from error
        except _FAILURES as error:
            raise driver_error(error, parameters) from error

    def column_types(self, sql: str, count: int) -> list[str]:
        """Return the declared types of a query's columns, `""` where there is none.

        In `:memory:` they are known once the statement has run outside an interactive transaction.
        """
        return self._types.of(sql, count)

    def forget_types(self, _: object = None) -> None:
        """The schema has changed, and is on disk: asked for before that, a column's old type would be remembered."""
        self._types.forget()

    async def execute(
        self, sql: str, parameters: list[Any], timeout_ms: int = DEFAULT_TIMEOUT_MS, changed: Changed | None = None
    ) -> StatementResult:
        """Run a statement that writes; answered when it is on disk.

        Args:
            sql: One statement.
            parameters: Its values.
            timeout_ms: How long it may wait and run, at most an hour; 0 for as long as it takes.
            changed: Told what it changed, after the commit.

        Raises:
            QueryTimeout: It took too long; nothing was written.
            DriverError: SQLite refused it; nothing was written.
            OutcomeUnknown: The disk has failed, or its file is gone: it may be written or not.
            DataFileLost: The file was deleted or replaced; nothing was written.
        """
        timeout_s = _seconds(timeout_ms)
        try:
            if changed is None:
                forget = self.forget_types if changes_schema(sql) else None
                return await self._writer.execute(sql, parameters, on_commit=forget, timeout_s=timeout_s)
            results = await self._run([(sql, parameters)], timeout_s, changed)
            return results[0]
        except TimeoutError as error:
            raise self._timeout(timeout_ms) from error
        except _FAILURES as error:
            raise driver_error(error, parameters) from error

    async def transaction(
        self,
        statements: list[tuple[str, list[Any]]],
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
        changed: Changed | None = None,
    ) -> list[StatementResult]:
        """Run statements all or not at all; answered when they are on disk.

        Raises:
            QueryTimeout: It took too long; nothing was written.
            DriverError: One failed; `details.failed_index` says which. Nothing was written.
        """
        try:
            return await self._run(statements, _seconds(timeout_ms), changed)
        except TimeoutError as error:
            raise self._timeout(timeout_ms) from error
        except sqlite3.Error as error:
            raise driver_error(error) from error

    async def begin(self, transaction_id: str, *, serializable: bool) -> InteractiveTransaction:
        """Open a transaction over several calls; `release` has to follow its end.

        Raises:
            PoolTimeout: No connection became free.
            DriverError: The file cannot be opened.
        """
        place = await self._acquire()
        try:
            transaction = InteractiveTransaction(transaction_id, self._writer, self._durability, place)
            await transaction.begin(serializable=serializable)
            return transaction
        except BaseException as error:
            self._places.release(place)
            if isinstance(error, sqlite3.Error):
                raise driver_error(error) from error
            raise

    def release(self, transaction: InteractiveTransaction) -> None:
        """An interactive transaction has ended."""
        self._places.release(transaction.place)

    async def check(self, sql: str) -> None:
        """Compile a statement without running it.

        Raises:
            DriverError: It cannot be compiled.
        """
        try:
            if self._here is not None:
                self._here.check(sql)
            else:
                await self._writer.run(lambda connection: compile_only(connection, sql))
        except _FAILURES as error:
            raise driver_error(error) from error

    async def _run(
        self, statements: list[tuple[str, list[Any]]], timeout_s: float | None, changed: Changed | None
    ) -> list[StatementResult]:
        targets: list[Target | None] = []
        forget = any(changes_schema(sql) for sql, _ in statements)

        def operation(connection: Connection) -> list[StatementResult]:
            results: list[StatementResult] = []
            targets.clear()
            read_bytes = 0
            for sql, parameters in statements:
                try:
                    result = execute(connection, sql, parameters, read_bytes)
                except _FAILURES as error:
                    error.failed_index = len(results)  # type: ignore[union-attr]
                    raise
                results.append(result)
                read_bytes += connection.result_bytes
                if changed is not None:
                    targets.append(self._target(connection, sql) if result.affected_rows else None)
            return results

        def committed(results: list[StatementResult]) -> None:
            if forget:
                self.forget_types()
            if changed is not None:
                for target, result in zip(targets, results, strict=True):
                    if target is not None:
                        changed(target, result)

        try:
            return await self._writer.run(
                operation,
                on_commit=committed if forget or changed is not None else None,
                timeout_s=timeout_s,
                key=tuple(sql for sql, _ in statements),
            )
        except _FAILURES as error:
            index = getattr(error, "failed_index", None)
            failure = driver_error(error, () if index is None else statements[index][1])
            if index is not None:
                failure.details["failed_index"] = index
            raise failure from error

    def _target(self, connection: Connection, sql: str) -> Target:
        if changes_schema(sql):
            self._targets.clear()
        found = self._targets.get(sql)
        if found is None:
            if len(self._targets) >= TARGETS_LIMIT:
                self._targets.clear()
            found = target_of(connection, sql)
            if len(sql) <= TEXT_LIMIT:
                self._targets[sql] = found
        return found

    def _timeout(self, timeout_ms: int) -> QueryTimeout:
        return QueryTimeout(
            f"the statement took longer than timeout_ms: {min(timeout_ms, LONGEST_TIMEOUT_MS)} and was interrupted",
            details={"db": self.name, "timeout_ms": min(timeout_ms, LONGEST_TIMEOUT_MS)},
        )

    # --- reading connections -------------------------------------------------------------------------------

    async def _read(self, sql: str, parameters: list[Any]) -> StatementResult:
        place = await self._acquire()
        try:
            reader = self._idle.pop() if self._idle else await self._opened_reader()
            try:
                result = await reader.read(sql, parameters)
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

    async def _acquire(self) -> Hashable:
        try:
            # Not `wait_for`: Python 3.11's loses a cancellation that comes when the semaphore has just been acquired.
            async with asyncio.timeout(self._acquire_timeout_ms / 1000):
                return await self._places.acquire()
        except TimeoutError as error:
            raise PoolTimeout(
                f"no connection of `{self.name}` became free for {self._acquire_timeout_ms} ms: there are "
                f"{self._limit}, and one caller may have all but one of several; the setting is `pool.max`",
                details={"db": self.name, "waited_ms": self._acquire_timeout_ms},
            ) from error

    async def _opened_reader(self) -> Reader:
        reader = Reader(self.path, self._max_result_bytes)
        self._writer.file.check()
        try:
            await reader.open()
        except asyncio.CancelledError:
            self._retire(reader)
            raise
        except sqlite3.Error as error:
            raise DriverError(f"database `{self.name}` cannot be opened: {error}") from error
        return reader

    def _keep(self, reader: Reader) -> None:
        if self._closing:
            self._retire(reader)
            return
        reader.idle_since = self._clock.monotonic()
        self._idle.append(reader)
        if self._sweeping is None:
            self._sweeping = self._clock.call_later(self._idle_timeout_s, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle for long; the list is in the order of its last use."""
        self._sweeping = None
        limit = self._clock.monotonic() - self._idle_timeout_s
        while self._idle and self._idle[0].idle_since <= limit:
            self._retire(self._idle.pop(0))
        if self._idle:
            self._sweeping = self._clock.call_later(self._idle[0].idle_since - limit, self._sweep)

    def _retire(self, reader: Reader) -> None:
        task = asyncio.get_running_loop().create_task(reader.close())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


def _seconds(timeout_ms: int) -> float | None:
    return min(timeout_ms, LONGEST_TIMEOUT_MS) / 1000 if timeout_ms else None


def _without_writing(connection: Connection, sql: str, parameters: list[Any]) -> StatementResult:
    connection.own("PRAGMA query_only = ON")
    try:
        return execute(connection, sql, parameters)
    finally:
        connection.own("PRAGMA query_only = OFF")
