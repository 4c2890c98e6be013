"""Which table a statement changes, and how: asked of SQLite's own compiler, not of the text.

The authorizer is told of every table a statement touches, what triggers do included. The statement's own target is the
first change that is not made on behalf of a trigger; an upsert's update and foreign keys' cascades come after it.
"""

from __future__ import annotations

import sqlite3

from linkly_workers._sqlite import Connection, Statement
from linkly_workers._sqlite.statement import Op, Target
from linkly_workers.database.sqlite.reader import compile_only

_OPS: dict[int, Op] = {
    sqlite3.SQLITE_INSERT: "insert",
    sqlite3.SQLITE_UPDATE: "update",
    sqlite3.SQLITE_DELETE: "delete",
}


def target_of(connection: Connection, statement: Statement) -> Target:
    """Return operation and table of a statement; `other` without a table if it is none of the three."""
    if statement.target is None:
        statement.target = _compiled(connection, statement)
    return statement.target


def _compiled(connection: Connection, statement: Statement) -> Target:
    authorizer = connection.authorizer
    authorizer.attach(connection)  # what has been compiled before would not be told of again
    found: list[tuple[int, str]] = []
    authorizer.changes = found
    try:
        compile_only(connection, statement)
    except sqlite3.Error:
        pass  # what has just run but cannot be compiled again has no table any more
    finally:
        authorizer.changes = None
    for action, table in found:
        if not table.startswith("sqlite_"):
            return _OPS[action], table
    return "other", None
