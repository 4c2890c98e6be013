"""Declared types of a query's columns, which Python's sqlite3 does not tell: asked of a temporary view."""

from __future__ import annotations

import sqlite3

from linkly_workers._sqlite import Connection, connect
from linkly_workers._sqlite.placeholders import TOKENS
from linkly_workers._sqlite.text import TEXT_LIMIT, first_word

LIMIT = 1024


class ColumnTypes:
    """Types by SQL text; on a connection of its own, because a new view makes a connection compile everything again.

    A database in memory has one connection only, the writer's. There `learn` has to be called on it before.

    Args:
        path: File name, or `:memory:`.
    """

    def __init__(self, path: str) -> None:
        self._connection: Connection | None = None
        if path != ":memory:":
            self._connection = connect(path, read_only=True, busy_timeout_ms=0, cached_statements=0)
        self._known: dict[str, list[str]] = {}

    def of(self, sql: str, count: int) -> list[str]:
        """Return the types, `""` where SQLite does not say (and for everything but SELECT)."""
        known = self._known.get(sql)
        if known is None or len(known) != count:
            if self._connection is None:
                return [""] * count
            known = self.learn(self._connection, sql, count)
        return known

    def can_learn(self, sql: str) -> bool:
        """Tell whether it is worth while to `learn` a statement."""
        return sql not in self._known and len(sql) <= TEXT_LIMIT and first_word(sql) in ("SELECT", "WITH", "VALUES")

    def learn(self, connection: Connection, sql: str, count: int) -> list[str]:
        """Ask a connection, and remember what it says about short texts."""
        found = _ask(connection, sql)
        if len(found) != count:
            found = [""] * count
        if len(sql) <= TEXT_LIMIT:
            if len(self._known) >= LIMIT:
                self._known.clear()
            self._known[sql] = found
        return found

    def forget(self) -> None:
        """The schema has changed."""
        self._known.clear()

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            self._connection.close()


def _ask(connection: Connection, sql: str) -> list[str]:
    # A temporary view is made of what this connection remembers of the schema; reading notices that it has changed.
    connection.execute("SELECT 1 FROM main.sqlite_schema LIMIT 1").fetchall()
    text = TOKENS.sub(lambda found: found[1] or "NULL", sql).rstrip().rstrip(";")
    guard = connection.guard
    guard.view = "linkly_types"
    try:
        connection.execute(f"CREATE TEMP VIEW linkly_types AS {text}")
    except (sqlite3.Error, sqlite3.Warning) as error:
        guard.explain(error)
        return []
    finally:
        guard.view = None
    try:
        return [row[2] for row in connection.own("PRAGMA temp.table_info(linkly_types)")]
    except sqlite3.Error:
        return []
    finally:
        connection.own("DROP VIEW temp.linkly_types")
