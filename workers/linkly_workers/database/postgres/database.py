"""One PostgreSQL database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from linkly_workers._sql.tokens import POSTGRES
from linkly_workers.database._server.database import COMMIT_S, LONGEST_TIMEOUT_MS, ServerDatabase
from linkly_workers.database._server.pool import Lease, Pool
from linkly_workers.database._server.result import Result
from linkly_workers.database._server.server import Server
from linkly_workers.database._server.transaction import InteractiveTransaction
from linkly_workers.database.backend import Committed, Conclude, Expected
from linkly_workers.database.backends import Opening
from linkly_workers.database.errors import DriverError
from linkly_workers.database.postgres import schema
from linkly_workers.database.postgres.address import address_of, direct_address_of
from linkly_workers.database.postgres.capture import PostgresCapture
from linkly_workers.database.postgres.connection import Connection
from linkly_workers.database.postgres.connector import Connector
from linkly_workers.database.postgres.copy_side import PostgresSide
from linkly_workers.database.postgres.errors import (
    DRIVER,
    FAILURES,
    LOCK_NOT_AVAILABLE,
    STOPPED,
    code_of,
    is_lost,
)
from linkly_workers.database.postgres.statement import Statement, statement_of

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
        super().__init__(opening, connector, DRIVER, statement_of)
        direct = connector
        if settings.direct_url is not None:
            address = direct_address_of(settings, settings.direct_url)
            direct = Connector(address, application=application, password_file=password_file, pooled=False)
            server = Server(opening.name, direct, DRIVER, opening.clock)
            few = msgspec.structs.replace(settings.pool, max=min(DIRECT_CONNECTIONS, settings.pool.max))
            self._direct = Pool(opening.name, server, DRIVER, few, opening.max_result_bytes, opening.clock)
        self.capture = PostgresCapture(direct.connect, opening.clock, pooled=direct.pooled)
        self.copy_side = PostgresSide(self.url, self._rows, self.describe)

    def _runs_by_itself(self, statement: Statement) -> bool:
        return statement.reads and not self._pooled

    # --- one statement that writes -------------------------------------------------------------------------

    async def transaction(
        self,
        statements: Sequence[tuple[Statement, list[Any]]],
        timeout_ms: int,
        committed: Committed | None = None,
        isolation: str | None = None,
        expected: Expected = (),
        conclude: Conclude[Statement] | None = None,
    ) -> list[Result]:
        """Run statements all or not at all, one by itself in one round trip: see `Database.transaction`."""
        is_plain = isolation is None and not expected and conclude is None
        if len(statements) == 1 and is_plain and not self._pooled:
            statement, parameters = statements[0]
            if statement.only_changes:
                result = await self._in_one_trip(statement, parameters, timeout_ms, committed)
                if result is not None:
                    return [result]
        return await super().transaction(statements, timeout_ms, committed, isolation, expected, conclude)

    async def _in_one_trip(
        self, statement: Statement, parameters: list[Any], timeout_ms: int, committed: Committed | None
    ) -> Result | None:
        """Run a statement that changes rows and returns none, in one round trip: the server commits it.

        One that returns rows is not taken: if they were too many, they would be written already.

        Nobody cancels it, neither its caller nor its time-out: they have the server stop it, whose answer says whether
        it is written. `None`: its connection has to be asked first whether it is there, in a transaction of its own.
        """
        limit_ms, began = min(timeout_ms, LONGEST_TIMEOUT_MS), self._clock.monotonic()
        async with self._failures():
            lease = await self._limited(timeout_ms, self._pool.take())
            if not lease.connection.is_quiet:
                self._pool.give(lease)
                return None
            task = asyncio.get_running_loop().create_task(
                self._carried_out(lease, statement, parameters, committed), name="a statement that commits"
            )
            self._owned(task)
            is_late, timer = False, None

            def late() -> None:
                nonlocal is_late
                is_late = True
                self._stop(lease.connection, task)

            if timeout_ms:
                timer = self._clock.call_later(max(0.0, began + limit_ms / 1000 - self._clock.monotonic()), late)
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                self._stop(lease.connection, task)
                raise
            except (*FAILURES, DriverError) as error:
                if is_late and code_of(error) == STOPPED:
                    raise self._too_late(limit_ms) from error
                failure = self._driver.translated(error)
                failure.details["failed_index"] = 0
                raise failure from error
            finally:
                if timer is not None:
                    timer.cancel()

    async def _carried_out(
        self, lease: Lease[Connection], statement: Statement, parameters: list[Any], committed: Committed | None
    ) -> Result:
        try:
            result = await lease.connection.run(statement, parameters, last=True)
        except FAILURES as error:
            if is_lost(error) and lease.connection.sent:
                raise self._unknown(f"the connection was lost while the statement ran: {error}") from error
            raise
        else:
            if result.change is not None:
                self._pool.has_written = True
                if committed is not None:
                    committed([result])
            return result
        finally:
            self._pool.give(lease)

    def _stop(self, connection: Connection, task: asyncio.Task[Result]) -> None:
        """Have the server stop a statement; one that does not answer is left."""
        if not task.done():
            connection.stop()
            patience = self._clock.call_later(COMMIT_S, connection.abort)
            task.add_done_callback(lambda _: patience.cancel())

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
                raise self._kept_by_another(lock_timeout_ms) from error
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
        return schema.steps(await self._explained(f"EXPLAIN (FORMAT JSON) {statement.text}", parameters))
