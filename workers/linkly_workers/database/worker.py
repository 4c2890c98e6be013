"""SQL over the bus (docs/workers.md#database).

Differences from iii's worker, all on purpose: a write is answered when it is on disk; `timeout_ms` holds for
execute and transaction too; a cancelled caller stops its statement; an error is an error body with a code and
`details`, not JSON text inside a message; an integer beyond 64 bits is refused instead of losing digits; a statement is
checked when it is prepared; ATTACH, TEMP objects and PRAGMAs that would change the connections all callers share are
refused.

Writes of callers that wait at the same time may share a commit; what the database says about the last statement of a
connection (`changes()`) holds between the statements of one transaction only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar

import msgspec

from linkly import Readiness, Settings, TriggerType, Worker, function, readiness
from linkly.errors import NotFound
from linkly_workers.database.atomic import Atomic
from linkly_workers.database.backend import Database
from linkly_workers.database.backends import OneDatabase, Opening, backend_of
from linkly_workers.database.copies import Copies
from linkly_workers.database.databases import Databases
from linkly_workers.database.errors import DriverError, ExpectationFailed
from linkly_workers.database.events import RowChangedEvents
from linkly_workers.database.migrations import Migrations
from linkly_workers.database.sessions import Sessions
from linkly_workers.database.shapes import (
    Execute,
    ExecuteResult,
    Query,
    QueryResult,
    StatementOutcome,
    Transaction,
    TransactionResult,
)
from linkly_workers.database.streams import Streams
from linkly_workers.database.tools import Tools
from linkly_workers.database.values import (
    as_executed,
    as_queried,
    as_values,
    check_isolation,
    check_parameters,
    check_statements,
    reading,
)

LARGEST_RESULT_BYTES = 1_000_000_000


def _default_databases() -> dict[str, OneDatabase]:
    return {"primary": OneDatabase(url="sqlite:./data/iii.db")}


class DatabaseSettings(Settings):
    """Settings of the database worker.

    Attributes:
        databases: By name.
        max_result_bytes: A call whose rows are larger together fails; about the memory that they take.
    """

    databases: dict[str, OneDatabase] = msgspec.field(default_factory=_default_databases)
    max_result_bytes: int = 16_777_216

    def __post_init__(self) -> None:
        if not self.databases:
            raise ValueError("databases: declare at least one database")
        if not 1 <= self.max_result_bytes <= LARGEST_RESULT_BYTES:
            raise ValueError(f"max_result_bytes: {self.max_result_bytes}: must be from 1 to {LARGEST_RESULT_BYTES}")


class DatabaseWorker(Worker):
    """Runs SQL on the configured databases."""

    name = "database"
    settings_type: ClassVar[type[Settings]] = DatabaseSettings
    settings: DatabaseSettings

    def __init__(self, settings: DatabaseSettings | None = None) -> None:
        super().__init__(settings)
        self._databases = Databases(self.settings.databases)
        self._events = RowChangedEvents(self.settings.databases, lambda db: self._databases.find(db).capture)
        self._sessions = Sessions(self._databases, self._events)
        self._streams = Streams(self._databases)
        self._tools = Tools(self._databases, self.settings.databases, self.settings.max_result_bytes)
        self._migrations = Migrations(self._databases, self._events)
        self._copies = Copies(self._databases)
        self._atomic = Atomic(self._databases, self._events, self._sessions)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open every database; at the end roll back what is open, write what was accepted, deliver what waits.

        Raises:
            ConfigError: One cannot be opened, or another engine has it.
        """
        self._streams.open(self.bus)
        self._events.clock = self._tools.clock = self._migrations.clock = self._copies.clock = self.bus.clock
        async with AsyncExitStack() as stack:
            # Left last: closing a database ends the writes that wait, which have to be told as well.
            await stack.enter_async_context(self._events.delivery.running(self.bus))
            await stack.enter_async_context(self._atomic.opened(self.bus))
            self._databases.opened(
                [
                    await stack.enter_async_context(self._opened(name, settings))
                    for name, settings in self.settings.databases.items()
                ]
            )
            await stack.enter_async_context(self._sessions.opened(self.bus))
            await stack.enter_async_context(self._events.captures.running(self.bus))
            yield

    def composed_of(self) -> Iterable[object]:
        """Serve the functions of sessions, atomic, streams, tools, migrations and copies."""
        return (self._sessions, self._atomic, self._streams, self._tools, self._migrations, self._copies)

    def trigger_types(self) -> list[TriggerType]:
        """Provide `database::row-changed`."""
        return [self._events.trigger_type()]

    async def drain(self) -> None:
        """End open transactions, then deliver the row-changed events that wait."""
        await self._sessions.drain()
        await self._atomic.drain()
        await self._events.delivery.drain()

    @function("database::query", aliases=["iii-database::query"])
    async def query(self, request: Query) -> QueryResult:
        """Run one SQL statement and answer its rows.

        Raises:
            DriverError: The database refused it.
            InvalidParam: It writes, and `read_only` is set; or it cannot be used at all.
            QueryTimeout: It took longer than `timeout_ms`.
            UnknownDatabase: There is no such database.
        """
        database = self._databases.find(request.db)
        statement, parameters = database.statement(request.sql), check_parameters(request.params)
        if request.read_only:
            result = await reading(database, statement, parameters, request.timeout_ms, "`read_only` is")
        else:
            committed = self._events.following(database.name, (statement,))
            result = await database.query(statement, parameters, request.timeout_ms, committed)
        return as_queried(result, request, request.integers or self._databases.integers(database.name))

    @function("database::execute", aliases=["iii-database::execute"])
    async def execute(self, request: Execute) -> ExecuteResult:
        """Run one SQL statement that changes something; answered when it is on disk.

        Raises:
            DriverError: The database refused it.
            QueryTimeout: It took longer than `timeout_ms`; nothing was written.
            OutcomeUnknown: The disk has failed, the file is gone, or the connection to the server: it may be written
                or not.
            DataFileLost: The file was deleted or replaced; nothing was written.
            UnknownDatabase: There is no such database.
        """
        database = self._databases.find(request.db)
        statement, parameters = database.statement(request.sql), check_parameters(request.params)
        committed = self._events.following(database.name, (statement,), request.origin)
        result = await database.execute(statement, parameters, request.timeout_ms, committed)
        return as_executed(result, request, request.integers or self._databases.integers(database.name))

    @function("database::transaction", aliases=["iii-database::transaction"])
    async def transaction(self, request: Transaction) -> TransactionResult:
        """Run several SQL statements, all of them or none; answered when they are on disk.

        A failing statement, or one with other rows than its `expect_rows`, is a result with `committed: false`, not an
        error.

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
        reasons = [f"database `{each.name}`: {why}" for each in self._databases if (why := each.trouble()) is not None]
        return Readiness(ready=not reasons, reasons=reasons)

    async def _transact(self, request: Transaction) -> TransactionResult:
        check_isolation(request.isolation)
        database = self._databases.find(request.db)
        statements, expected = check_statements(request.statements, database.statement)
        try:
            committed = self._events.following(database.name, [each for each, _ in statements], request.origin)
            results = await database.transaction(statements, request.timeout_ms, committed, request.isolation, expected)
        except (DriverError, ExpectationFailed) as error:
            index = error.details.get("failed_index")
            body: dict[str, Any] = {"code": error.code, "message": error.message, **error.details}
            return TransactionResult(committed=False, failed_index=index, error=body)
        outcomes: list[StatementOutcome] = []
        integers = request.integers or self._databases.integers(database.name)
        for result in results:
            rows = as_values(result, request, integers)
            outcomes.append(StatementOutcome(result.affected_rows, [list(row) for row in rows]))
        return TransactionResult(committed=True, results=outcomes)

    def _opened(self, name: str, settings: OneDatabase) -> AbstractAsyncContextManager[Database[Any]]:
        opening = Opening(name, settings, self.settings.max_result_bytes, self.bus.clock, self.located, self._engine_id)
        return backend_of(settings.url).open(opening)

    async def _engine_id(self) -> str:
        # The id of its own worker is new with each start of an engine, and the same for whoever is connected to it.
        answer = await self.bus.trigger("engine::workers::info", {"name": "engine"})
        try:
            return str(answer["worker"]["id"])
        except (KeyError, TypeError) as error:
            raise NotFound(f"its answer has no id: {error}") from error
