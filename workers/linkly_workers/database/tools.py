"""What tools ask of a database: which there are, what is in them, how a statement is run."""

from __future__ import annotations

from typing import Any

import msgspec

from linkly import function
from linkly.errors import NotFound
from linkly_workers.database.base import DatabaseBase
from linkly_workers.database.errors import DriverError, InvalidParam
from linkly_workers.database.shapes import Db, Explain
from linkly_workers.database.sql import check_parameters, check_sql
from linkly_workers.database.sqlite import SqliteDatabase

TOOL_TIMEOUT_MS = 30_000

_TABLES = (
    "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'view', 'virtual') "
    "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
)
_COLUMNS = 'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid'
_INDEXES = 'SELECT name, "unique", origin, partial FROM pragma_index_list(?) ORDER BY seq'
_INDEX_COLUMNS = "SELECT name FROM pragma_index_info(?) ORDER BY seqno"
_FOREIGN_KEYS = (
    'SELECT id, "table", "from", "to", on_update, on_delete FROM pragma_foreign_key_list(?) ORDER BY id, seq'
)


class ToolFunctions(DatabaseBase):
    """Functions for people and their tools."""

    @function("database::listDatabases", aliases=["iii-database::listDatabases"])
    async def list_databases(self) -> dict[str, Any]:
        """List the configured databases."""
        rows = [
            {
                "name": name,
                "driver": database.driver,
                "url": f"sqlite:{database.path}",
                "pool": msgspec.to_builtins(self.settings.databases[name].pool),
                "tls": None,
                "waiting_writes": database.waiting_writes,
                "idle_connections": database.idle_readers,
            }
            for name, database in self._databases.items()
        ]
        return {"databases": rows, "count": len(rows)}

    @function("database::listTables", aliases=["iii-database::listTables"])
    async def list_tables(self, db: Db = None) -> dict[str, Any]:
        """List tables and views, by name.

        Args:
            db: Name of a configured database.
        """
        rows = await _rows(self._find(db), _TABLES)
        return {"tables": [{"name": name, "type": kind} for name, kind in rows], "count": len(rows)}

    @function("database::describeTable", aliases=["iii-database::describeTable"])
    async def describe_table(self, table: str, db: Db = None) -> dict[str, Any]:
        """Describe a table or view: columns, primary key, indexes, foreign keys.

        Args:
            table: Its name.
            db: Name of a configured database.

        Raises:
            NotFound: There is no such table.
        """
        database = self._find(db)
        found = [row for row in await _rows(database, _TABLES) if row[0].lower() == table.lower()]
        if not found:
            raise NotFound(f"database `{database.name}` has no table `{table}`; database::listTables lists them")
        name, kind = found[0]
        columns = await _rows(database, _COLUMNS, name)
        indexes = [
            {
                "name": index,
                "columns": [column for (column,) in await _rows(database, _INDEX_COLUMNS, index)],
                "unique": bool(unique),
                "partial": bool(partial),
                "primary_key": origin == "pk",
            }
            for index, unique, origin, partial in await _rows(database, _INDEXES, name)
        ]
        keys: dict[int, dict[str, Any]] = {}
        for number, other, column, their_column, on_update, on_delete in await _rows(database, _FOREIGN_KEYS, name):
            key = keys.setdefault(
                number,
                {"table": other, "columns": [], "references": [], "on_update": on_update, "on_delete": on_delete},
            )
            key["columns"].append(column)
            key["references"].append(their_column)
        primary_key = [row[0] for row in sorted(columns, key=lambda row: row[4]) if row[4]]
        # Only an INTEGER that is the whole key is the rowid, which is never NULL; SQLite lets any other key be NULL.
        rowid = primary_key[0] if len(primary_key) == 1 else None
        return {
            "name": name,
            "type": kind,
            "columns": [
                {
                    "name": column,
                    "type": declared,
                    "nullable": not not_null and not (column == rowid and declared.upper() == "INTEGER"),
                    "default": default,
                    "primary_key": bool(primary),
                    "generated": hidden in (2, 3),
                }
                for column, declared, not_null, default, primary, hidden in columns
                if hidden != 1
            ],
            "primary_key": primary_key,
            "indexes": indexes,
            "foreign_keys": list(keys.values()),
        }

    @function("database::explain", aliases=["iii-database::explain"])
    async def explain(self, request: Explain) -> dict[str, Any]:
        """Say how SQLite would run a statement: one line a step, `parent` is the step it belongs to.

        Raises:
            InvalidParam: `analyze` is asked of a statement that writes.
            DriverError: The statement cannot be compiled.
        """
        database = self._find(request.db)
        sql, parameters = check_sql(request.sql), check_parameters(request.params)
        steps = await database.query("EXPLAIN QUERY PLAN " + sql, parameters, TOOL_TIMEOUT_MS)
        plan = [{"id": row[0], "parent": row[1], "detail": row[3]} for row in steps.rows]
        if not request.analyze:
            return {"plan": plan}
        started = self.bus.clock.monotonic()
        try:
            result = await database.read_only(sql, parameters, TOOL_TIMEOUT_MS)
        except DriverError as error:
            if error.details.get("inner_code") != "SQLITE_READONLY":
                raise
            raise InvalidParam(
                "analyze runs the statement, so it is for statements that only read",
                details={"index": 0, "reason": "the statement writes"},
            ) from error
        took_ms = (self.bus.clock.monotonic() - started) * 1000
        return {"plan": plan, "row_count": len(result.rows), "took_ms": took_ms}


async def _rows(database: SqliteDatabase, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    return (await database.query(sql, list(parameters), TOOL_TIMEOUT_MS)).rows
