"""Connections that only read: one on the loop's thread for what is quick, others with a thread each for the rest."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import sys
import threading
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import aiosqlite

from linkly_workers._sqlite import Budget, Statement, StatementResult, Statements, connect
from linkly_workers._sqlite.authorizer import Authorizer
from linkly_workers._sqlite.connection import LOOP_VALUE_BYTES, is_final
from linkly_workers._sqlite.execution import (
    ROW_BYTES,
    VALUE_BYTES,
    ResultTooLarge,
    compile_only,
    has_damaged,
    row_bytes,
)
from linkly_workers._sqlite.loop_time import QUICK_S, loop_time
from linkly_workers._sqlite.statement import LENGTH_LIMIT
from linkly_workers.database.batches import Batches
from linkly_workers.database.sqlite.errors import is_write

LOOP_READ_S = 0.002
"""A statement that takes longer on the loop's thread is stopped and read again on another one."""

ROWS_AT_ONCE = 64
SLOW_RUNS = 100
"""So often a statement that was slow goes straight to a thread, before it is tried on the loop's again."""

FREEZE_S = 0.010
"""A statement that took so long although it can be stopped after 2 ms did it in one step."""

FREEZE_RUNS = 10 * SLOW_RUNS

CHECK_STEPS = 100_000
"""Steps of SQLite's virtual machine between two looks at whether a query on a thread is still wanted: about 3 ms. Each
look takes the interpreter from the loop."""

NICENESS = 10
"""Of the threads: ten long queries must not take the processor from the loop. Measured with a flood of slow SELECTs on
two cores: a click p50 76 -> 27 ms; with 5 in place of 10 72 ms."""


class LoopReader:
    """Reads on the loop's thread: a point SELECT takes 6-9 us there, a hop to another thread 40-400."""

    def __init__(self, path: str, statements: Statements, max_result_bytes: int | None = None) -> None:
        self._connection = connect(
            path, read_only=True, busy_timeout_ms=0, max_result_bytes=max_result_bytes, statements=statements
        )
        self._budget = Budget(self._connection)
        self._loop_time = loop_time()
        # So many values cannot be more than the limit, so nobody counts their bytes.
        self._few_values = self._connection.max_result_bytes // (LOOP_VALUE_BYTES + ROW_BYTES + VALUE_BYTES)

    def read(self, statement: Statement, parameters: list[Any]) -> StatementResult | None:
        """Run a statement for its rows; `None`: it has to be done on a thread.

        Raises:
            sqlite3.Error: It failed and would anywhere, or it writes.
        """
        if statement.runs_on_thread:
            statement.runs_on_thread -= 1
            return None
        if len(statement.text) > LENGTH_LIMIT:
            return None  # the connection of a thread keeps no compiled statements
        time = self._loop_time
        allowed_s = min(LOOP_READ_S, time.left_s)
        if allowed_s < QUICK_S:
            return None  # others have used up this turn of the loop
        until = self._budget.allow(allowed_s)
        cursor: sqlite3.Cursor | None = None
        try:
            cursor = self._connection.execute(*statement.bound(parameters))
            rows: list[tuple[Any, ...]] = []
            columns = [column[0] for column in cursor.description or ()]
            few = self._few_values // (len(columns) or 1)
            limit, size = self._connection.max_result_bytes, 0
            while found := cursor.fetchmany(ROWS_AT_ONCE):
                rows += found
                if len(rows) > few:
                    size += sum(map(row_bytes, found if size else rows))
                    if size > limit:
                        raise ResultTooLarge(limit)
                if len(found) < ROWS_AT_ONCE:
                    break
                if self._budget.exhausted:
                    cursor.close()
                    self._stopped(statement, allowed_s)
                    return None
            over = perf_counter() - until
            if over > QUICK_S - allowed_s:
                time.spend(over + allowed_s)
                if over > FREEZE_S:
                    statement.runs_on_thread = FREEZE_RUNS
            return StatementResult(columns, rows, 0, None, has_damaged(self._connection.damaged))
        except sqlite3.Error as error:
            if cursor is not None:
                cursor.close()  # the error keeps it alive, and with it a snapshot that the log could not be folded past
            self._connection.authorizer.explain(error)
            if is_final(error) or is_write(error):
                time.spend(perf_counter() - until + allowed_s)
                raise
            self._stopped(statement, allowed_s)
            return None

    def check(self, statement: Statement) -> None:
        """Compile a statement without running it.

        Raises:
            sqlite3.Error: It cannot be compiled.
        """
        self._budget.lift()  # newer SQLite looks at the clock while it compiles, too
        compile_only(self._connection, statement)

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    def _stopped(self, statement: Statement, allowed_s: float) -> None:
        """A statement has not ended in its time; one that had less than others may be quick in another turn."""
        self._loop_time.spend(perf_counter() - self._budget.limit + allowed_s)
        if allowed_s == LOOP_READ_S:
            statement.runs_on_thread = SLOW_RUNS


class Reader:
    """One connection with a thread of its own, whose statement can be stopped at any moment; one query at a time."""

    def __init__(self, path: str, statements: Statements, max_result_bytes: int | None = None) -> None:
        self._path = path
        self._statements = statements
        self._max_result_bytes = max_result_bytes
        self._left_bytes = 0
        self._damaged: list[bytes] = []
        self._stopped = False
        self._authorizer: Authorizer | None = None
        self._connection = aiosqlite.Connection(self._connect, iter_chunk_size=64)
        self._opening: asyncio.Future[aiosqlite.Connection] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has been connected, or tried to."""
        return self._opening is not None

    async def open(self) -> None:
        """Connect.

        A cancelled caller has to `close` as well: the thread opens the connection all the same.

        Raises:
            sqlite3.Error: The file cannot be opened.
        """
        self._opening = asyncio.ensure_future(self._connection)
        await asyncio.shield(self._opening)

    async def read(self, statement: Statement, parameters: list[Any]) -> StatementResult:
        """Run a statement for its rows.

        A cancelled caller stops the statement within microseconds; afterwards the reader can only be closed.

        Raises:
            sqlite3.Error: It failed, for example because it writes.
        """
        cursor: aiosqlite.Cursor | None = None
        self._left_bytes = 0 if self._max_result_bytes is None else self._max_result_bytes
        try:
            cursor = await self._connection.execute(*statement.bound(parameters))
            columns = [column[0] for column in cursor.description or ()]
            rows: Any = await cursor.fetchall()
            await cursor.close()
            return StatementResult(columns, rows, 0, None, has_damaged(self._damaged))
        except asyncio.CancelledError:
            self._stopped = True
            raise
        except sqlite3.Error as error:
            if cursor is not None:
                await cursor.close()
            if self._authorizer is not None:
                self._authorizer.explain(error)
            raise

    async def stream(
        self, statement: Statement, parameters: list[Any], take: Callable[[StatementResult], Awaitable[None]]
    ) -> None:
        """Run a statement and hand its rows over; a cancelled caller as in `read`.

        Raises:
            sqlite3.Error: It failed, for example because it writes.
        """
        limit = self._left_bytes = 0 if self._max_result_bytes is None else self._max_result_bytes
        batches = Batches()
        cursor: aiosqlite.Cursor | None = None
        try:
            cursor = await self._connection.execute(*statement.bound(parameters))
            columns = [column[0] for column in cursor.description or ()]
            while True:
                rows: Any = await cursor.fetchmany(batches.rows)
                await take(StatementResult(columns, rows, 0, None, has_damaged(self._damaged)))
                if len(rows) < batches.rows:
                    break
                batches.came(len(rows), limit - self._left_bytes)
                self._left_bytes = limit
        except asyncio.CancelledError:
            self._stopped = True
            raise
        except sqlite3.Error as error:
            if self._authorizer is not None:
                self._authorizer.explain(error)
            raise
        finally:
            if cursor is not None and not self._stopped:
                await cursor.close()  # or its snapshot would stay

    def stop(self) -> None:
        """Stop the statement that runs; afterwards this can only be closed."""
        self._stopped = True

    async def close(self) -> None:
        """Disconnect, after the statement that runs; harmless if it could not connect."""
        if self._opening is not None:
            await asyncio.wait([self._opening])
            if self._opening.exception() is None:
                await self._connection.close()

    def _connect(self) -> sqlite3.Connection:
        if sys.platform == "linux":  # elsewhere it would be the whole process
            with contextlib.suppress(PermissionError):  # a sandbox may refuse it (systemd's `~@resources`)
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        connection = connect(
            self._path,
            read_only=True,
            cached_statements=0,
            max_result_bytes=self._max_result_bytes,
            statements=self._statements,
        )
        self._authorizer = connection.authorizer
        self._damaged = connection.damaged
        if self._max_result_bytes is not None:
            connection.row_factory = self._counted
        # `interrupt()` would miss a statement that is just about to start; the flag does not.
        connection.set_progress_handler(lambda: self._stopped, CHECK_STEPS)
        return connection

    def _counted(self, _: sqlite3.Cursor, row: tuple[Any, ...]) -> tuple[Any, ...]:
        self._left_bytes -= row_bytes(row)
        if self._left_bytes < 0:
            raise ResultTooLarge(self._max_result_bytes or 0)
        return row
