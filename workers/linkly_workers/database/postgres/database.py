"""One PostgreSQL database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from linkly_workers._sql.tokens import POSTGRES
from linkly_workers.database._server.database import OWN_TIMEOUT_MS, ServerDatabase
from linkly_workers.database._server.pool import Pool
from linkly_workers.database._server.result import Result
from linkly_workers.database._server.server import Server
from linkly_workers.database._server.transaction import InteractiveTransaction
from linkly_workers.database.backends import Opening
from linkly_workers.database.errors import LockTimeout
from linkly_workers.database.postgres import schema
from linkly_workers.database.postgres.address import address_of, direct_address_of
from linkly_workers.database.postgres.capture import PostgresCapture
from linkly_workers.database.postgres.connection import Connection
from linkly_workers.database.postgres.connector import Connector
from linkly_workers.database.postgres.copy_side import PostgresSide
from linkly_workers.database.postgres.errors import DRIVER, LOCK_NOT_AVAILABLE, code_of
from linkly_workers.database.postgres.statement import Statement, Statements

DIRECT_CONNECTIONS = 2
"""Past a pooler at most; there it is the pooler that saves connections."""

LONGEST_LOCK_TIMEOUT_MS = 2**31 - 1

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('linkly ' || coalesce(current_schema(), ''), 0))"


class PostgresDatabase(ServerDatabase[Connection, Statement, Result]):
    """One database of one server."""

    dialect = POSTGRES

    def __init__(self, opening: Opening, application: str, password_file: Path | None) -> None:
        settings = opening.settings
        self._pooled = settings.pooler is not None
        connector = Connector(
            address_of(settings), application=application, password_file=password_file, pooled=self._pooled
        )
        super().__init__(opening, connector, DRIVER)
        direct = connector
        if settings.direct_url is not None:
            address = direct_address_of(settings, settings.direct_url)
            direct = Connector(address, application=application, password_file=password_file, pooled=False)
            server = Server(opening.name, direct, DRIVER, opening.clock)
            few = msgspec.structs.replace(settings.pool, max=min(DIRECT_CONNECTIONS, settings.pool.max))
            self._direct = Pool(opening.name, server, DRIVER, few, opening.max_result_bytes, opening.clock)
        self._statements = Statements()
        self.capture = PostgresCapture(direct.connect, opening.clock, pooled=direct.pooled)
        self.copy_side = PostgresSide(self.url, self._rows, self.describe)

    def statement(self, sql: str) -> Statement:
        """Return the statement of a text: see `Database.statement`."""
        return self._statements.of(sql)

    async def check(self, statement: Statement) -> None:
        """Compile a statement without running it: see `Database.check`."""
        async with self._failures(), self._limit(OWN_TIMEOUT_MS), self._pool.connection() as connection:
            await connection.check(statement)

    def _runs_by_itself(self, statement: Statement) -> bool:
        return statement.reads and not self._pooled

    async def begin_alone(self, transaction_id: str, lock_timeout_ms: int) -> InteractiveTransaction[Statement, Result]:
        """Open a transaction that has an advisory lock of its schema: see `Database.begin_alone`."""
        limit_ms, pool = min(lock_timeout_ms, LONGEST_LOCK_TIMEOUT_MS), self._direct
        async with self._failures():
            lease = await self._begun("read_committed", pool)
            try:
                await lease.connection.command(f"SET LOCAL lock_timeout = {limit_ms}; {_LOCK}")
            except BaseException as error:
                pool.give(lease)
                if code_of(error) != LOCK_NOT_AVAILABLE:
                    raise
                raise LockTimeout(
                    f"another migration has kept database `{self.name}` for lock_timeout_ms: {lock_timeout_ms}",
                    details={"db": self.name, "lock_timeout_ms": lock_timeout_ms},
                ) from error
        return self._interactive(transaction_id, lease, pool)

    # --- what tools ask ------------------------------------------------------------------------------------

    async def tables(self) -> list[tuple[str, str]]:
        """Return name and kind of the tables: see `Database.tables`."""
        return await schema.tables(self._rows)

    async def describe(self, table: str) -> dict[str, Any] | None:
        """Describe a table: see `Database.describe`."""
        return await schema.describe(self._rows, table)

    async def plan(self, statement: Statement, parameters: list[Any]) -> list[dict[str, Any]]:
        """Return how PostgreSQL would run a statement: see `Database.plan`."""
        explaining = self._statements.of(f"EXPLAIN (FORMAT JSON) {statement.text}")
        async with self._failures(), self._limit(OWN_TIMEOUT_MS), self._pool.connection() as connection:
            return schema.steps((await connection.run(explaining, parameters)).rows[0][0])

    async def _rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return (await self._by_itself(self._statements.of(sql), list(parameters), OWN_TIMEOUT_MS)).rows
