"""SQL over the bus (workers-data.md 7).

Differences from iii's worker, all on purpose: a write is answered when it is on disk; `timeout_ms` works on SQLite, and
for execute and transaction too; a cancelled caller stops its statement; an error is an error body with a code and
`details`, not JSON text inside a message; an integer beyond 64 bits is refused instead of losing digits; a statement is
checked when it is prepared; ATTACH, TEMP objects and PRAGMAs that would change the connections all callers share are
refused.

Writes of callers that wait at the same time share a commit. `changes()` and `last_insert_rowid()` mean what they say
between the statements of one transaction; before its first statement they may be a neighbour's.
"""

from __future__ import annotations

from typing import Any

from linkly import Readiness, function, readiness
from linkly_workers.database.errors import DriverError
from linkly_workers.database.sessions import SessionFunctions
from linkly_workers.database.shapes import (
    Column,
    Execute,
    ExecuteResult,
    Query,
    QueryResult,
    StatementOutcome,
    Transaction,
    TransactionResult,
)
from linkly_workers.database.sql import (
    as_rows,
    as_values,
    check_isolation,
    check_parameters,
    check_sql,
    check_statements,
)
from linkly_workers.database.tools import ToolFunctions


class DatabaseWorker(SessionFunctions, ToolFunctions):
    """Runs SQL on the configured databases."""

    @function("database::query", aliases=["iii-database::query"])
    async def query(self, request: Query) -> QueryResult:
        """Run one SQL statement and answer its rows.

        Raises:
            DriverError: The database refused it.
            QueryTimeout: It took longer than `timeout_ms`.
            UnknownDatabase: There is no such database.
        """
        database = self._find(request.db)
        sql = check_sql(request.sql)
        result = await database.query(
            sql, check_parameters(request.params), request.timeout_ms, self._changed(database, (sql,))
        )
        rows = as_rows(result, request.blobs, request.invalid_text)
        types = database.column_types(sql, len(result.columns))
        return QueryResult(
            rows, len(rows), [Column(name, kind) for name, kind in zip(result.columns, types, strict=True)]
        )

    @function("database::execute", aliases=["iii-database::execute"])
    async def execute(self, request: Execute) -> ExecuteResult:
        """Run one SQL statement that changes something; answered when it is on disk.

        Raises:
            DriverError: The database refused it.
            QueryTimeout: It took longer than `timeout_ms`; nothing was written.
            OutcomeUnknown: The disk has failed, or the file is gone: it may be written or not.
            DataFileLost: The file was deleted or replaced; nothing was written.
            UnknownDatabase: There is no such database.
        """
        database = self._find(request.db)
        sql = check_sql(request.sql)
        changed = self._changed(database, (sql,), request.origin)
        result = await database.execute(sql, check_parameters(request.params), request.timeout_ms, changed)
        returned = as_rows(result, request.blobs, request.invalid_text) if request.returning else []
        inserted = None if result.last_insert_id is None else str(result.last_insert_id)
        return ExecuteResult(result.affected_rows, inserted, returned)

    @function("database::transaction", aliases=["iii-database::transaction"])
    async def transaction(self, request: Transaction) -> TransactionResult:
        """Run several SQL statements, all of them or none; answered when they are on disk.

        A failing statement is a result with `committed: false`, not an error.

        Raises:
            UnknownDatabase: There is no such database.
            InvalidParam: A statement or its parameters cannot be used at all.
            OutcomeUnknown: As execute.
            DataFileLost: As execute.
            QueryTimeout: It took longer than `timeout_ms`; nothing was written.
        """
        return await self._transact(request)

    @function("database::executeBatch", aliases=["iii-database::executeBatch"])
    async def execute_batch(self, request: Transaction) -> TransactionResult:
        """Run several SQL statements, given as text or as objects of sql and params, in one transaction."""
        return await self._transact(request)

    @function("database::readiness", triggers=[readiness()])
    async def is_ready(self) -> Readiness:
        """Say whether every database takes writes, and why not."""
        reasons = [
            f"database `{name}`: {why}" for name, each in self._databases.items() if (why := each.trouble()) is not None
        ]
        return Readiness(ready=not reasons, reasons=reasons)

    async def _transact(self, request: Transaction) -> TransactionResult:
        check_isolation(request.isolation)
        database = self._find(request.db)
        statements = check_statements(request.statements)
        try:
            changed = self._changed(database, [sql for sql, _ in statements], request.origin)
            results = await database.transaction(statements, request.timeout_ms, changed)
        except DriverError as error:
            index = error.details.get("failed_index")
            body: dict[str, Any] = {"code": error.code, "message": error.message, **error.details}
            return TransactionResult(committed=False, failed_index=index, error=body)
        outcomes: list[StatementOutcome] = []
        for result in results:
            rows = as_values(result, request.blobs, request.invalid_text)
            outcomes.append(StatementOutcome(result.affected_rows, [list(row) for row in rows]))
        return TransactionResult(committed=True, results=outcomes)
