"""What callers' statements must not do to a connection that others use as well, asked of SQLite's own compiler.

Text can be written so that a check of text does not see it (a comment between two words, quotes, a byte order mark).
SQLite tells an authorizer what a statement is about to do while it compiles it, so the cost is one of compiling and not
of running. What a statement compiles while it runs (VACUUM attaches the file it writes) passes here as well.

The authorizer of a connection is on from its first statement to its last. Only `Connection.own` lifts it, for one
literal of our source code (BEGIN, COMMIT, a PRAGMA); nothing that a caller has sent can be given to it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable

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
OUTSIDE = "reaches outside the database, with the rights of the engine"
COPYING = f"`VACUUM INTO` writes a file and {OUTSIDE}; copy the file from outside, with `sqlite3 FILE '.backup COPY'`"
TEMPORARY = (
    "makes or drops something TEMP, which would be everybody's until the engine stops, because callers share "
    "connections, and would never be in the file; use an ordinary table"
)

_CONTROL = frozenset((sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT))
_FILES = {sqlite3.SQLITE_ATTACH: "`ATTACH` (`VACUUM INTO` does it, too)", sqlite3.SQLITE_DETACH: "`DETACH`"}
_OUTSIDE = frozenset(("load_extension", "fts3_tokenizer"))
"""Functions that run machine code of the caller's choice; SQLite has the first one switched off, the second not."""

_EVERYBODYS = "sqlite_stmt"
"""Shows the statements of all callers, with the values that stand in their texts."""

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

_CHANGES = frozenset((sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE))
_REFUSAL = re.compile(r"not authorized|authorization denied|access to .* is prohibited", re.DOTALL)
"""How SQLite says that an authorizer has refused something."""

_TABLES = frozenset((sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_ALTER_TABLE))


class Authorizer:
    """The authorizer of one connection.

    Args:
        tables_change: Called when a statement is compiled that makes, drops or alters a table.

    Attributes:
        lifted: What is compiled now is our own; for `Connection.own` alone.
        view: A TEMP view that may be made now, because its name is ours; nobody reads what it holds.
        changes: Takes note of (action, table) of what is compiled, what triggers do left out; `None` while nobody
            wants to know.
        inserted: The table that the last compiled INSERT names; whoever wants to know sets it to `None` before.
    """

    __slots__ = ("_refused", "_tables_change", "changes", "inserted", "lifted", "view")

    def __init__(self, tables_change: Callable[[], None]) -> None:
        self._tables_change = tables_change
        self.lifted = False
        self.view: str | None = None
        self.changes: list[tuple[int, str]] | None = None
        self.inserted: str | None = None
        self._refused = ""

    def attach(self, connection: sqlite3.Connection) -> None:
        """Become the authorizer of a connection; everything it has compiled is compiled again."""
        connection.set_authorizer(self._authorize)

    def explain(self, error: BaseException) -> None:
        """Say in an error of SQLite, `not authorized`, what was refused and what to do."""
        refused, self._refused = self._refused, ""  # a later statement's error is not explained by this one's
        # Not by its code: with an outdated schema SQLite says SQLITE_SCHEMA, or no code at all.
        if refused and isinstance(error, sqlite3.Error) and _REFUSAL.match(str(error)):
            error.args = (refused,)
            error.sqlite_errorcode = sqlite3.SQLITE_AUTH
            error.sqlite_errorname = "SQLITE_AUTH"

    def _authorize(
        self, action: int, first: str | None, second: str | None, schema: str | None, trigger: str | None
    ) -> int:
        if self.lifted:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ:
            if first == _EVERYBODYS:
                return self._refuse(f"`{first}` shows the statements of all callers, so it is nobody's to read")
            return sqlite3.SQLITE_OK
        if action in _CHANGES and trigger is None and self.changes is not None:
            self.changes.append((action, first or ""))
        if action == sqlite3.SQLITE_INSERT:
            if self.inserted is None and trigger is None:
                self.inserted = first
        elif action == sqlite3.SQLITE_FUNCTION:
            if (second or "").lower() in _OUTSIDE:
                return self._refuse(f"`{second}` {OUTSIDE}; it is never allowed")
        elif action == sqlite3.SQLITE_CREATE_TEMP_VIEW and first is not None and first == self.view:
            return sqlite3.SQLITE_OK
        elif action in _TEMPORARY or (schema == "temp" and action in _MADE):
            return self._refuse(f"`{first}`: the statement {TEMPORARY}")
        elif action in _TABLES:
            self._tables_change()
        elif action in _CONTROL:
            return self._refuse(f"`{first}` {CONTROL}")
        elif action == sqlite3.SQLITE_PRAGMA:
            if second is not None and (first or "").lower() not in HARMLESS_PRAGMAS:
                return self._refuse(f"`PRAGMA {first}` with a value {SHARED}")
        elif action in _FILES:
            return self._refuse(f"{_FILES[action]} {SHARED}")
        return sqlite3.SQLITE_OK

    def _refuse(self, why: str) -> int:
        self._refused = why
        return sqlite3.SQLITE_DENY
