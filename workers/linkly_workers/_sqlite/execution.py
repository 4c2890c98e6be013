"""Runs one statement, reads its result to the end and tells what it did."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import count
from typing import Any

import msgspec

from linkly_workers._sqlite.connection import CACHED_STATEMENTS, NO_LIMIT, Connection, DamagedText
from linkly_workers._sqlite.statement import NO_ROWID, ROWID, SOMETIMES_ROWID, Statement, Target
from linkly_workers._sqlite.text import TEXT_LIMIT

LONG_TEXTS = 8_000_000
"""Characters of long statements that the statement cache may hold: it counts statements and not their size."""


_INSERTING = ("INSERT", "REPLACE")
_CHANGING = frozenset(("WITH", "INSERT", "REPLACE", "UPDATE", "DELETE"))


ROW_BYTES, VALUE_BYTES = 64, 16
"""What a row and a value count in a result besides the length of texts and blobs."""

_ROWS_AT_ONCE = 64

_TOO_MANY = range(2**31 - 1)
"""More values than a statement can have: sqlite3 compiles it, refuses to bind them, and does not begin to run it."""

_COMPILED = count()


class ResultTooLarge(sqlite3.ProgrammingError):
    """A statement's result is larger than its connection allows; no more of it has been read."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the result is larger than max_result_bytes: {limit}; ask for fewer rows or columns (LIMIT), "
            "or raise the setting `max_result_bytes` of the database worker"
        )
        self.limit = limit


class StatementResult(msgspec.Struct):
    """What one statement did: a `Result` of the database worker's backends.

    Attributes:
        last_insert_id: Rowid of the last row an INSERT made, `None` for other statements and when there is no such row.
            An upsert (and an INSERT of more than 4096 characters) is told from one that inserted nothing by a rowid
            that differs from the one before; if they happen to be equal it is `None`, too.
        damaged: There are values of `DamagedText` among the rows.
    """

    columns: list[str]
    rows: list[tuple[Any, ...]]
    affected_rows: int
    last_insert_id: int | None
    damaged: bool = False
    types: Sequence[str] = ()
    change: Target | None = None

    @property
    def big_integers(self) -> Sequence[int]:
        """Return the places of all columns: SQLite has no other integers."""
        return range(len(self.columns))

    def readable(self, *, as_bytes: bool) -> list[tuple[Any, ...]]:
        """Return the rows, where texts that are not UTF-8 are bytes, or have U+FFFD where they are not."""
        if not self.damaged:
            return self.rows
        repair = bytes if as_bytes else DamagedText.text
        return [tuple(repair(value) if type(value) is DamagedText else value for value in row) for row in self.rows]


def execute(
    connection: Connection, sql: str | Statement, parameters: Sequence[Any] | dict[str, Any] = (), read_bytes: int = 0
) -> StatementResult:
    """Run one statement of a caller and read all of its result; `read_bytes` of the same answer have been read before.

    Raises:
        ResultTooLarge: The result, with what has been read before, is larger than the connection allows.
        sqlite3.Error: It failed, or it would do what the authorizer refuses.
    """
    statement = sql if isinstance(sql, Statement) else connection.statements.of(sql)
    if statement.vacuum:
        # It attaches a second file, which the authorizer refuses in callers' texts; so it is ours that runs.
        connection.own("VACUUM").close()
        return StatementResult([], [], 0, None)
    return run_statement(connection, statement, parameters, 0, read_bytes)


def run_statement(
    connection: Connection,
    statement: Statement,
    parameters: Sequence[Any] | dict[str, Any] = (),
    kind: int = 0,
    read_bytes: int = 0,
) -> StatementResult:
    """Run one statement that is not VACUUM.

    Raises:
        sqlite3.Error: It failed; `connection.left_rows` tells whether rows stay changed although it has.
    """
    if not kind:
        kind = statement.kind
        if not kind or kind == SOMETIMES_ROWID:
            return _run_comparing(connection, statement, parameters, kind, read_bytes)
    before = connection.total_changes
    cursor = connection.shared_cursor
    try:
        cursor.execute(*statement.bound(parameters))
        description = cursor.description
        if description is None:
            columns: list[str] = []
            connection.result_bytes = 0
            rows: list[tuple[Any, ...]] = []
        else:
            columns = [column[0] for column in description]
            rows = _read_rows(connection, cursor, read_bytes)
    except BaseException as error:
        # An unfinished statement would keep the transaction from being committed, for everybody.
        cursor.close()
        connection.shared_cursor = connection.cursor()
        connection.left_rows = connection.total_changes != before
        connection.authorizer.explain(error)
        raise
    affected = cursor.rowcount
    if affected < 0:
        # sqlite3 counts only statements that start with INSERT, UPDATE, DELETE or REPLACE, not `WITH ... INSERT`.
        # total_changes alone would count what triggers and foreign keys did as well, and CREATE VIRTUAL TABLE makes
        # rows in tables of its own.
        affected = 0
        if connection.total_changes != before and statement.word in _CHANGING:
            affected = connection.execute("SELECT changes()").fetchone()[0]
    inserted = cursor.lastrowid if affected and kind == ROWID else None
    return StatementResult(columns, rows, affected, inserted, has_damaged(connection.damaged) if rows else False)


def has_damaged(noted: list[bytes]) -> bool:
    """Return whether a connection has read a `DamagedText` since the last call; forgets it."""
    if not noted:
        return False
    noted.clear()
    return True


def row_bytes(row: tuple[Any, ...]) -> int:
    """Return what a row counts in a result, about the memory that it takes."""
    size = ROW_BYTES + VALUE_BYTES * len(row)
    for value in row:
        if type(value) is str or isinstance(value, bytes):
            size += len(value)
    return size


def _read_rows(connection: Connection, cursor: sqlite3.Cursor, read_bytes: int) -> list[tuple[Any, ...]]:
    limit = connection.max_result_bytes
    if limit == NO_LIMIT:
        return cursor.fetchall()
    rows: list[tuple[Any, ...]] = []
    size = 0
    while found := cursor.fetchmany(_ROWS_AT_ONCE):
        size += sum(map(row_bytes, found))
        if size + read_bytes > limit:
            raise ResultTooLarge(limit)
        rows += found
        if len(found) < _ROWS_AT_ONCE:
            break
    connection.result_bytes = size
    return rows


def _run_comparing(
    connection: Connection,
    statement: Statement,
    parameters: Sequence[Any] | dict[str, Any],
    kind: int,
    read_bytes: int,
) -> StatementResult:
    """Run a statement of which it is not known whether it makes rowids, and learn that."""
    authorizer = connection.authorizer
    if not kind:
        kind = _kind_by_text(statement)
        if len(statement.text) > TEXT_LIMIT:
            note_long_text(connection, statement.text)
    if kind == NO_ROWID:
        result = run_statement(connection, statement, parameters, NO_ROWID, read_bytes)
    else:
        previous = connection.execute("SELECT last_insert_rowid()").fetchone()[0]
        authorizer.inserted = None
        result = run_statement(connection, statement, parameters, ROWID, read_bytes)
        if kind == ROWID:
            kind = _kind_by_table(connection, statement)
        if kind == NO_ROWID or (kind != ROWID and result.last_insert_id == previous):
            result.last_insert_id = None
    statement.kind = kind
    return result


def _kind_by_text(statement: Statement) -> int:
    word, upper = statement.word, statement.text.upper()
    if word not in _INSERTING and not (word == "WITH" and any(each in upper for each in _INSERTING)):
        return NO_ROWID
    return SOMETIMES_ROWID if len(upper) > TEXT_LIMIT or "CONFLICT" in upper else ROWID


def _kind_by_table(connection: Connection, statement: Statement) -> int:
    """Return what a statement does that has just run and is no upsert; 0 if that cannot be found out now."""
    authorizer = connection.authorizer
    if authorizer.inserted is None:
        try:
            compile_only(connection, statement, anew=True)
        except sqlite3.Error:
            return 0  # an interrupt, for example; the statement has not failed
    table = authorizer.inserted  # none: WITH without INSERT
    return ROWID if table is not None and _has_rowid(connection, table) else NO_ROWID


def _has_rowid(connection: Connection, table: str) -> bool:
    """Return whether inserting into a table makes a rowid: not if it is WITHOUT ROWID, or a view."""
    found = connection.execute(
        "SELECT type IN ('table', 'virtual', 'shadow') AND NOT wr FROM pragma_table_list "
        "WHERE schema = 'main' AND name = ?",
        (table,),
    ).fetchone()
    return found is not None and bool(found[0])


def note_long_text(connection: Connection, sql: str) -> None:
    """Push long statements out of the statement cache once they are many megabytes together."""
    connection.long_texts += len(sql)
    if connection.long_texts > LONG_TEXTS:
        connection.long_texts = len(sql)
        for number in range(CACHED_STATEMENTS):
            connection.execute(f"SELECT {number}").close()


def compile_only(connection: Connection, statement: Statement, *, anew: bool = False) -> None:
    """Compile a statement without running it; not even its EXPLAIN runs, because that would set `changes()` to 0.

    Args:
        connection: Where.
        statement: What to compile.
        anew: Its authorizer is told of it, also if the connection has compiled it before.

    Raises:
        sqlite3.Error: It cannot be compiled, or is more than one.
    """
    sql = statement.text
    if len(sql) > TEXT_LIMIT:
        note_long_text(connection, sql)
    if statement.word != "EXPLAIN":
        sql = "EXPLAIN " + sql
    if anew:  # a text of its own, which no cache of compiled statements has
        sql = f"{sql} /*{next(_COMPILED)}*/"
    try:
        connection.execute(sql, _TOO_MANY).close()
    except sqlite3.Error as error:
        if not isinstance(error, sqlite3.ProgrammingError) or "bindings" not in str(error):
            connection.authorizer.explain(error)
            raise
