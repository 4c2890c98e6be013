"""One PostgreSQL database: statements by themselves, in a transaction of their own, and what tools ask."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from linkly.clock import time_limit
from linkly.errors import OutcomeUnknown
from linkly_workers._sql.tokens import POSTGRES
from linkly_workers.database.backend import Committed, Take
from linkly_workers.database.backends import Opening
from linkly_workers.database.errors import DriverError, LockTimeout, QueryTimeout
from linkly_workers.database.postgres import schema
from linkly_workers.database.postgres.address import address_of, direct_address_of
from linkly_workers.database.postgres.connection import Connection, Result
from linkly_workers.database.postgres.errors import (
    FAILURES,
    LOCK_NOT_AVAILABLE,
    NOT_IN_TRANSACTION,
    OUTDATED,
    READ_ONLY,
    code_of,
    driver_error,
    is_lost,
    writes,
)
from linkly_workers.database.postgres.pool import Lease, Pool
from linkly_workers.database.postgres.server import Server
from linkly_workers.database.postgres.statement import Statement, Statements
from linkly_workers.database.postgres.transaction import InteractiveTransaction, begin_text

LONGEST_TIMEOUT_MS = 3_600_000
SCHEMA_TIMEOUT_MS = 30_000
COMMIT_S = 60.0
"""How long the answer to a COMMIT is waited for; nothing else bounds it."""
DIRECT_CONNECTIONS = 2
"""Past a pooler at most; there it is the pooler that saves connections."""

LONGEST_LOCK_TIMEOUT_MS = 2**31 - 1

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('linkly ' || coalesce(current_schema(), ''), 0))"


class PostgresDatabase:
    """One database of one server."""

    driver = "postgres"
    dialect = POSTGRES

    def __init__(self, opening: Opening, application: str, password_file: Path | None) -> None:
        settings = opening.settings
        address = address_of(settings)
        self.name = opening.name
        self.url = address.url
        self._clock = opening.clock
        self._server = Server(
            opening.name,
            address,
            application=application,
            password_file=password_file,
            pooled=settings.pooler is not None,
            clock=opening.clock,
        )
        self._pool = Pool(opening.name, self._server, settings.pool, opening.max_result_bytes, opening.clock)
        self._direct = self._pool
        if settings.direct_url is not None:
            direct = Server(
                opening.name,
                direct_address_of(settings, settings.direct_url),
                application=application,
                password_file=password_file,
                pooled=False,
                clock=opening.clock,
            )
            few = msgspec.structs.replace(settings.pool, max=min(DIRECT_CONNECTIONS, settings.pool.max))
            self._direct = Pool(opening.name, direct, few, opening.max_result_bytes, opening.clock)
        self._statements = Statements()
        self._commits: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect, or wait for the server beside the callers: see `Pool.start`."""
        await self._pool.start()

    async def close(self) -> None:
        """Disconnect, after what is being committed."""
        while self._commits:
            await asyncio.wait(self._commits)
        await self._pool.close()
        if self._direct is not self._pool:
            await self._direct.close()

    @property
    def waiting_writes(self) -> int:
        """Count the callers that wait for a connection."""
        return self._pool.waiting

    @property
    def idle_connections(self) -> int:
        """Count the open connections that nobody uses."""
        return self._pool.idle

    def trouble(self) -> str | None:
        """Return why writes do not go through now, `None` if nothing is known against it."""
        return self._server.trouble

    def statement(self, sql: str) -> Statement:
        """Return the statement of a text: see `Database.statement`."""
        return self._statements.of(sql)

    async def check(self, statement: Statement) -> None:
        """Compile a statement without running it: see `Database.check`."""
        async with self._failures(), self._limit(SCHEMA_TIMEOUT_MS), self._pool.connection() as connection:
            await connection.check(statement)

    # --- one statement -------------------------------------------------------------------------------------

    async def query(
        self, statement: Statement, parameters: list[Any], timeout_ms: int, committed: Committed | None = None
    ) -> Result:
        """Run a statement for its rows: see `Database.query`."""
        return await self.execute(statement, parameters, timeout_ms, committed)

    async def execute(
        self, statement: Statement, parameters: list[Any], timeout_ms: int, committed: Committed | None = None
    ) -> Result:
        """Run one statement: see `Database.execute`.

        One that only reads is run by itself, in one round trip. Any other one has a transaction of its own: a time-out
        and a lost connection have then written nothing for certain, unless it is at its COMMIT.
        """
        if statement.reads and not self._server.pooled:
            return await self._by_itself(statement, parameters, timeout_ms)
        try:
            return (await self._all([(statement, parameters)], timeout_ms, committed, None))[0]
        except DriverError as error:
            error.details.pop("failed_index", None)
            if error.details.get("inner_code") not in NOT_IN_TRANSACTION:
                raise
        return await self._by_itself(statement, parameters, timeout_ms, self._direct)

    async def read_only(self, statement: Statement, parameters: list[Any], timeout_ms: int) -> Result:
        """Run a statement that must not write: see `Database.read_only`."""
        async with self._failures(), self._limit(timeout_ms), self._pool.connection() as connection:
            await connection.command("BEGIN READ ONLY")
            try:
                return await connection.run(statement, parameters)
            except FAILURES as error:
                if code_of(error) == READ_ONLY:
                    raise writes(error) from error
                raise

    async def stream(self, statement: Statement, parameters: list[Any], timeout_ms: int, take: Take) -> None:
        """Run a statement that must not write, and hand its rows over in batches: see `Database.stream`."""
        begin = "BEGIN READ ONLY"
        async with self._failures(), self._limit(timeout_ms):
            lease = await self._begun(begin)
            try:
                try:
                    await lease.connection.stream(statement, parameters, take)
                except OUTDATED:
                    await lease.connection.command(f"ROLLBACK; {begin}")
                    await lease.connection.stream(statement, parameters, take)
            except FAILURES as error:
                if code_of(error) == READ_ONLY:
                    raise writes(error) from error
                raise
            finally:
                self._pool.give(lease)

    async def _by_itself(
        self, statement: Statement, parameters: list[Any], timeout_ms: int, pool: Pool | None = None
    ) -> Result:
        async with self._failures(), self._limit(timeout_ms), (pool or self._pool).connection() as connection:
            try:
                return await connection.run(statement, parameters)
            except FAILURES as error:
                if is_lost(error) and not statement.reads:
                    raise _unknown(f"the connection was lost while the statement ran: {error}") from error
                raise

    # --- several -------------------------------------------------------------------------------------------

    async def transaction(
        self,
        statements: Sequence[tuple[Statement, list[Any]]],
        timeout_ms: int,
        committed: Committed | None = None,
        isolation: str | None = None,
    ) -> list[Result]:
        """Run statements all or not at all: see `Database.transaction`."""
        return await self._all(statements, timeout_ms, committed, isolation)

    async def _all(
        self,
        statements: Sequence[tuple[Statement, list[Any]]],
        timeout_ms: int,
        committed: Committed | None,
        isolation: str | None,
    ) -> list[Result]:
        results: list[Result] = []
        async with self._failures():
            async with self._limit(timeout_ms):
                begin = begin_text(isolation)
                lease = await self._begun(begin)
                try:
                    try:
                        await _run_all(lease.connection, statements, results)
                    except OUTDATED:
                        results.clear()
                        await lease.connection.command(f"ROLLBACK; {begin}")
                        await _run_all(lease.connection, statements, results)
                except BaseException as error:
                    self._pool.give(lease)
                    if not isinstance(error, (*FAILURES, DriverError)):
                        raise
                    failure = driver_error(error)
                    failure.details["failed_index"] = len(results)
                    raise failure from error
            told = [result for result in results if result.change is not None]
            await self._committed(lease, (lambda: committed(told)) if committed is not None else None)
        self._pool.has_written |= bool(told)
        return results

    async def _begun(self, begin: str, pool: Pool | None = None) -> Lease:
        """Take a connection and begin a transaction; a connection that has been lost meanwhile is replaced once."""
        pool = pool or self._pool
        lease = await pool.take()
        try:
            await lease.connection.command(begin)
        except FAILURES as error:
            pool.give(lease)
            if not is_lost(error):
                raise
            pool.lost()
            lease = await pool.take()
            try:
                await lease.connection.command(begin)
            except BaseException:
                pool.give(lease)
                raise
        except BaseException:
            pool.give(lease)
            raise
        return lease

    async def _committed(self, lease: Lease, committed: Callable[[], None] | None) -> None:
        """Commit, and tell it; it goes on when the caller goes away."""
        task = asyncio.get_running_loop().create_task(self._commit(lease, committed), name="commit")
        self._commits.add(task)
        task.add_done_callback(self._commits.discard)
        task.add_done_callback(_failure)
        await asyncio.shield(task)

    async def _commit(self, lease: Lease, committed: Callable[[], None] | None) -> None:
        try:
            await commit(lease.connection)
            if committed is not None:
                committed()
        finally:
            self._pool.give(lease)

    async def begin(self, transaction_id: str, isolation: str | None) -> InteractiveTransaction:
        """Open a transaction over several calls: see `Database.begin`."""
        async with self._failures(), self._limit(SCHEMA_TIMEOUT_MS):
            lease = await self._begun(begin_text(isolation))
        return InteractiveTransaction(
            transaction_id, lease.connection, commit, self._refused, lambda: self._pool.give(lease)
        )

    async def begin_alone(self, transaction_id: str, lock_timeout_ms: int) -> InteractiveTransaction:
        """Open a transaction that has an advisory lock of its schema: see `Database.begin_alone`."""
        limit_ms, pool = min(lock_timeout_ms, LONGEST_LOCK_TIMEOUT_MS), self._direct
        async with self._failures():
            lease = await self._begun(begin_text("read_committed"), pool)
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
        return InteractiveTransaction(transaction_id, lease.connection, commit, self._refused, lambda: pool.give(lease))

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
        async with self._failures(), self._limit(SCHEMA_TIMEOUT_MS), self._pool.connection() as connection:
            return schema.steps((await connection.run(explaining, parameters)).rows[0][0])

    async def _rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return (await self._by_itself(self._statements.of(sql), list(parameters), SCHEMA_TIMEOUT_MS)).rows

    # --- failures ------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _failures(self) -> AsyncIterator[None]:
        try:
            yield
        except FAILURES as error:
            raise self._refused(error) from error
        except DriverError as error:
            if error.details.get("inner_code") == READ_ONLY and error.__cause__ is not None:
                self._refused(error.__cause__)
            raise

    def _refused(self, error: BaseException) -> Exception:
        if code_of(error) == READ_ONLY:
            self._pool.read_only(error)
        return driver_error(error)

    @contextlib.asynccontextmanager
    async def _limit(self, timeout_ms: int) -> AsyncIterator[None]:
        limit_ms = min(timeout_ms, LONGEST_TIMEOUT_MS)
        try:
            async with time_limit(self._clock, limit_ms / 1000 if timeout_ms else None):
                yield
        except TimeoutError as error:
            raise QueryTimeout(
                f"the statement took longer than timeout_ms: {limit_ms} and was stopped",
                details={"db": self.name, "timeout_ms": limit_ms},
            ) from error


async def commit(connection: Connection) -> None:
    """Commit the transaction of a connection.

    Raises:
        DriverError: It could not be committed and is rolled back.
        OutcomeUnknown: The connection was lost meanwhile.
    """
    try:
        async with asyncio.timeout(COMMIT_S):
            tag = await connection.command("COMMIT")
    except FAILURES as error:
        if is_lost(error):
            why = str(error) or f"no answer for {COMMIT_S:g} s"
            raise _unknown(f"the connection was lost during COMMIT: {why}") from error
        raise driver_error(error) from error
    if tag != "COMMIT":
        raise DriverError(
            "the server has rolled the transaction back", details={"driver": "postgres", "inner_code": "25P02"}
        )


def _unknown(why: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{why}; it may be written or not. Ask what is there before you repeat it", details={"driver": "postgres"}
    )


async def _run_all(
    connection: Connection, statements: Sequence[tuple[Statement, list[Any]]], results: list[Result]
) -> None:
    """Run statements in order; `results` gets those of the ones that succeed."""
    for statement, parameters in statements:
        results.append(await connection.run(statement, parameters))


def _failure(task: asyncio.Task[None]) -> BaseException | None:
    return None if task.cancelled() else task.exception()
