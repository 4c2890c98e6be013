"""Connections and statements as every part of linkly uses them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import msgspec

from linkly_workers._sqlite.guard import Guard
from linkly_workers._sqlite.text import first_word, remembered, runs_alone

Durability = Literal["power", "process"]

LOOP_CHECK_STEPS = 250
"""Steps of SQLite's virtual machine between two looks at the clock, on the loop's thread: about 10 us."""

THREAD_CHECK_STEPS = 10_000
"""The same on a thread, where each look has to wait for the interpreter's lock: about 0.3 ms."""

LOOP_VALUE_BYTES = 1_000_000
"""No value is larger on the loop's thread: one step of SQLite cannot be stopped, so it must not be long."""

ANY_VALUE_BYTES = 1_000_000_000


class StatementResult(msgspec.Struct):
    """What one statement did.

    Attributes:
        columns: Names of the result's columns, empty for a statement without a result.
        rows: Its rows.
        affected_rows: Rows inserted, updated or deleted by the statement itself, not by triggers or foreign keys.
        last_insert_id: Rowid of the last row an INSERT made, `None` for other statements and when there is no such row.
    """

    columns: list[str]
    rows: list[tuple[Any, ...]]
    affected_rows: int
    last_insert_id: int | None


class Connection(sqlite3.Connection):
    """A connection with the guard that callers' statements pass.

    Attributes:
        guard: Off until somebody lets callers' SQL in.
    """

    __slots__ = ("guard",)

    guard: Guard


def connect(
    path: str, *, durability: Durability = "power", read_only: bool = False, busy_timeout_ms: int = 5000
) -> Connection:
    """Open a connection: WAL, foreign keys, no implicit transactions.

    Args:
        path: File name, or `:memory:`.
        durability: `power` (synchronous=FULL, a commit survives a power cut) or `process` (NORMAL, kill -9).
        read_only: Refuse writes.
        busy_timeout_ms: How long SQLite waits for another process's lock.

    Raises:
        sqlite3.Error: The file cannot be opened, or is no database.
        OSError: Its folder cannot be made.
    """
    if path != ":memory:" and not read_only:
        Path(path).resolve().parent.mkdir(parents=True, exist_ok=True)
    uri = "file::memory:" if path == ":memory:" else Path(path).resolve().as_uri()
    connection = sqlite3.connect(
        f"{uri}?mode=ro" if read_only else uri,
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=5,
        cached_statements=256,
        factory=Connection,
    )
    try:
        connection.guard = Guard()
        connection.guard.attach(connection)
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def guard_of(connection: sqlite3.Connection) -> Guard:
    """Return the guard of a connection that `connect` has made."""
    assert isinstance(connection, Connection)
    return connection.guard


def execute(
    connection: sqlite3.Connection, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()
) -> StatementResult:
    """Run one statement of a caller on a connection and read all of its result.

    Raises:
        sqlite3.Error: It failed, or it would do what the guard refuses.
    """
    assert isinstance(connection, Connection)
    guard = connection.guard
    before = guard.on
    guard.on = first_word(sql) != "VACUUM" if runs_alone(sql) else True  # VACUUM itself attaches a second file
    try:
        return run_statement(connection, sql, parameters)
    finally:
        guard.on = before


def run_statement(connection: Connection, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> StatementResult:
    """Run one statement while the guard is on, or one of our own."""
    before = connection.total_changes
    try:
        cursor = connection.execute(sql, parameters)
    except sqlite3.Error as error:
        connection.guard.explain(error)
        raise
    description = cursor.description
    if description is None:
        columns: list[str] = []
        rows: list[tuple[Any, ...]] = []
    else:
        columns = [column[0] for column in description]
        rows = cursor.fetchall()
    affected = cursor.rowcount
    if affected < 0:
        # sqlite3 counts only statements that start with INSERT, UPDATE, DELETE or REPLACE, not `WITH ... INSERT`.
        # total_changes alone would count what triggers and foreign keys did as well.
        affected = 0
        if connection.total_changes != before:
            affected = connection.execute("SELECT changes()").fetchone()[0]
    if affected and inserts(sql):
        return StatementResult(columns, rows, affected, cursor.lastrowid)
    return StatementResult(columns, rows, affected, None)


@remembered
def inserts(sql: str) -> bool:
    """Tell whether a statement that changed rows is an INSERT (or REPLACE), by its first word."""
    return first_word(sql) in ("INSERT", "REPLACE")


class Budget:
    """Stops the statements of one connection: at a time on the loop's thread, at a caller's wish on others.

    Not `interrupt()`: called from another thread it may hit the statement before or after the one that is meant.

    Args:
        connection: Whose progress handler this is from now on.

    Attributes:
        limit: The time, by `perf_counter`, at which what runs on the loop's thread is stopped.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.limit = inf
        self.on_loop()

    def on_loop(self) -> None:
        """Prepare the connection for the loop's thread: whatever runs there ends at `allow`'s time."""
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LOOP_VALUE_BYTES)
        self._connection.set_progress_handler(self._is_late, LOOP_CHECK_STEPS)

    def on_thread(self, unwanted: Callable[[], bool]) -> None:
        """Prepare the connection for another thread: no limits, but a statement stops when `unwanted` says so."""
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, ANY_VALUE_BYTES)
        self._connection.set_progress_handler(unwanted, THREAD_CHECK_STEPS)

    def allow(self, seconds: float) -> None:
        """Give what runs next on the loop's thread this much time."""
        self.limit = perf_counter() + seconds

    def lift(self) -> None:
        """Give what runs next all the time it needs: BEGIN, COMMIT and ROLLBACK must not be stopped half-way.

        An interrupted BEGIN IMMEDIATE leaves its transaction open.
        """
        self.limit = inf

    @property
    def exhausted(self) -> bool:
        """Whether the time is over."""
        return perf_counter() > self.limit

    def _is_late(self) -> bool:
        return perf_counter() > self.limit


def is_final(error: BaseException) -> bool:
    """Tell whether a statement that failed on the loop's thread would fail anywhere.

    Everything else (too long, too large, a lock, the disk) is decided by a second attempt on a thread.
    """
    if not isinstance(error, sqlite3.OperationalError | sqlite3.DataError):
        return True
    # SQLITE_ERROR: the statement is wrong. SQLITE_AUTH: the guard.
    return getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_AUTH)
