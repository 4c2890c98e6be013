"""Connections that only read: one on the loop's thread for what is quick, others with a thread each for the rest."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
from time import perf_counter
from typing import Any

import aiosqlite

from linkly_workers._sqlite import Budget, Connection, StatementResult, connect
from linkly_workers._sqlite.connection import LOOP_VALUE_BYTES, is_final
from linkly_workers._sqlite.guard import Guard
from linkly_workers._sqlite.loop_time import QUICK_S, loop_time
from linkly_workers._sqlite.placeholders import bind
from linkly_workers._sqlite.statement import (
    ROW_BYTES,
    VALUE_BYTES,
    ResultTooLarge,
    has_damaged,
    note_long_text,
    row_bytes,
)
from linkly_workers._sqlite.text import TEXT_LIMIT, first_word

LOOP_READ_S = 0.002
"""What takes longer on the loop's thread is stopped there and read again on a thread."""

ROWS_AT_ONCE = 64
SLOW_LIMIT = 512
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

LOOP_TEXT_LIMIT = 4 * TEXT_LIMIT
"""Longer statements go to a thread, whose connection keeps no compiled ones."""


class LoopReader:
    """Reads on the loop's thread: a point SELECT takes 6-9 us there, a hop to another thread 40-400.

    Args:
        path: File name.
        max_result_bytes: A statement whose result is larger fails; `None`: no limit.
    """

    def __init__(self, path: str, max_result_bytes: int | None = None) -> None:
        self._connection = connect(path, read_only=True, busy_timeout_ms=0, max_result_bytes=max_result_bytes)
        self._budget = Budget(self._connection)
        self._loop_time = loop_time()
        # So many values cannot be more than the limit, so nobody counts their bytes.
        self._few_values = self._connection.max_result_bytes // (LOOP_VALUE_BYTES + ROW_BYTES + VALUE_BYTES)
        self._slow: dict[int, int] = {}  # by hash: a text may be megabytes

    @property
    def slow_statements(self) -> int:
        """Count the statements that go straight to a thread because they were slow here."""
        return len(self._slow)

    def read(self, sql: str, parameters: list[Any]) -> StatementResult | None:
        """Run a statement for its rows; `None`: it has to be done on a thread.

        Raises:
            sqlite3.Error: It failed and would anywhere, or it writes.
        """
        if (self._slow and self._is_slow(sql)) or len(sql) > LOOP_TEXT_LIMIT:
            return None
        time = self._loop_time
        allowed_s = min(LOOP_READ_S, time.left_s)
        if allowed_s < QUICK_S:
            return None  # others have used up this turn of the loop
        until = self._budget.allow(allowed_s)
        cursor: sqlite3.Cursor | None = None
        try:
            cursor = self._connection.execute(*bind(sql, parameters))
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
                    self._stopped(sql, allowed_s)
                    return None
            over = perf_counter() - until
            if over > QUICK_S - allowed_s:
                time.spend(over + allowed_s)
                if over > FREEZE_S:
                    self._remember(sql, FREEZE_RUNS)
            return StatementResult(columns, rows, 0, None, has_damaged(self._connection.damaged))
        except sqlite3.Error as error:
            if cursor is not None:
                cursor.close()  # the error keeps it alive, and with it a snapshot that the log could not be folded past
            self._connection.guard.explain(error)
            if is_final(error) or is_write(error):
                time.spend(perf_counter() - until + allowed_s)
                raise
            self._stopped(sql, allowed_s)
            return None

    def check(self, sql: str) -> None:
        """Compile a statement without running it.

        Raises:
            sqlite3.Error: It cannot be compiled.
        """
        self._budget.lift()  # newer SQLite looks at the clock while it compiles, too
        compile_only(self._connection, sql)

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    def _is_slow(self, sql: str) -> bool:
        key = hash(sql)
        runs = self._slow.get(key)
        if runs is None:
            return False
        if runs <= 0:
            del self._slow[key]
            return False
        self._slow[key] = runs - 1
        return True

    def _stopped(self, sql: str, allowed_s: float) -> None:
        """A statement has not ended in its time; one that had less than others may be quick in another turn."""
        self._loop_time.spend(perf_counter() - self._budget.limit + allowed_s)
        if allowed_s == LOOP_READ_S:
            self._remember(sql)

    def _remember(self, sql: str, runs: int = SLOW_RUNS) -> None:
        if len(self._slow) >= SLOW_LIMIT:
            del self._slow[next(iter(self._slow))]
        self._slow[hash(sql)] = runs


class Reader:
    """One connection with a thread of its own, whose statement can be stopped at any moment; one query at a time.

    Args:
        path: File name.
        max_result_bytes: A statement whose result is larger fails; `None`: no limit.
    """

    def __init__(self, path: str, max_result_bytes: int | None = None) -> None:
        self._path = path
        self._max_result_bytes = max_result_bytes
        self._left_bytes = 0
        self._damaged: list[bytes] = []
        self._stopped = False
        self.idle_since = 0.0
        self._guard: Guard | None = None
        self._connection = aiosqlite.Connection(self._connect, iter_chunk_size=64)
        self._opening: asyncio.Future[aiosqlite.Connection] | None = None

    async def open(self) -> None:
        """Connect.

        A cancelled caller has to `close` as well: the thread comes to its end, and only then there is what to close.

        Raises:
            sqlite3.Error: The file cannot be opened.
        """
        self._opening = asyncio.ensure_future(self._connection)
        await asyncio.shield(self._opening)

    async def read(self, sql: str, parameters: list[Any]) -> StatementResult:
        """Run a statement for its rows.

        A cancelled caller stops the statement within microseconds; afterwards the reader can only be closed.

        Raises:
            sqlite3.Error: It failed, for example because it writes.
        """
        cursor: aiosqlite.Cursor | None = None
        self._left_bytes = 0 if self._max_result_bytes is None else self._max_result_bytes
        try:
            cursor = await self._connection.execute(*bind(sql, parameters))
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
            if self._guard is not None:
                self._guard.explain(error)
            raise

    async def close(self) -> None:
        """Disconnect, after the statement that runs; harmless if it could not connect."""
        if self._opening is not None:
            await asyncio.wait([self._opening])
            if self._opening.exception() is None:
                await self._connection.close()

    def _connect(self) -> sqlite3.Connection:
        if sys.platform == "linux":  # elsewhere it would be the whole process
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        connection = connect(self._path, read_only=True, cached_statements=0, max_result_bytes=self._max_result_bytes)
        self._guard = connection.guard
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


def is_write(error: BaseException) -> bool:
    """Tell whether a reading connection refused a statement because it writes: not known by its text."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY


def compile_only(connection: Connection, sql: str) -> None:
    """Compile a statement without running it.

    Raises:
        sqlite3.Error: It cannot be compiled, or is more than one.
    """
    if len(sql) > TEXT_LIMIT:
        note_long_text(connection, sql)
    try:
        connection.execute(sql if first_word(sql) == "EXPLAIN" else "EXPLAIN " + sql).close()
    except sqlite3.Error as error:
        # Missing values are found out after it has been compiled.
        if not isinstance(error, sqlite3.ProgrammingError) or "bindings" not in str(error):
            connection.guard.explain(error)
            raise
