"""What a caller holds over several calls: prepared statements and interactive transactions.

A transaction ends with its caller's connection (see `owners`), at the latest at its deadline; a prepared statement
keeps its time to live (see `prepared`).
"""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec

from linkly import WorkerGone, function
from linkly.clock import TimerHandle
from linkly.context import current_invocation
from linkly_workers._sqlite import StatementResult
from linkly_workers.database.base import DatabaseBase
from linkly_workers.database.errors import TransactionNotFound, driver_error
from linkly_workers.database.interactive import InteractiveTransaction
from linkly_workers.database.owners import CALLER_GONE, Owner, Owners
from linkly_workers.database.prepared import PreparedStatements
from linkly_workers.database.shapes import (
    Begin,
    Column,
    ExecuteResult,
    Prepare,
    QueryResult,
    RunStatement,
    TransactionStatement,
)
from linkly_workers.database.sql import as_rows, check_isolation, check_parameters, check_sql
from linkly_workers.database.sqlite import SqliteDatabase

LONGEST_TRANSACTION_MS = 300_000
STOP_GRACE_S = 1.0
"""How long a transaction has to come to its end when the worker is about to stop; writes wait behind it."""


class _Open(msgspec.Struct):
    """A transaction that somebody may still use; `ending`: its end has begun, by whatever."""

    transaction: InteractiveTransaction
    database: SqliteDatabase
    owner: Owner
    timer: TimerHandle
    ending: bool = False


class SessionFunctions(DatabaseBase):
    """Prepared statements and interactive transactions."""

    _prepared: PreparedStatements
    _owners: Owners
    _open: dict[str, _Open]

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Roll back what is open at the end."""
        self._prepared = PreparedStatements()
        self._owners = Owners(self.bus, "database::caller_gone", self._sweep)
        self._open = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._none_open: asyncio.Event | None = None
        async with super().lifespan():
            try:
                yield
            finally:
                await self._sweep_all()

    async def drain(self) -> None:
        """Give open transactions `STOP_GRACE_S` and roll them back then; deliver the row-changed events that wait."""
        self._none_open = asyncio.Event()
        if self._open:
            timer = self.bus.clock.call_later(STOP_GRACE_S, self._none_open.set)
            await self._none_open.wait()
            timer.cancel()
        await self._sweep_all()
        await super().drain()

    @function("database::prepareStatement", aliases=["iii-database::prepareStatement"])
    async def prepare_statement(self, request: Prepare) -> dict[str, Any]:
        """Check a statement and answer a handle that runs it until it expires.

        Raises:
            DriverError: The statement cannot be compiled.
            UnknownDatabase: There is no such database.
            Overloaded: The caller has too many handles.
        """
        database = self._find(request.db)
        sql = check_sql(request.sql)
        await database.check(sql)
        prepared = self._prepared.add(_caller(), database, sql, request.ttl_seconds, self.bus.clock.monotonic())
        return {"handle": {"id": prepared.id, "expires_at": self._time(prepared.ttl_s)}}

    @function("database::runStatement", aliases=["iii-database::runStatement"])
    async def run_statement(self, request: RunStatement) -> QueryResult:
        """Run a prepared statement and answer its rows.

        Raises:
            StatementNotFound: The handle is unknown or has expired.
            DriverError: The database refused it.
        """
        prepared = self._prepared.find(request.handle_id, self.bus.clock.monotonic())
        database = prepared.database
        # 30 s: a call has no longer time by default either.
        result = await database.query(
            prepared.sql, check_parameters(request.params), 30_000, self._changed(database, (prepared.sql,))
        )
        return _as_query(result, request, database.column_types(prepared.sql, len(result.columns)))

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
        database = self._find(request.db)
        longest_s = LONGEST_TRANSACTION_MS / 1000 if self._none_open is None else STOP_GRACE_S
        timeout_s = min(request.timeout_ms / 1000, longest_s)
        transaction_id = str(uuid.uuid4())
        owner = self._owners.enter(_caller(), transaction_id)  # before anything else: it may end at any time
        try:
            transaction = await database.begin(transaction_id, serializable=request.isolation == "serializable")
        except BaseException:
            self._owners.leave(owner, transaction_id)
            raise
        why = f"at its deadline of {timeout_s * 1000:.0f} ms"
        timer = self.bus.clock.call_later(timeout_s, lambda: self._sweep(transaction_id, why))
        self._open[transaction_id] = _Open(transaction, database, owner, timer)
        if owner.gone:
            self._sweep(transaction_id, CALLER_GONE)
        return {"transaction": {"id": transaction.id, "expires_at": self._time(timeout_s)}}

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
        result = await self._run_inside(request)
        types = self._opened_types(request, len(result.columns))
        return _as_query(result, request, types)

    @function("database::transactionExecute", aliases=["iii-database::transactionExecute"])
    async def transaction_execute(self, request: TransactionStatement) -> ExecuteResult:
        """Run a statement inside an open transaction that changes something.

        Raises:
            TransactionNotFound: It is unknown or has ended.
            DriverError: The database refused the statement; the transaction goes on.
        """
        result = await self._run_inside(request)
        returned = as_rows(result, request.blobs, request.invalid_text) if request.returning else []
        inserted = None if result.last_insert_id is None else str(result.last_insert_id)
        return ExecuteResult(result.affected_rows, inserted, returned)

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
        changed = self._changed(opened.database)

        def committed() -> None:
            if opened.transaction.changed_schema:
                opened.database.forget_types()
            for target, result in opened.transaction.changes if changed is not None else ():
                changed(target, result)  # type: ignore[misc]

        try:
            await self._finish(opened, opened.transaction.commit(committed))
        except sqlite3.Error as error:
            raise driver_error(error) from error
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

    async def _run_inside(self, request: TransactionStatement) -> StatementResult:
        opened = self._opened(request.transaction_id)
        sql, parameters = check_sql(request.sql), check_parameters(request.params)
        classify = self._events.listening(opened.database.name, (sql,))
        try:
            return await opened.transaction.execute(sql, parameters, classify=classify)
        except (sqlite3.Error, sqlite3.Warning, OverflowError) as error:
            raise driver_error(error) from error
        finally:
            if opened.transaction.ended:
                self._forget(opened)

    def _opened_types(self, request: TransactionStatement, count: int) -> list[str]:
        opened = self._open.get(request.transaction_id)
        return [""] * count if opened is None else opened.database.column_types(request.sql, count)

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
        task = asyncio.get_running_loop().create_task(self._ended(opened, how), name="end of a transaction")
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        return task

    async def _ended(self, opened: _Open, how: Coroutine[Any, Any, None]) -> None:
        try:
            await how
        finally:
            self._forget(opened)

    def _forget(self, opened: _Open) -> None:
        """It has ended; several may say so, its connection is given back once."""
        if self._open.pop(opened.transaction.id, None) is not None:
            opened.timer.cancel()
            self._owners.leave(opened.owner, opened.transaction.id)
            opened.database.release(opened.transaction)
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
        moment = datetime.fromtimestamp(self.bus.clock.time() + seconds_from_now, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _caller() -> str:
    """Return the worker id of whoever makes the call that is served, `""` if nobody says."""
    invocation = current_invocation.get()
    return "" if invocation is None or invocation.caller is None else invocation.caller.worker_id


def _as_query(result: StatementResult, request: RunStatement | TransactionStatement, types: list[str]) -> QueryResult:
    rows = as_rows(result, request.blobs, request.invalid_text)
    columns = [Column(name, kind) for name, kind in zip(result.columns, types, strict=True)]
    return QueryResult(rows, len(rows), columns)


def _failure(task: asyncio.Task[None]) -> BaseException | None:
    return None if task.cancelled() else task.exception()
