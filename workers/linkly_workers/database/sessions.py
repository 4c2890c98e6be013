"""What a caller holds over several calls: prepared statements and interactive transactions.

A transaction ends with its caller's connection (see `owners`), at the latest at its deadline; a prepared statement
keeps its time to live (see `prepared`).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

import msgspec

from linkly import Bus, WorkerGone, function
from linkly.clock import TimerHandle, time_limit
from linkly.context import current_invocation
from linkly.timestamps import time_text
from linkly_workers.database.backend import Committed, Database, Result, Transaction
from linkly_workers.database.backends import Integers
from linkly_workers.database.databases import Databases
from linkly_workers.database.errors import DriverError, TransactionNotFound
from linkly_workers.database.events import RowChangedEvents
from linkly_workers.database.owners import CALLER_GONE, Owner, Owners
from linkly_workers.database.prepared import PreparedStatements
from linkly_workers.database.shapes import (
    DEFAULT_TIMEOUT_MS,
    Begin,
    ExecuteResult,
    Prepare,
    QueryResult,
    RunStatement,
    TransactionStatement,
)
from linkly_workers.database.values import as_executed, as_queried, check_isolation, check_parameters, check_rows

LONGEST_TRANSACTION_MS = 300_000
STOP_GRACE_S = 1.0
"""How long a transaction has to come to its end when the worker is about to stop; writes wait behind it."""


class _Open(msgspec.Struct):
    """A transaction that somebody may still use; `ending`: its end has begun, by whatever."""

    transaction: Transaction[Any]
    database: Database[Any]
    owner: Owner
    timer: TimerHandle
    changes: list[Result]
    ending: bool = False


class Sessions:
    """Prepared statements and interactive transactions."""

    _bus: Bus
    _owners: Owners

    def __init__(self, databases: Databases, events: RowChangedEvents) -> None:
        self._databases = databases
        self._events = events
        self._prepared = PreparedStatements()
        self._open: dict[str, _Open] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._none_open: asyncio.Event | None = None

    @asynccontextmanager
    async def opened(self, bus: Bus) -> AsyncIterator[None]:
        """Serve; at the end roll back what is open."""
        self._bus = bus
        self._prepared, self._none_open = PreparedStatements(), None
        self._owners = Owners(bus, "database::caller_gone", self._sweep)
        try:
            yield
        finally:
            await self._sweep_all()

    async def drain(self) -> None:
        """Give open transactions `STOP_GRACE_S`, then roll them back."""
        self._none_open = asyncio.Event()
        if self._open:
            with suppress(TimeoutError):
                async with time_limit(self._bus.clock, STOP_GRACE_S):
                    await self._none_open.wait()
        await self._sweep_all()

    @function("database::prepareStatement", aliases=["iii-database::prepareStatement"])
    async def prepare_statement(self, request: Prepare) -> dict[str, Any]:
        """Check a statement and answer a handle that runs it until it expires.

        Raises:
            DriverError: The statement cannot be compiled.
            UnknownDatabase: There is no such database.
            Overloaded: The caller has too many handles.
        """
        database = self._databases.find(request.db)
        statement = database.statement(request.sql)
        await database.check(statement)
        prepared = self._prepared.add(
            _caller(), database, statement.text, request.ttl_seconds, self._bus.clock.monotonic()
        )
        return {"handle": {"id": prepared.id, "expires_at": self._time(prepared.ttl_s)}}

    @function("database::runStatement", aliases=["iii-database::runStatement"])
    async def run_statement(self, request: RunStatement) -> QueryResult:
        """Run a prepared statement and answer its rows.

        Raises:
            StatementNotFound: The handle is unknown or has expired.
            DriverError: The database refused it.
        """
        prepared = self._prepared.find(request.handle_id, self._bus.clock.monotonic())
        database = prepared.database
        statement, parameters = database.statement(prepared.sql), check_parameters(request.params)
        committed = self._events.following(database.name, (statement,))
        result = await database.query(statement, parameters, DEFAULT_TIMEOUT_MS, committed)
        return as_queried(result, request, request.integers or self._databases.integers(database.name))

    @function("database::beginTransaction", aliases=["iii-database::beginTransaction"])
    async def begin_transaction(self, request: Begin) -> dict[str, Any]:
        """Open a transaction over several calls; it is rolled back at its deadline, or when its caller has gone.

        Reading disturbs nobody; from its first write to its end the writes of all others wait in line.

        Raises:
            PoolTimeout: All connections are taken.
            InvalidParam: There is no such isolation level.
            UnknownDatabase: There is no such database.
        """
        check_isolation(request.isolation)
        database = self._databases.find(request.db)
        longest_s = LONGEST_TRANSACTION_MS / 1000 if self._none_open is None else STOP_GRACE_S
        timeout_s = min(request.timeout_ms / 1000, longest_s)
        transaction_id = str(uuid.uuid4())
        owner = self._owners.enter(_caller(), transaction_id)  # before anything else: it may end at any time
        try:
            transaction = await database.begin(transaction_id, request.isolation)
        except BaseException:
            self._owners.leave(owner, transaction_id)
            raise
        why = f"at its deadline of {timeout_s * 1000:.0f} ms"
        timer = self._bus.clock.call_later(timeout_s, lambda: self._sweep(transaction_id, why))
        self._open[transaction_id] = _Open(transaction, database, owner, timer, [])
        if owner.gone:
            self._sweep(transaction_id, CALLER_GONE)
        return {"transaction": {"id": transaction.id, "expires_at": self._time(timeout_s), "db": database.name}}

    @function("database::caller_gone", metadata={"internal": True})
    async def caller_gone(self, request: WorkerGone, metadata: Any = None) -> None:
        """Roll back what a caller that is gone has left open; the engine says so (`engine::worker-gone`)."""
        self._owners.gone(request, metadata)

    @function("database::transactionQuery", aliases=["iii-database::transactionQuery"])
    async def transaction_query(self, request: TransactionStatement) -> QueryResult:
        """Run a statement inside an open transaction and answer its rows.

        Raises:
            TransactionNotFound: It is unknown or has ended.
            DriverError: The database refused the statement; the transaction goes on.
        """
        result, integers = await self._run_inside(request, "query")
        return as_queried(result, request, integers)

    @function("database::transactionExecute", aliases=["iii-database::transactionExecute"])
    async def transaction_execute(self, request: TransactionStatement) -> ExecuteResult:
        """Run a statement inside an open transaction that changes something.

        Raises:
            TransactionNotFound: It is unknown or has ended.
            DriverError: The database refused the statement; the transaction goes on.
        """
        result, integers = await self._run_inside(request, "execute")
        return as_executed(result, request, integers)

    @function("database::commitTransaction", aliases=["iii-database::commitTransaction"])
    async def commit_transaction(self, transaction_id: str) -> dict[str, bool]:
        """End a transaction; answered when it is on disk.

        A caller that goes away meanwhile does not stop it.

        Args:
            transaction_id: The id that beginTransaction answered.

        Raises:
            TransactionNotFound: It is unknown or has ended.
            DriverError: It could not be committed and has been rolled back.
        """
        opened = self._opened(transaction_id)
        committed = self._events.following(opened.database.name)
        told = (lambda: None) if committed is None else (lambda: committed(opened.changes))
        await self._finish(opened, opened.transaction.commit(told))
        return {"committed": True}

    @function("database::rollbackTransaction", aliases=["iii-database::rollbackTransaction"])
    async def rollback_transaction(self, transaction_id: str) -> dict[str, bool]:
        """End a transaction without a trace.

        Args:
            transaction_id: The id that beginTransaction answered.

        Raises:
            TransactionNotFound: It is unknown or has ended.
        """
        opened = self._opened(transaction_id)
        await self._finish(opened, opened.transaction.roll_back("by rollbackTransaction"))
        return {"rolled_back": True}

    async def conclude(
        self,
        transaction_id: str,
        statements: Sequence[tuple[Any, list[Any]]],
        expected: Sequence[int | None],
        committed: Committed | None,
    ) -> list[Result]:
        """Run the last statements of a transaction and commit it; if one fails it goes on.

        Raises:
            TransactionNotFound: It is unknown or has ended.
            ExpectationFailed, DriverError: As `Database.transaction`; `details.failed_index` says which statement.
        """
        opened = self._opened(transaction_id)
        results: list[Result] = []
        try:
            for index, (statement, parameters) in enumerate(statements):
                result = await opened.transaction.execute(statement, parameters, tell_change=committed is not None)
                check_rows(index, expected, statement.rows_of(result))
                results.append(result)
        except DriverError as error:
            error.details["failed_index"] = len(results)
            raise
        opened.changes += [result for result in results if result.change is not None]
        told = (lambda: None) if committed is None else (lambda: committed(opened.changes))
        await self._finish(opened, opened.transaction.commit(told))
        return results

    async def abandon(self, transaction_id: str) -> None:
        """Roll a transaction back whose last operations have failed; harmless when it has ended."""
        opened = self._open.get(transaction_id)
        if opened is not None and not opened.ending:
            await self._finish(opened, opened.transaction.roll_back("because its last operations failed"))

    def database_of(self, transaction_id: str) -> Database[Any]:
        """Return the database of an open transaction.

        Raises:
            TransactionNotFound: It is unknown or has ended.
        """
        return self._opened(transaction_id).database

    async def _run_inside(
        self, request: TransactionStatement, how: Literal["query", "execute"]
    ) -> tuple[Result, Integers]:
        opened = self._opened(request.transaction_id)
        statement, parameters = opened.database.statement(request.sql), check_parameters(request.params)
        tell_change = self._events.may_match(opened.database.name, (statement.text,))
        run = opened.transaction.query if how == "query" else opened.transaction.execute
        try:
            result = await run(statement, parameters, tell_change=tell_change)
        finally:
            if opened.transaction.ended:
                self._forget(opened)
        if result.change is not None:
            opened.changes.append(result)
        return result, request.integers or self._databases.integers(opened.database.name)

    def _opened(self, transaction_id: str) -> _Open:
        opened = self._open.get(transaction_id)
        if opened is None or opened.ending:
            raise TransactionNotFound(
                f"transaction `{transaction_id}` is unknown or has ended", details={"transaction_id": transaction_id}
            )
        return opened

    async def _finish(self, opened: _Open, how: Coroutine[Any, Any, None]) -> None:
        """End a transaction for a caller; it ends also when the caller goes away, because others wait for its turn.

        Until then its deadline stands, in case a statement before the end never comes to one.
        """
        task = self._end(opened, how)
        task.add_done_callback(_failure)  # nobody else asks for it when the caller has gone
        await asyncio.shield(task)

    def _end(self, opened: _Open, how: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        opened.ending = True
        task = asyncio.get_running_loop().create_task(how, name="end of a transaction")
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        task.add_done_callback(lambda _: self._forget(opened))
        return task

    def _forget(self, opened: _Open) -> None:
        """It has ended; several may say so."""
        if self._open.pop(opened.transaction.id, None) is not None:
            opened.timer.cancel()
            self._owners.leave(opened.owner, opened.transaction.id)
            if self._none_open is not None and not self._open:
                self._none_open.set()

    def _sweep(self, transaction_id: str, why: str) -> None:
        opened = self._open.get(transaction_id)
        if opened is not None:
            self._end(opened, opened.transaction.roll_back(why))

    async def _sweep_all(self) -> None:
        for transaction_id in list(self._open):
            self._sweep(transaction_id, "because the database worker stops")
        while self._endings:
            await asyncio.wait(self._endings)

    def _time(self, seconds_from_now: float) -> str:
        return time_text(self._bus.clock.time() + seconds_from_now)


def _caller() -> str:
    """Return the worker id of whoever makes the call that is served, `""` if nobody says."""
    invocation = current_invocation.get()
    return "" if invocation is None or invocation.caller is None else invocation.caller.worker_id


def _failure(task: asyncio.Task[None]) -> BaseException | None:
    return None if task.cancelled() else task.exception()
