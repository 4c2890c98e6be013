"""What tools ask of a database: which there are, what is in them, how a statement is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from linkly import function
from linkly.clock import Clock
from linkly.errors import NotFound
from linkly_workers.database.backends import OneDatabase
from linkly_workers.database.databases import Databases
from linkly_workers.database.shapes import Db, Explain
from linkly_workers.database.values import check_parameters, reading

TOOL_TIMEOUT_MS = 30_000


class Tools:
    """Functions for people and their tools."""

    clock: Clock

    def __init__(self, databases: Databases, settings: Mapping[str, OneDatabase], max_result_bytes: int) -> None:
        self._databases = databases
        self._settings = settings
        self._max_result_bytes = max_result_bytes

    @function("database::listDatabases", aliases=["iii-database::listDatabases"])
    async def list_databases(self) -> dict[str, Any]:
        """List the configured databases."""
        rows = [
            {
                "name": database.name,
                "driver": database.driver,
                "url": database.url,
                "pool": msgspec.to_builtins(self._settings[database.name].pool),
                "tls": msgspec.to_builtins(self._settings[database.name].tls),
                "waiting_writes": database.waiting_writes,
                "idle_connections": database.idle_connections,
                "max_result_bytes": self._max_result_bytes,
            }
            for database in self._databases
        ]
        return {"databases": rows, "count": len(rows)}

    @function("database::listTables", aliases=["iii-database::listTables"])
    async def list_tables(self, db: Db = None) -> dict[str, Any]:
        """List tables and views, by name.

        Args:
            db: Name of a configured database.
        """
        rows = await self._databases.find(db).tables()
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
        database = self._databases.find(db)
        found = await database.describe(table)
        if found is None:
            raise NotFound(f"database `{database.name}` has no table `{table}`; database::listTables lists them")
        return found

    @function("database::explain", aliases=["iii-database::explain"])
    async def explain(self, request: Explain) -> dict[str, Any]:
        """Say how the database would run a statement: one line a step, `parent` is the step it belongs to.

        Raises:
            InvalidParam: `analyze` is asked of a statement that writes.
            DriverError: The statement cannot be compiled.
        """
        database = self._databases.find(request.db)
        statement, parameters = database.statement(request.sql), check_parameters(request.params)
        plan = await database.plan(statement, parameters)
        if not request.analyze:
            return {"plan": plan}
        started = self.clock.monotonic()
        result = await reading(database, statement, parameters, TOOL_TIMEOUT_MS, "analyze runs the statement, so it is")
        took_ms = (self.clock.monotonic() - started) * 1000
        return {"plan": plan, "row_count": len(result.rows), "took_ms": took_ms}
