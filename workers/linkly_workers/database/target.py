"""Which table a statement changes, and how: asked of SQLite's own compiler, not of the text.

The authorizer is told of every table a statement touches, what triggers do included. The statement's own target is the
first change that is not made on behalf of a trigger; an upsert's update and foreign keys' cascades come after it.
"""

from __future__ import annotations

import sqlite3
from typing import Literal

from linkly_workers._sqlite.connection import guard_of
from linkly_workers.database.reader import compile_only

Op = Literal["insert", "update", "delete", "other"]
Target = tuple[Op, str | None]

_OPS: dict[int, Op] = {
    sqlite3.SQLITE_INSERT: "insert",
    sqlite3.SQLITE_UPDATE: "update",
    sqlite3.SQLITE_DELETE: "delete",
}


def target_of(connection: sqlite3.Connection, sql: str) -> Target:
    """Return operation and table of a statement; `other` without a table if it is none of the three."""
    found: list[Target] = []

    def authorize(action: int, first: str | None, _: str | None, schema: str | None, trigger: str | None) -> int:
        op = _OPS.get(action)
        if op is not None and trigger is None and not (first or "").startswith("sqlite_"):
            found.append((op, first))
        return sqlite3.SQLITE_OK

    connection.set_authorizer(authorize)
    try:
        compile_only(connection, sql)
    except sqlite3.Error:
        pass  # what has just run but cannot be compiled again has no table any more
    finally:
        guard_of(connection).attach(connection)
    return found[0] if found else ("other", None)
