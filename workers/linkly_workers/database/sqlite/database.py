"""One SQLite database: a writer that commits in groups, and connections that read beside it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from typing import Any

from linkly.atomic import inside
from linkly.clock import time_limit
from linkly.context import current_invocation
from linkly.errors import Overloaded
from linkly_workers._sql.tokens import SQLITE
from linkly_workers._sqlite import (
    Connection,
    GroupCommitWriter,
    Statement,
    StatementResult,
    execute,
)
from linkly_workers._sqlite.connection import LOOP_VALUE_BYTES
from linkly_workers._sqlite.execution import compile_only
from linkly_workers.database.backend import Committed, Conclude, Expected, Take
from linkly_workers.database.backends import Opening
from linkly_workers.database.errors import (
    DriverError,
    ExpectationFailed,
    LockTimeout,
    QueryTimeout,
    StatementWrites,
)
from linkly_workers.database.sqlite import schema
from linkly_workers.database.sqlite.compiler import can_learn, describing, learn, target_of
from linkly_workers.database.sqlite.copy_side import SqliteSide
from linkly_workers.database.sqlite.errors import FAILURES, driver_error, is_write, refused
from linkly_workers.database.sqlite.pool import ReaderPool
from linkly_workers.database.sqlite.reader import LoopReader, Reader
from linkly_workers.database.sqlite.transaction import InteractiveTransaction
from linkly_workers.database.values import check_rows

IN_MEMORY = ":memory:"
LONGEST_TIMEOUT_MS = 3_600_000
SCHEMA_TIMEOUT_MS = 30_000


class SqliteDatabase:
    """One file, `async with` it."""

    driver = "sqlite"
    capture = None
    dialect = SQLITE

    def __init__(self, opening: Opening, path: str) -> None:
        settings = opening.settings
        self.name = opening.name
        self.path = path
        self.url = f"sqlite:{path}"
        self._writer = GroupCommitWriter(
            path,
            durability=settings.durability,
            value_bytes=LOOP_VALUE_BYTES,
            max_result_bytes=opening.max_result_bytes,
            clock=opening.clock,
        )
        self._statements = self._writer.statements
        # A database in memory has one connection only, the writer's.
        self._on_loop: LoopReader | None = None
        self._describing: Connection | None = None  # its own, because a new view makes it compile everything again
        self._clock = opening.clock
        self.copy_side = SqliteSide(self.url, self._rows, self.describe)
        self._open_transactions: dict[str, InteractiveTransaction] = {}
        self._pool = ReaderPool(opening.name, self._reader, settings.pool, opening.clock)

    async def __aenter__(self) -> SqliteDatabase:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._writer)
            stack.push_async_callback(self._close_readers)
            if self.path != IN_MEMORY:
                self._on_loop = LoopReader(self.path, self._statements, self._writer.max_result_bytes)
                self._describing = describing(self.path, self._statements)
            self._open = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._open.aclose()

    async def _close_readers(self) -> None:
        await self._pool.close()
        if self._on_loop is not None:
            self._on_loop.close()
        if self._describing is not None:
            self._describing.close()

    @property
    def waiting_writes(self) -> int:
        """Count the writes that wait for their turn."""
        return self._writer.waiting

    @property
    def idle_connections(self) -> int:
        """Count the open connections that nobody uses."""
        return self._pool.idle

    def trouble(self) -> str | None:
        """Return why writes do not go through now, `None` if nothing is known against it."""
        return self._writer.trouble()

    def statement(self, sql: str) -> Statement:
        """Return the statement of a text: see `Database.statement`."""
        statement = self._statements.of(sql)
        if statement.refusal is not None:
            raise refused(statement.refusal, unclear=statement.refusal == statement.unclear)
        if not statement.text:
            raise DriverError("empty SQL", details={"driver": "sqlite", "inner_code": None})
        return statement

    async def check(self, statement: Statement) -> None:
        """Compile a statement without running it: see `Database.check`."""
        try:
            if self._on_loop is not None:
                self._on_loop.check(statement)
            else:
                await self._writer.run(lambda connection: compile_only(connection, statement))
        except FAILURES as error:
            raise driver_error(error) from error

    # --- reading -------------------------------------------------------------------------------------------

    async def query(
        self, statement: Statement, parameters: list[Any], timeout_ms: int, committed: Committed | None = None
    ) -> StatementResult:
        """Run a statement for its rows; one that writes is sent to the writer: see `Database.query`."""
        result = await self._query(statement, parameters, timeout_ms, committed)
        if self._describing is None:
            await self._learn_in_memory(statement, len(result.columns))
        result.types = self._known_types(statement, len(result.columns))
        return result

    async def _query(
        self, statement: Statement, parameters: list[Any], timeout_ms: int, committed: Committed | None
    ) -> StatementResult:
        if self._on_loop is not None:
            try:
                return self._on_loop.read(statement, parameters) or await self._on_thread(
                    statement, parameters, timeout_ms
                )
            except FAILURES as error:
                if not (is_write(error) or statement.vacuum):
                    raise driver_error(error, parameters) from error
        return await self.execute(statement, parameters, timeout_ms, committed)

    async def read_only(self, statement: Statement, parameters: list[Any], timeout_ms: int) -> StatementResult:
        """Run a statement that must not write: see `Database.read_only`."""
        if statement.vacuum:  # a reader says of it what is true of no caller's VACUUM
            raise StatementWrites("VACUUM writes", details={"driver": self.driver, "inner_code": None})
        try:
            if self._on_loop is not None:
                result = self._on_loop.read(statement, parameters) or await self._on_thread(
                    statement, parameters, timeout_ms
                )
            else:
                result = await self._writer.run(
                    lambda connection: _without_writing(connection, statement, parameters),
                    timeout_s=_seconds(timeout_ms),
                )
        except TimeoutError as error:
            raise self._timeout(timeout_ms) from error
        except FAILURES as error:
            raise driver_error(error, parameters) from error
        if self._describing is None:
            await self._learn_in_memory(statement, len(result.columns))
        result.types = self._known_types(statement, len(result.columns))
        return result

    async def stream(self, statement: Statement, parameters: list[Any], timeout_ms: int, take: Take) -> None:
        """Run a statement that must not write, and hand its rows over in batches: see `Database.stream`."""
        if statement.vacuum or self._on_loop is None:
            await take(await self.read_only(statement, parameters, timeout_ms))
            return

        async def typed(result: StatementResult) -> None:
            result.types = self._known_types(statement, len(result.columns))
            await take(result)

        try:
            async with time_limit(self._clock, _seconds(timeout_ms)):
                await self._pool.using(lambda reader: reader.stream(statement, parameters, typed))
        except TimeoutError as error:
            raise self._timeout(timeout_ms) from error
        except FAILURES as error:
            raise driver_error(error, parameters) from error

    async def _on_thread(self, statement: Statement, parameters: list[Any], timeout_ms: int) -> StatementResult:
        try:
            async with time_limit(self._clock, _seconds(timeout_ms)):
                return await self._pool.using(lambda reader: reader.read(statement, parameters))
        except TimeoutError as error:
            raise self._timeout(timeout_ms) from error

    async def tables(self) -> list[tuple[str, str]]:
        """Return name and kind of the tables: see `Database.tables`."""
        return await schema.tables(self._rows)

    async def describe(self, table: str) -> dict[str, Any] | None:
        """Describe a table: see `Database.describe`."""
        return await schema.describe(self._rows, table)

    async def plan(self, statement: Statement, parameters: list[Any]) -> list[dict[str, Any]]:
        """Return how SQLite would run a statement: see `Database.plan`."""
        explaining = self._statements.of("EXPLAIN QUERY PLAN " + statement.text)
        steps = await self._query(explaining, parameters, SCHEMA_TIMEOUT_MS, None)
        return [{"id": row[0], "parent": row[1], "detail": row[3]} for row in steps.rows]

    async def _rows(self, sql: str, *parameters: str) -> list[tuple[Any, ...]]:
        return (await self._query(self._statements.of(sql), list(parameters), SCHEMA_TIMEOUT_MS, None)).rows

    def _reader(self) -> Reader:
        self._writer.file.check()
        return Reader(self.path, self._statements, self._writer.max_result_bytes)

    async def _learn_in_memory(self, statement: Statement, count: int) -> None:
        if count and can_learn(statement):
            with contextlib.suppress(TimeoutError, Overloaded, sqlite3.Error):  # then they are not told
                await self._writer.run(lambda connection: learn(connection, statement, count), timeout_s=1)

    def _known_types(self, statement: Statement, count: int) -> list[str]:
        """Return the types of columns; in memory they are known once the statement was queried by itself."""
        known = statement.types
        if known is not None and len(known) == count:
            return known
        return [""] * count if self._describing is None else learn(self._describing, statement, count)

    # --- writing -------------------------------------------------------------------------------------------

    async def execute(
        self, statement: Statement, parameters: list[Any], timeout_ms: int, committed: Committed | None = None
    ) -> StatementResult:
        """Run a statement that writes; answered when it is on disk: see `Database.execute`.

        Raises:
            DataFileLost: The file was deleted or replaced; nothing was written.
        """
        timeout_s = _seconds(timeout_ms)
        self._check_waits()
        try:
            if committed is None:
                forget = self._forget_types if statement.changes_schema else None
                return await self._writer.execute(statement, parameters, on_commit=forget, timeout_s=timeout_s)
            results = await self._run([(statement, parameters)], timeout_s, committed)
            return results[0]
        except TimeoutError as error:
            raise self._timeout(timeout_ms) from error
        except FAILURES as error:
            raise driver_error(error, parameters) from error

    async def transaction(
        self,
        statements: Sequence[tuple[Statement, list[Any]]],
        timeout_ms: int,
        committed: Committed | None = None,
        isolation: str | None = None,
        expected: Expected = (),
        conclude: Conclude[Statement] | None = None,
    ) -> list[StatementResult]:
        """Run statements all or not at all; answered when they are on disk: see `Database.transaction`.

        Every level is serializable.

        Raises:
            DataFileLost: The file was deleted or replaced; nothing was written.
        """
        self._check_waits()
        try:
            return await self._run(statements, _seconds(timeout_ms), committed, expected, conclude)
        except TimeoutError as error:
            raise self._timeout(timeout_ms) from error
        except sqlite3.Error as error:
            raise driver_error(error) from error

    async def begin(self, transaction_id: str, isolation: str | None) -> InteractiveTransaction:
        """Open a transaction over several calls: see `Database.begin`. Every level is serializable."""
        self._check_waits()
        place = await self._pool.acquire()

        def ended() -> None:
            self._open_transactions.pop(transaction_id, None)
            self._pool.release(place)

        transaction = InteractiveTransaction(
            transaction_id,
            self._writer,
            types=self._known_types,
            ended=ended,
        )
        self._open_transactions[transaction_id] = transaction
        try:
            await transaction.begin(serializable=isolation == "serializable")
        except sqlite3.Error as error:
            raise driver_error(error) from error
        return transaction

    async def begin_alone(self, transaction_id: str, lock_timeout_ms: int) -> InteractiveTransaction:
        """Open a transaction that holds the writer's turn, which one has: see `Database.begin_alone`."""
        try:
            async with time_limit(self._clock, lock_timeout_ms / 1000):
                return await self.begin(transaction_id, "serializable")
        except TimeoutError as error:
            raise LockTimeout(
                f"another transaction has kept database `{self.name}` for lock_timeout_ms: {lock_timeout_ms}",
                details={"db": self.name, "lock_timeout_ms": lock_timeout_ms},
            ) from error

    def _check_waits(self) -> None:
        """Refuse a write that would wait for the transaction in which it is called for.

        Raises:
            WouldWaitForItself: This one has the writer's turn.
        """
        if self._open_transactions:
            made_in = inside(current_invocation.get())
            if made_in is not None:
                transaction = self._open_transactions.get(made_in.transaction_id)
                if transaction is not None and transaction.has_turn:
                    raise made_in.error()

    async def _run(
        self,
        statements: Sequence[tuple[Statement, list[Any]]],
        timeout_s: float | None,
        committed: Committed | None,
        expected: Expected = (),
        conclude: Conclude[Statement] | None = None,
    ) -> list[StatementResult]:
        forget = any(statement.changes_schema for statement, _ in statements)
        saved = any(rows is not None for rows in expected[1:])

        def guarded(connection: Connection) -> list[StatementResult] | ExpectationFailed:
            # An expectation that fails is no failure to the batch, which would run again one by one: it is undone here,
            # and its neighbours are committed with nothing of it. The first statement needs no savepoint (15 % of a
            # small transaction): nearly always it has changed nothing when it has other rows than expected.
            before = connection.total_changes
            if saved:
                connection.own("SAVEPOINT guarded")
            outcome: list[StatementResult] | ExpectationFailed
            try:
                outcome = operation(connection)
            except ExpectationFailed as error:
                if saved:
                    connection.own("ROLLBACK TO guarded")
                elif forget or connection.total_changes != before:
                    raise
                outcome = error
            if saved:
                connection.own("RELEASE guarded")
            return outcome

        def operation(connection: Connection) -> list[StatementResult]:
            results: list[StatementResult] = []
            read_bytes = 0
            for statement, parameters in statements:
                try:
                    result = execute(connection, statement, parameters, read_bytes)
                except FAILURES as error:
                    error.failed_index = len(results)  # type: ignore[union-attr]
                    raise
                if expected:
                    check_rows(len(results), expected, statement.rows_of(result))
                results.append(result)
                read_bytes += connection.result_bytes
                if committed is not None and result.affected_rows:
                    result.change = target_of(connection, statement)
            if conclude is not None:
                execute(connection, *conclude(results))
            return results

        def on_commit(outcome: list[StatementResult] | ExpectationFailed) -> None:
            if forget:
                self._forget_types()
            if committed is not None and not isinstance(outcome, ExpectationFailed):
                committed([result for result in outcome if result.change is not None])

        try:
            outcome = await self._writer.run(
                guarded if expected else operation,
                on_commit=on_commit if forget or committed is not None else None,
                timeout_s=timeout_s,
                key=tuple(statement.text for statement, _ in statements),
            )
            if isinstance(outcome, ExpectationFailed):
                raise outcome
            return outcome
        except BaseException as error:
            if forget:
                self._statements.forget_tables()  # rolled back, the tables are again what they were
            if not isinstance(error, FAILURES):
                raise
            index = getattr(error, "failed_index", None)
            failure = driver_error(error, () if index is None else statements[index][1])
            if index is not None:
                failure.details["failed_index"] = index
            raise failure from error

    def _forget_types(self, _: object = None) -> None:
        self._statements.forget_types()

    def _timeout(self, timeout_ms: int) -> QueryTimeout:
        limit_ms = min(timeout_ms, LONGEST_TIMEOUT_MS)
        return QueryTimeout(
            f"the statement took longer than timeout_ms: {limit_ms} and was interrupted",
            details={"db": self.name, "timeout_ms": limit_ms},
        )


def _seconds(timeout_ms: int) -> float | None:
    return min(timeout_ms, LONGEST_TIMEOUT_MS) / 1000 if timeout_ms else None


def _without_writing(connection: Connection, statement: Statement, parameters: list[Any]) -> StatementResult:
    connection.own("PRAGMA query_only = ON")
    try:
        return execute(connection, statement, parameters)
    finally:
        connection.own("PRAGMA query_only = OFF")
