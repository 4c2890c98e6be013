"""What databases on a server have in common: statements by themselves, and in a transaction of their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from linkly.clock import time_limit
from linkly.deadline import Deadlines, bounded
from linkly.errors import CallTimeout, LinklyError, OutcomeUnknown
from linkly_workers.database._server.connection import C, Connection, Connector, R, S
from linkly_workers.database._server.driver import Driver
from linkly_workers.database._server.pool import Lease, Pool
from linkly_workers.database._server.server import Server
from linkly_workers.database._server.statements import StatementsByText
from linkly_workers.database._server.transaction import InteractiveTransaction
from linkly_workers.database.backend import Capture, Committed, Conclude, Expected, Take
from linkly_workers.database.backends import Opening
from linkly_workers.database.copy_side import CopySide
from linkly_workers.database.errors import DriverError, LockTimeout, QueryTimeout, StatementWrites
from linkly_workers.database.values import check_rows

LONGEST_TIMEOUT_MS = 3_600_000
OWN_TIMEOUT_MS = 30_000
"""For what is asked for tools, and for the beginning of a transaction."""

COMMIT_S = 60.0
"""How long the answer to a COMMIT is waited for; nothing else bounds it."""

T = TypeVar("T")


class ServerDatabase(Generic[C, S, R]):
    """One database of one server.

    Args:
        opening: What it is opened with.
        connector: Makes its connections.
        driver: Says what errors mean.
        read: Reads the statement of a text, or raises why there is none: see `StatementsByText`.
    """

    copy_side: CopySide | None = None
    capture: Capture | None = None

    def __init__(self, opening: Opening, connector: Connector[C], driver: Driver, read: Callable[[str], S]) -> None:
        self.name = opening.name
        self.driver = driver.name
        self.url = connector.url
        self._clock = opening.clock
        self._driver = driver
        self._server = Server(opening.name, connector, driver, opening.clock)
        self._pool = self._direct = Pool(
            opening.name, self._server, driver, opening.settings.pool, opening.max_result_bytes, opening.clock
        )
        self._statements = StatementsByText(read)
        self._deadlines = Deadlines(opening.clock)
        self._commits: set[asyncio.Task[Any]] = set()

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
        self._deadlines.close()

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

    # --- one statement -------------------------------------------------------------------------------------

    def statement(self, sql: str) -> S:
        """Return the statement of a text: see `Database.statement`."""
        return self._statements.of(sql)

    async def check(self, statement: S) -> None:
        """Compile a statement without running it: see `Database.check`."""
        async with self._failures(), self._limit(OWN_TIMEOUT_MS), self._pool.connection() as connection:
            await connection.check(statement)

    async def query(
        self, statement: S, parameters: list[Any], timeout_ms: int, committed: Committed | None = None
    ) -> R:
        """Run a statement for its rows: see `Database.query`."""
        return await self.execute(statement, parameters, timeout_ms, committed)

    async def execute(
        self, statement: S, parameters: list[Any], timeout_ms: int, committed: Committed | None = None
    ) -> R:
        """Run one statement: see `Database.execute`.

        One that only reads is run by itself, in one round trip. Any other one has a transaction of its own: a time-out
        and a lost connection have then written nothing for certain, unless it is at its COMMIT.
        """
        if self._runs_by_itself(statement):
            return await self._by_itself(statement, parameters, timeout_ms)
        try:
            return (await self.transaction([(statement, parameters)], timeout_ms, committed))[0]
        except DriverError as error:
            error.details.pop("failed_index", None)
            if error.details.get("inner_code") not in self._driver.alone:
                raise
        return await self._by_itself(statement, parameters, timeout_ms, self._direct)

    async def read_only(self, statement: S, parameters: list[Any], timeout_ms: int) -> R:
        """Run a statement that must not write: see `Database.read_only`."""
        async with self._reading(timeout_ms) as connection:
            result: R = await connection.run(statement, parameters)
            return result

    async def stream(self, statement: S, parameters: list[Any], timeout_ms: int, take: Take) -> None:
        """Run a statement that must not write, and hand its rows over in batches: see `Database.stream`."""
        async with self._reading(timeout_ms) as connection:
            try:
                await connection.stream(statement, parameters, take)
            except self._driver.outdated:
                await connection.begin(None, read_only=True)
                await connection.stream(statement, parameters, take)

    @contextlib.asynccontextmanager
    async def _reading(self, timeout_ms: int) -> AsyncIterator[C]:
        """Have a connection in a transaction that only reads.

        Raises:
            StatementWrites: It was used for a statement that writes.
        """
        async with self._failures(), self._limit(timeout_ms):
            lease = await self._begun(None, read_only=True)
            try:
                yield lease.connection
            except self._driver.failures as error:
                if self._driver.writes(error):
                    details = {"driver": self.driver, "inner_code": self._driver.code_of(error)}
                    raise StatementWrites(str(error), details=details) from error
                raise
            finally:
                self._pool.give(lease)

    def _runs_by_itself(self, statement: S) -> bool:
        """Return whether `execute` runs a statement without a transaction of its own."""
        return statement.reads

    async def _by_itself(self, statement: S, parameters: list[Any], timeout_ms: int, pool: Pool[C] | None = None) -> R:
        try:
            return await self._limited(timeout_ms, self._run_by_itself(statement, parameters, pool or self._pool))
        except self._driver.failures as error:
            raise self._refused(error) from error

    async def _run_by_itself(self, statement: S, parameters: list[Any], pool: Pool[C]) -> R:
        lease = await pool.take()
        try:
            result: R = await lease.connection.run(statement, parameters, last=True)
            return result
        except self._driver.failures as error:
            if self._driver.is_lost(error) and not statement.reads:
                raise self._unknown(f"the connection was lost while the statement ran: {error}") from error
            raise
        finally:
            pool.give(lease)

    # --- several -------------------------------------------------------------------------------------------

    async def transaction(
        self,
        statements: Sequence[tuple[S, list[Any]]],
        timeout_ms: int,
        committed: Committed | None = None,
        isolation: str | None = None,
        expected: Expected = (),
        conclude: Conclude[S] | None = None,
    ) -> list[R]:
        """Run statements all or not at all: see `Database.transaction`."""
        async with self._failures():
            lease, results = await self._limited(
                timeout_ms, self._run_together(statements, isolation, expected, conclude)
            )
            told = [result for result in results if result.change is not None]
            await self._committed(lease, (lambda: committed(told)) if committed is not None else None)
        self._pool.has_written |= bool(told)
        return results

    async def _run_together(
        self,
        statements: Sequence[tuple[S, list[Any]]],
        isolation: str | None,
        expected: Expected,
        conclude: Conclude[S] | None,
    ) -> tuple[Lease[C], list[R]]:
        """Run statements in a transaction, which is left open."""
        results: list[R] = []
        lease = await self._begun(isolation)
        try:
            try:
                await _run_all(lease.connection, statements, results, expected, conclude)
            except self._driver.outdated:
                results.clear()
                await lease.connection.begin(isolation)
                await _run_all(lease.connection, statements, results, expected, conclude)
        except BaseException as error:
            self._pool.give(lease)
            if not isinstance(error, (*self._driver.failures, DriverError)):
                raise
            failure = self._driver.translated(error)
            failure.details["failed_index"] = len(results)
            raise failure from error
        return lease, results

    async def _begun(self, isolation: str | None, pool: Pool[C] | None = None, *, read_only: bool = False) -> Lease[C]:
        """Take a connection and begin a transaction; a connection that has been lost meanwhile is replaced once."""
        pool = pool or self._pool
        lease = await pool.take()
        try:
            await lease.connection.begin(isolation, read_only=read_only)
        except self._driver.failures as error:
            pool.give(lease)
            if not self._driver.is_lost(error):
                raise
            pool.lost()
            lease = await pool.take()
            try:
                await lease.connection.begin(isolation, read_only=read_only)
            except BaseException:
                pool.give(lease)
                raise
        except BaseException:
            pool.give(lease)
            raise
        return lease

    async def _committed(self, lease: Lease[C], committed: Callable[[], None] | None) -> None:
        """Commit, and tell it; it goes on when the caller goes away."""
        task = asyncio.get_running_loop().create_task(self._commit(lease, committed), name="commit")
        self._owned(task)
        await asyncio.shield(task)

    def _owned(self, task: asyncio.Task[Any]) -> None:
        """Have a task that goes on when its caller goes away."""
        self._commits.add(task)
        task.add_done_callback(self._commits.discard)
        task.add_done_callback(_failure)

    async def _commit(self, lease: Lease[C], committed: Callable[[], None] | None) -> None:
        try:
            await self._write(lease.connection)
            if committed is not None:
                committed()
        finally:
            self._pool.give(lease)

    async def _write(self, connection: Connection[S, R]) -> None:
        """Commit the transaction of a connection.

        Raises:
            DriverError: It could not be committed and is rolled back.
            OutcomeUnknown: The connection was lost meanwhile.
        """
        try:
            is_written = await bounded(connection.commit(), self._deadlines, COMMIT_S, "COMMIT")
        except CallTimeout as error:
            raise self._unknown(f"the connection was lost during COMMIT: no answer for {COMMIT_S:g} s") from error
        except self._driver.failures as error:
            if self._driver.is_lost(error):
                raise self._unknown(f"the connection was lost during COMMIT: {error}") from error
            raise self._driver.translated(error) from error
        if not is_written:
            raise DriverError(
                "the server has rolled the transaction back",
                details={"driver": self.driver, "inner_code": self._driver.rolled_back},
            )

    async def begin(self, transaction_id: str, isolation: str | None) -> InteractiveTransaction[S, R]:
        """Open a transaction over several calls: see `Database.begin`."""
        async with self._failures(), self._limit(OWN_TIMEOUT_MS):
            lease = await self._begun(isolation)
        return self._interactive(transaction_id, lease, self._pool)

    def _interactive(self, transaction_id: str, lease: Lease[C], pool: Pool[C]) -> InteractiveTransaction[S, R]:
        return InteractiveTransaction(
            transaction_id,
            lease.connection,
            self._driver,
            self._write,
            self._refused,
            lambda: pool.give(lease),
        )

    # --- what tools ask ------------------------------------------------------------------------------------

    async def _explained(self, text: str, parameters: list[Any]) -> Any:
        """Run an EXPLAIN and return the one value that it answers."""
        async with self._failures(), self._limit(OWN_TIMEOUT_MS), self._pool.connection() as connection:
            return (await connection.run(self._statements.of(text), parameters)).rows[0][0]

    async def _rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return (await self._by_itself(self._statements.of(sql), list(parameters), OWN_TIMEOUT_MS)).rows

    # --- failures ------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _failures(self) -> AsyncIterator[None]:
        try:
            yield
        except self._driver.failures as error:
            raise self._refused(error) from error
        except StatementWrites:
            raise  # it is the transaction that only reads
        except DriverError as error:
            if error.__cause__ is not None and self._driver.only_reads(error.__cause__):
                self._refused(error.__cause__)
            raise

    def _refused(self, error: BaseException) -> LinklyError:
        if self._driver.only_reads(error):
            self._pool.read_only(error)
        return self._driver.translated(error)

    async def _limited(self, timeout_ms: int, run: Coroutine[Any, Any, T]) -> T:
        """Await what runs on the server for at most so long; it makes no calls over the bus itself."""
        if not timeout_ms:
            return await run
        limit_ms = min(timeout_ms, LONGEST_TIMEOUT_MS)
        try:
            result: T = await bounded(run, self._deadlines, limit_ms / 1000, "")
            return result
        except CallTimeout as error:
            raise self._too_late(limit_ms) from error

    @contextlib.asynccontextmanager
    async def _limit(self, timeout_ms: int) -> AsyncIterator[None]:
        limit_ms = min(timeout_ms, LONGEST_TIMEOUT_MS)
        try:
            async with time_limit(self._clock, limit_ms / 1000 if timeout_ms else None):
                yield
        except TimeoutError as error:
            raise self._too_late(limit_ms) from error

    def _too_late(self, limit_ms: int) -> QueryTimeout:
        return QueryTimeout(
            f"the statement took longer than timeout_ms: {limit_ms} and was stopped",
            details={"db": self.name, "timeout_ms": limit_ms},
        )

    def _kept_by_another(self, lock_timeout_ms: int) -> LockTimeout:
        return LockTimeout(
            f"another migration has kept database `{self.name}` for lock_timeout_ms: {lock_timeout_ms}; "
            "wait for its end, or give a longer lock_timeout_ms",
            details={"db": self.name, "lock_timeout_ms": lock_timeout_ms},
        )

    def _unknown(self, why: str) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"{why}; it may be written or not. Ask what is there before you repeat it", details={"driver": self.driver}
        )


async def _run_all(
    connection: Connection[S, R],
    statements: Sequence[tuple[S, list[Any]]],
    results: list[R],
    expected: Expected,
    conclude: Conclude[S] | None,
) -> None:
    """Run statements in order; `results` gets those of the ones that succeed."""
    for index, (statement, parameters) in enumerate(statements):
        result = await connection.run(statement, parameters)
        if expected:
            check_rows(index, expected, statement.rows_of(result))
        results.append(result)
    if conclude is not None:
        await connection.run(*conclude(results))


def _failure(task: asyncio.Task[Any]) -> BaseException | None:
    return None if task.cancelled() else task.exception()
