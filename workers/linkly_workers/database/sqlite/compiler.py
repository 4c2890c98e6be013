"""What SQLite's own compiler says of a statement: which table it changes, and which types its columns have.

The authorizer is told of every table a statement touches, what triggers do included. The statement's own target is the
first change that is not made on behalf of a trigger; an upsert's update and foreign keys' cascades come after it.
Declared types, which Python's sqlite3 does not tell, are asked of a temporary view.
"""

from __future__ import annotations

import sqlite3

from linkly_workers._sql.parameters import with_nulls
from linkly_workers._sql.tokens import SQLITE
from linkly_workers._sqlite import Connection, Statement, Statements, connect
from linkly_workers._sqlite.execution import compile_only
from linkly_workers._sqlite.statement import Op, Target
from linkly_workers._sqlite.text import TEXT_LIMIT

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
    found: list[tuple[int, str]] = []
    authorizer.changes = found
    try:
        compile_only(connection, statement, anew=True)
    except sqlite3.Error:
        pass  # what has just run but cannot be compiled again has no table any more
    finally:
        authorizer.changes = None
    for action, table in found:
        if not table.startswith("sqlite_"):
            return _OPS[action], table
    return "other", None


def describing(path: str, statements: Statements) -> Connection:
    """Open a connection that is asked for types alone."""
    return connect(path, read_only=True, busy_timeout_ms=0, cached_statements=0, statements=statements)


def can_learn(statement: Statement) -> bool:
    """Return whether it is worth while to `learn` the types of a statement."""
    return (
        statement.types is None and len(statement.text) <= TEXT_LIMIT and statement.word in ("SELECT", "WITH", "VALUES")
    )


def learn(connection: Connection, statement: Statement, count: int) -> list[str]:
    """Ask a connection, and keep what it says with the statement."""
    found = _ask(connection, statement.text)
    statement.types = found if len(found) == count else [""] * count
    return statement.types


def _ask(connection: Connection, sql: str) -> list[str]:
    # A temporary view is made of what this connection remembers of the schema; reading notices that it has changed.
    connection.execute("SELECT 1 FROM main.sqlite_schema LIMIT 1").fetchall()
    text = with_nulls(sql, SQLITE).rstrip().rstrip(";")
    authorizer = connection.authorizer
    authorizer.view = "linkly_types"
    try:
        connection.execute(f"CREATE TEMP VIEW linkly_types AS {text}")
    except (sqlite3.Error, sqlite3.Warning) as error:
        authorizer.explain(error)
        return []
    finally:
        authorizer.view = None
    try:
        return [row[2] for row in connection.own("PRAGMA temp.table_info(linkly_types)")]
    except sqlite3.Error:
        return []
    finally:
        connection.own("DROP VIEW temp.linkly_types")
