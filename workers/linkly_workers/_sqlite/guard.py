"""What callers' statements must not do to a connection that others use as well, asked of SQLite's own compiler.

Text can be written so that a check of text does not see it (a comment between two words, quotes, a byte order mark).
SQLite tells an authorizer what a statement is about to do while it compiles it, so the cost is one of compiling and not
of running. A statement of the writer itself (BEGIN, COMMIT, PRAGMA) is compiled while the guard is off.

The statement cache could hand out one that was compiled with the guard off. Only a text that equals one of ours to the
letter can do that, and those are so plain that the check of text refuses them.
"""

from __future__ import annotations

import sqlite3

HARMLESS_PRAGMAS = frozenset(
    [
        "user_version",
        "application_id",
        "wal_checkpoint",
        "optimize",
        "incremental_vacuum",
        "integrity_check",
        "quick_check",
        "foreign_key_check",
        "foreign_key_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "table_info",
        "table_list",
        "table_xinfo",
    ]
)
"""What may be given a value; reading any of them harms nobody."""

CONTROL = (
    "is transaction control; database::transaction runs statements that belong together, "
    "database::beginTransaction opens a transaction over several calls"
)
SHARED = "would change the connection that all callers share, and what an answered write survives; configure it instead"
TEMPORARY = (
    "makes or drops something TEMP, which would be everybody's until the engine stops, because callers share "
    "connections, and would never be in the file; use an ordinary table"
)

_CONTROL = frozenset((sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT))
_FILES = {sqlite3.SQLITE_ATTACH: "ATTACH", sqlite3.SQLITE_DETACH: "DETACH"}
_TEMPORARY = frozenset(
    (
        sqlite3.SQLITE_CREATE_TEMP_INDEX,
        sqlite3.SQLITE_CREATE_TEMP_TABLE,
        sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
        sqlite3.SQLITE_CREATE_TEMP_VIEW,
        sqlite3.SQLITE_DROP_TEMP_INDEX,
        sqlite3.SQLITE_DROP_TEMP_TABLE,
        sqlite3.SQLITE_DROP_TEMP_TRIGGER,
        sqlite3.SQLITE_DROP_TEMP_VIEW,
    )
)
_MADE = frozenset(
    (
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_CREATE_TABLE,
        sqlite3.SQLITE_CREATE_TRIGGER,
        sqlite3.SQLITE_CREATE_VIEW,
        sqlite3.SQLITE_CREATE_VTABLE,
    )
)
"""Temporary, too, when they are made in the schema `temp`."""

NO_ROWID, ROWID, SOMETIMES_ROWID = 1, 2, 3
"""What a statement does to `last_insert_rowid()` when it changes rows; upserts only sometimes insert."""

_TABLES = frozenset((sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_ALTER_TABLE))


class Guard:
    """The authorizer of one connection.

    Attributes:
        on: What is compiled now is a caller's.
        inserted: The table that the last compiled INSERT names; whoever wants to know sets it to `None` before.
        kinds: What statements do to `last_insert_rowid()`, by text; forgotten when tables change.
    """

    __slots__ = ("_refused", "inserted", "kinds", "on")

    def __init__(self) -> None:
        self.on = False
        self.inserted: str | None = None
        self.kinds: dict[str, int] = {}
        self._refused = ""

    def attach(self, connection: sqlite3.Connection) -> None:
        """Become the authorizer of a connection; everything it has compiled is compiled again."""
        connection.set_authorizer(self._authorize)

    def explain(self, error: BaseException) -> None:
        """Say in an error of SQLite, `not authorized`, what was refused and what to do."""
        # Not by its code: with an outdated schema SQLite says SQLITE_SCHEMA, or no code at all.
        if self._refused and isinstance(error, sqlite3.Error) and str(error) == "not authorized":
            error.args = (self._refused,)
            error.sqlite_errorcode = sqlite3.SQLITE_AUTH
            error.sqlite_errorname = "SQLITE_AUTH"

    def _authorize(
        self, action: int, first: str | None, second: str | None, schema: str | None, trigger: str | None
    ) -> int:
        if not self.on:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_INSERT:
            if self.inserted is None and trigger is None:
                self.inserted = first
        elif action in _TEMPORARY or (schema == "temp" and action in _MADE):
            return self._refuse(f"`{first}`: the statement {TEMPORARY}")
        elif action in _TABLES:
            self.kinds.clear()
        elif action in _CONTROL:
            return self._refuse(f"`{first}` {CONTROL}")
        elif action == sqlite3.SQLITE_PRAGMA:
            if second is not None and (first or "").lower() not in HARMLESS_PRAGMAS:
                return self._refuse(f"`PRAGMA {first}` with a value {SHARED}")
        elif action in _FILES:
            return self._refuse(f"`{_FILES[action]}` {SHARED}")
        return sqlite3.SQLITE_OK

    def _refuse(self, why: str) -> int:
        self._refused = why
        return sqlite3.SQLITE_DENY
