"""Declared types of a query's columns, which Python's sqlite3 does not tell: asked of a temporary view."""

from __future__ import annotations

import re
import sqlite3

from linkly_workers._sqlite import connect

LIMIT = 1024

_PARAMETERS = re.compile(
    r"""('(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/)|\?\d*|[:@$][A-Za-z_]\w*""", re.DOTALL
)


class ColumnTypes:
    """Types by SQL text; on a connection of its own, because a new view makes a connection compile everything again.

    Args:
        path: File name.
    """

    def __init__(self, path: str) -> None:
        self._connection = connect(path, read_only=True, busy_timeout_ms=0)
        self._known: dict[str, list[str]] = {}

    def of(self, sql: str, count: int) -> list[str]:
        """Return the types, `""` where SQLite does not say (and for everything but SELECT)."""
        known = self._known.get(sql)
        if known is None or len(known) != count:
            if len(self._known) >= LIMIT:
                self._known.clear()
            known = self._ask(sql)
            if len(known) != count:
                known = [""] * count
            self._known[sql] = known
        return known

    def forget(self) -> None:
        """The schema has changed."""
        self._known.clear()

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    def _ask(self, sql: str) -> list[str]:
        # A temporary view is made of what this connection remembers of the schema; reading notices that it has changed.
        self._connection.execute("SELECT 1 FROM main.sqlite_schema LIMIT 1").fetchall()
        text = _PARAMETERS.sub(lambda found: found[1] or "NULL", sql).rstrip().rstrip(";")
        try:
            self._connection.execute(f"CREATE TEMP VIEW linkly_types AS {text}")
        except (sqlite3.Error, sqlite3.Warning):
            return []
        try:
            return [row[2] for row in self._connection.execute("PRAGMA temp.table_info(linkly_types)")]
        except sqlite3.Error:
            return []
        finally:
            self._connection.execute("DROP VIEW temp.linkly_types")
