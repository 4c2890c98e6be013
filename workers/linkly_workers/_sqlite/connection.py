"""Connections and statements as every part of linkly uses them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from math import inf
from pathlib import Path
from secrets import token_hex
from time import perf_counter
from typing import Literal, LiteralString

from linkly_workers._sqlite.authorizer import Authorizer
from linkly_workers._sqlite.statement import Statements

Durability = Literal["power", "process"]

LOOP_CHECK_STEPS = 250
"""Steps of SQLite's virtual machine between two looks at the clock, on the loop's thread: about 10 us."""

THREAD_CHECK_STEPS = 10_000
"""The same on a thread, where each look has to wait for the interpreter's lock: about 0.3 ms."""

LOOP_VALUE_BYTES = 16_384
"""No value is larger on the loop's thread: one step of SQLite cannot be stopped, so it must not be long.

The longest steps that callers can write grow with the square of it (rtrim: 65 ms, and 1 s with four times as much) or
fill all of a row's 2000 columns (65 ms, and 250)."""

OWN_BYTES = 1_000_000
"""The same for SQL of our own, of which it is known that its steps are short."""

ANY_VALUE_BYTES = 64 * 1024 * 1024
"""No value is larger anywhere unless results may be: Python copies it while it holds the interpreter's lock, so one of
200 MB stops the loop for seconds whichever thread it is made on."""

MOST_VALUE_BYTES = 1_000_000_000
"""What SQLite is built for; for SQL of our own."""

NO_LIMIT = 2**62

LOOP_PATTERN_BYTES = 256
"""No pattern of LIKE and GLOB is longer on the loop's thread: a thousand wildcards take seconds, in one step."""

ANY_PATTERN_BYTES = 50_000

CACHED_STATEMENTS = 256


_MARK = f" -- {token_hex(8)}"
"""Ends every statement of ours. Python keeps compiled statements by their text: a caller, who does not know the mark,
cannot be handed one that was compiled while the authorizer was lifted."""


class DamagedText(bytes):
    """A text of the database that is not UTF-8: others, and CAST, may put anything into a TEXT column."""

    def text(self) -> str:
        """Return it with U+FFFD where it is not UTF-8."""
        return self.decode(errors="replace")


class Connection(sqlite3.Connection):
    """A connection whose statements pass an authorizer, except `own` ones.

    Attributes:
        authorizer: What callers' statements pass.
        damaged: Not empty once something has been read that is a `DamagedText`; whoever has read it empties it.
        statements: What is known of the statements of its database; its connections share it.
        shared_cursor: The cursor that statements run on; making one for each costs an eighth of a small statement.
        left_rows: The statement that failed last has changed rows all the same.
        long_texts: Characters of long statements that the statement cache may hold.
        max_result_bytes: A statement whose result is larger fails, see `execution.row_bytes`.
        result_bytes: How large the last result was.
    """

    __slots__ = (
        "authorizer",
        "damaged",
        "left_rows",
        "long_texts",
        "max_result_bytes",
        "result_bytes",
        "shared_cursor",
        "statements",
    )

    authorizer: Authorizer
    damaged: list[bytes]
    statements: Statements
    shared_cursor: sqlite3.Cursor
    left_rows: bool
    long_texts: int
    max_result_bytes: int
    result_bytes: int

    def own(self, sql: LiteralString, number: int | None = None) -> sqlite3.Cursor:
        """Run a statement of ours, which the authorizer does not see; `number` stands at its end.

        `sql` is a literal of the source code, so that no caller can have written it; pyright checks that.

        Raises:
            sqlite3.Error: It failed.
        """
        authorizer = self.authorizer
        authorizer.lifted = True
        try:
            return self.execute(sql + _MARK if number is None else f"{sql}{number:d}{_MARK}")
        finally:
            authorizer.lifted = False


def connect(
    path: str,
    *,
    durability: Durability = "power",
    read_only: bool = False,
    busy_timeout_ms: int = 5000,
    cached_statements: int = CACHED_STATEMENTS,
    max_result_bytes: int | None = None,
    statements: Statements | None = None,
) -> Connection:
    """Open a connection: WAL, foreign keys, no implicit transactions.

    Args:
        path: File name, or `:memory:`.
        durability: `power` (synchronous=FULL, a commit survives a power cut) or `process` (NORMAL, kill -9).
        read_only: Refuse writes.
        busy_timeout_ms: How long SQLite waits for another process's lock.
        cached_statements: How many compiled statements are kept, however large.
        max_result_bytes: A statement whose result is larger fails; `None` for SQL of our own, which is not limited.
        statements: Of its database; by default some of its own.

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
        cached_statements=cached_statements,
        factory=Connection,
    )
    try:
        connection.statements = Statements() if statements is None else statements
        connection.authorizer = Authorizer(connection.statements.forget_tables)
        connection.damaged = []
        connection.text_factory = _text_reader(connection.damaged)
        connection.shared_cursor = connection.cursor()
        connection.left_rows = False
        connection.long_texts = 0
        connection.max_result_bytes = NO_LIMIT if max_result_bytes is None else max_result_bytes
        connection.result_bytes = 0
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, largest_value_bytes(connection))
        connection.authorizer.attach(connection)
        if not read_only:
            connection.own("PRAGMA journal_mode = WAL")
            connection.own("PRAGMA synchronous = FULL" if durability == "power" else "PRAGMA synchronous = NORMAL")
        connection.own("PRAGMA foreign_keys = ON")
        connection.own("PRAGMA busy_timeout = ", busy_timeout_ms)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _text_reader(damaged: list[bytes]) -> Callable[[bytes], str | DamagedText]:
    """Return what makes Python values of SQLite's texts; as quick as sqlite3's own, which fails the whole result."""

    def read(data: bytes) -> str | DamagedText:
        try:
            return data.decode()
        except UnicodeDecodeError:
            if not damaged:
                damaged.append(data)
            return DamagedText(data)

    return read


def largest_value_bytes(connection: Connection) -> int:
    """Return how large a value may be, on any thread."""
    limit = connection.max_result_bytes
    return MOST_VALUE_BYTES if limit == NO_LIMIT else min(max(ANY_VALUE_BYTES, limit), MOST_VALUE_BYTES)


class Budget:
    """Stops the statements of one connection: at a time on the loop's thread, at a caller's wish on others.

    Not `interrupt()`: called from another thread it may hit the statement before or after the one that is meant.

    Args:
        connection: Whose progress handler this is from now on.
        value_bytes: The largest value on the loop's thread.

    Attributes:
        limit: The time, by `perf_counter`, at which what runs on the loop's thread is stopped.
    """

    def __init__(self, connection: Connection, value_bytes: int = LOOP_VALUE_BYTES) -> None:
        self._connection = connection
        self._value_bytes = value_bytes
        self.limit = inf
        self.on_loop()

    def on_loop(self) -> None:
        """Prepare the connection for the loop's thread: a statement stops at the time that `allow` sets."""
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, self._value_bytes)
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, LOOP_PATTERN_BYTES)
        self._connection.set_progress_handler(self._is_late, LOOP_CHECK_STEPS)

    def on_thread(self, unwanted: Callable[[], bool]) -> None:
        """Prepare the connection for another thread: large values, and a statement stops when `unwanted` says so."""
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, largest_value_bytes(self._connection))
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, ANY_PATTERN_BYTES)
        self._connection.set_progress_handler(unwanted, THREAD_CHECK_STEPS)

    def allow(self, seconds: float) -> float:
        """Give what runs next on the loop's thread this much time; return when it ends."""
        self.limit = limit = perf_counter() + seconds
        return limit

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
    """Return whether a statement that failed on the loop's thread would fail anywhere.

    Everything else (too long, too large, a lock, the disk) is decided by a second attempt on a thread.
    """
    if not isinstance(error, sqlite3.OperationalError | sqlite3.DataError):
        return True
    if "pattern too complex" in str(error):
        return False
    # SQLITE_ERROR: the statement is wrong. SQLITE_AUTH: the authorizer. None: Python could not decode a text.
    return getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_AUTH, None)


def is_locked(error: BaseException) -> bool:
    """Return whether a statement failed because another program holds a lock."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def is_too_large(error: BaseException | None) -> bool:
    """Return whether a statement failed because a value is larger than the connection's limit."""
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_TOOBIG
