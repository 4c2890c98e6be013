"""SQL over the bus: `database::query`, `execute`, `transaction` (workers-data.md 7).

Differences from iii's worker, all on purpose: a write is answered when it is on disk; `timeout_ms` works on SQLite
too; an error is an error body with a stable code and `details`, not JSON text inside a message.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar, Literal

import msgspec

from linkly import Settings, Worker, function
from linkly.errors import ConfigError
from linkly_workers._sqlite import Durability, StatementResult
from linkly_workers.database.errors import DriverError, InvalidParam, MissingDatabase, UnknownDatabase
from linkly_workers.database.shapes import (
    Column,
    Execute,
    ExecuteResult,
    Query,
    QueryResult,
    Statement,
    StatementOutcome,
    Transaction,
    TransactionResult,
    check_parameters,
    check_sql,
)
from linkly_workers.database.sqlite import SqliteDatabase


class PoolSettings(Settings):
    """Connections of one database."""

    max: int = 10
    idle_timeout_ms: int = 30_000
    acquire_timeout_ms: int = 5000


class TlsSettings(Settings):
    """Ignored by SQLite."""

    mode: Literal["disable", "require", "verify-full"] = "require"
    ca_cert: str | None = None


class OneDatabase(Settings):
    """One entry of `databases`."""

    url: str
    pool: PoolSettings = msgspec.field(default_factory=PoolSettings)
    tls: TlsSettings | None = None
    durability: Durability = "power"


def _default_databases() -> dict[str, OneDatabase]:
    return {"primary": OneDatabase(url="sqlite:./data/iii.db")}


class DatabaseSettings(Settings):
    """Settings of the database worker."""

    databases: dict[str, OneDatabase] = msgspec.field(default_factory=_default_databases)


class DatabaseWorker(Worker):
    """Runs SQL on the configured databases."""

    name = "database"
    settings_type: ClassVar[type[Settings]] = DatabaseSettings
    settings: DatabaseSettings

    def __init__(self, settings: DatabaseSettings | None = None) -> None:
        super().__init__(settings)
        if not self.settings.databases:
            raise ConfigError("database: config must declare at least one database")
        self._databases = {name: _database(name, one) for name, one in self.settings.databases.items()}

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open every database; the file and its folder are made on first use."""
        async with AsyncExitStack() as stack:
            for name, database in self._databases.items():
                try:
                    await stack.enter_async_context(database.opened())
                except (sqlite3.Error, OSError) as error:
                    raise ConfigError(f"database `{name}` ({database.path}) cannot be opened: {error}") from error
            yield

    @function("database::query", aliases=["iii-database::query"])
    async def query(self, request: Query) -> QueryResult:
        """Run one SQL statement and answer its rows.

        Raises:
            DriverError: The database refused it.
            QueryTimeout: It took longer than `timeout_ms`.
            UnknownDatabase: There is no such database.
        """
        database = self._find(request.db)
        sql = _statement(request.sql)
        result = await database.query(sql, check_parameters(request.params), request.timeout_ms)
        rows = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
        return QueryResult(rows, len(rows), [Column(name) for name in result.columns])

    @function("database::execute", aliases=["iii-database::execute"])
    async def execute(self, request: Execute) -> ExecuteResult:
        """Run one SQL statement that changes something; answered when it is on disk.

        Raises:
            DriverError: The database refused it.
            UnknownDatabase: There is no such database.
        """
        database = self._find(request.db)
        result = await database.execute(_statement(request.sql), check_parameters(request.params))
        returned = [dict(zip(result.columns, row, strict=True)) for row in result.rows] if request.returning else []
        inserted = None if result.last_insert_id is None else str(result.last_insert_id)
        return ExecuteResult(result.affected_rows, inserted, returned)

    @function("database::transaction", aliases=["iii-database::transaction"])
    async def transaction(self, request: Transaction) -> TransactionResult:
        """Run several SQL statements, all of them or none; answered when they are on disk.

        A failing statement is a result with `committed: false`, not an error.

        Raises:
            UnknownDatabase: There is no such database.
            InvalidParam: A statement or its parameters cannot be used at all.
        """
        return await self._transact(request)

    @function("database::executeBatch", aliases=["iii-database::executeBatch"])
    async def execute_batch(self, request: Transaction) -> TransactionResult:
        """Run several SQL statements, given as text or as objects of sql and params, in one transaction."""
        return await self._transact(request)

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
            }
            for name, database in self._databases.items()
        ]
        return {"databases": rows, "count": len(rows)}

    async def _transact(self, request: Transaction) -> TransactionResult:
        database = self._find(request.db)
        statements = [(check_sql(each.sql), check_parameters(each.params)) for each in _statements(request.statements)]
        try:
            results = await database.transaction(statements)
        except DriverError as error:
            index = error.details.get("failed_index")
            body: dict[str, Any] = {"code": error.code, "message": error.message, **error.details}
            return TransactionResult(committed=False, failed_index=index, error=body)
        return TransactionResult(committed=True, results=[_outcome(result) for result in results])

    def _find(self, name: str | None) -> SqliteDatabase:
        if name is None:
            if len(self._databases) == 1:
                return next(iter(self._databases.values()))
            name = "primary"
            if name not in self._databases:
                raise MissingDatabase(
                    f"say which database with `db`: {', '.join(self._databases)}",
                    details={"available": list(self._databases)},
                )
        database = self._databases.get(name)
        if database is None:
            raise UnknownDatabase(
                f"there is no database `{name}`; configured: {', '.join(self._databases)}",
                details={"db": name, "available": list(self._databases)},
            )
        return database


def _database(name: str, settings: OneDatabase) -> SqliteDatabase:
    scheme, found, path = settings.url.partition(":")
    if not found or scheme.lower() != "sqlite" or not path:
        raise ConfigError(
            f"database `{name}`: url scheme `{scheme}` is not supported by this version; "
            "allowed: `sqlite:./data/name.db` or `sqlite::memory:`"
        )
    if settings.pool.max < 1:
        raise ConfigError(f"database `{name}`: pool.max {settings.pool.max}: must be at least 1")
    return SqliteDatabase(
        name,
        path.removeprefix("//") if path.startswith("//") else path,
        durability=settings.durability,
        readers=settings.pool.max,
        acquire_timeout_ms=settings.pool.acquire_timeout_ms,
    )


def _statement(sql: str) -> str:
    if not sql.strip():
        raise DriverError("empty SQL", details={"driver": "sqlite", "inner_code": None})
    return check_sql(sql)


def _statements(given: list[Statement | str] | str) -> list[Statement]:
    if isinstance(given, str):
        try:
            given = msgspec.json.decode(given, type=list[Statement | str])
        except msgspec.MsgspecError as error:
            raise InvalidParam(f"statements: expected a list of statements: {error}") from error
    return [Statement(sql=each) if isinstance(each, str) else each for each in given]


def _outcome(result: StatementResult) -> StatementOutcome:
    return StatementOutcome(result.affected_rows, [list(row) for row in result.rows])
