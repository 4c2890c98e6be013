"""A transaction over several calls.

It has a connection and a thread of its own, and reads one snapshot without disturbing anybody. Its first write asks the
group-commit writer for a turn: it comes in order, and from then until the end the writes of all others wait in line;
they neither fail with SQLITE_BUSY nor become part of it. The deadline bounds that wait. A transaction that read before
somebody else wrote, and then writes itself, is refused with SQLITE_BUSY_SNAPSHOT: what it has read is no longer true.
`isolation: serializable` takes the turn at the start and cannot meet that. `:memory:` has one connection only, so
every interactive transaction in it holds the turn.

SQLite rolls the whole transaction back when a write is interrupted. Whether it is still open is therefore asked on its
own thread before every statement: without it a statement would be committed by itself.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from linkly_workers._sqlite import (
    Connection,
    GroupCommitWriter,
    Statement,
    StatementResult,
    Turn,
    connect,
    execute,
)
from linkly_workers._sqlite.connection import THREAD_CHECK_STEPS
from linkly_workers.database.errors import TransactionNotFound
from linkly_workers.database.sqlite.compiler import target_of
from linkly_workers.database.sqlite.errors import FAILURES, driver_error, is_write

T = TypeVar("T")


class InteractiveTransaction:
    """One open transaction; its calls queue up behind one another."""

    def __init__(
        self,
        transaction_id: str,
        writer: GroupCommitWriter,
        *,
        types: Callable[[Statement, int], Sequence[str]],
        ended: Callable[[], None],
    ) -> None:
        self.id = transaction_id
        self.ended = False
        self._types = types
        self._tell_ended = ended
        self._changed_schema = False
        self._writer = writer
        self._thread: ThreadPoolExecutor | None = None
        self._connection: Connection | None = None
        self._turn: Turn | None = None
        self._may_write = False
        self._asking: asyncio.Task[Turn] | None = None
        self._inside: asyncio.Task[Any] | None = None
        self._lock = asyncio.Lock()
        self._stopped: str | None = None

    @property
    def has_turn(self) -> bool:
        """Whether the writes of others wait for its end."""
        return self._turn is not None

    async def begin(self, *, serializable: bool) -> None:
        """Start it.

        Raises:
            sqlite3.Error: The file cannot be opened.
            DataFileLost: It is not the one that is written to.
        """
        in_memory = self._writer.path == ":memory:"
        try:
            if not in_memory:
                self._thread = ThreadPoolExecutor(1, thread_name_prefix="transaction")
                await asyncio.get_running_loop().run_in_executor(self._thread, self._open)
            if serializable or in_memory:
                await self._take_turn()
            await self._run(lambda connection: connection.own("BEGIN").close())
        except BaseException as error:
            await asyncio.shield(self._close())
            if isinstance(error, sqlite3.Error):
                self._writer.file.check()  # a file that goes while it is opened fails in many words
            raise

    async def query(self, statement: Statement, parameters: list[Any], *, tell_change: bool = False) -> StatementResult:
        """Run a statement inside it for its rows: see `Transaction.query`."""
        result = await self.execute(statement, parameters, tell_change=tell_change)
        count = len(result.columns)
        result.types = [""] * count if self.ended else self._types(statement, count)
        return result

    async def execute(
        self, statement: Statement, parameters: list[Any], *, tell_change: bool = False
    ) -> StatementResult:
        """Run a statement inside it: see `Transaction.execute`.

        A write that is RETURNING what is no text ends it: SQLite cannot undo that statement alone.
        """
        try:
            return await self._execute(statement, parameters, tell_change)
        except FAILURES as error:
            raise driver_error(error) from error

    async def _execute(self, statement: Statement, parameters: list[Any], tell_change: bool) -> StatementResult:
        def operation(connection: Connection) -> StatementResult:
            _check_open(connection)
            try:
                result = execute(connection, statement, parameters)
            except sqlite3.Error as error:
                if not hasattr(error, "sqlite_errorcode") and connection.left_rows:
                    _roll_back(connection)  # to SQLite it has not failed, so nothing of it is undone
                raise
            if tell_change and result.affected_rows:
                result.change = target_of(connection, statement)
            return result

        async with self._lock:
            self._check()
            self._changed_schema |= statement.changes_schema  # before: a cancelled caller's statement may run as well
            try:
                try:
                    result = await self._run(operation)
                except sqlite3.OperationalError as error:
                    if self._turn is not None or not is_write(error):
                        raise
                    await self._take_turn()
                    result = await self._run(operation)
            except _RolledBack as error:
                await asyncio.shield(self._close())
                raise self._rolled_back() from error
            except sqlite3.Error as error:
                if not await self._run(lambda connection: connection.in_transaction):
                    # An interrupted write, ON CONFLICT ROLLBACK or a full disk: SQLite has ended it.
                    await asyncio.shield(self._close())
                if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                    self._check()  # it is not the statement that was wrong
                raise
            return result

    async def commit(self, committed: Callable[[], None]) -> None:
        """Write it: see `Transaction.commit`."""
        async with self._lock:
            self._check()
            try:
                await self._run(self._commit, stoppable=False)
                if self._changed_schema:
                    self._writer.statements.forget_types()
                committed()
            except _RolledBack as error:
                raise self._rolled_back() from error
            except sqlite3.Error as error:
                raise driver_error(error) from error
            finally:
                await self._close()

    async def roll_back(self, why: str) -> None:
        """End it without a trace, after stopping the statement that runs; harmless when it has ended."""
        self._stopped = why
        if self._inside is not None:
            self._inside.cancel()
        if self._asking is not None:
            self._asking.cancel()
        async with self._lock:
            await asyncio.shield(self._close())

    def _check(self) -> None:
        if self._stopped is not None:
            raise self._not_found(f"was rolled back {self._stopped}")
        if self.ended:
            raise self._not_found("is unknown or has ended")

    def _rolled_back(self) -> TransactionNotFound:
        return self._not_found(
            "has ended: its statement was cancelled, and SQLite has rolled back all of it. Begin another one"
        )

    def _not_found(self, reason: str) -> TransactionNotFound:
        return TransactionNotFound(f"transaction `{self.id}` {reason}", details={"transaction_id": self.id})

    async def _take_turn(self) -> None:
        self._asking = asyncio.get_running_loop().create_task(self._writer.turn())
        try:
            await asyncio.wait([self._asking])
        except asyncio.CancelledError:
            self._asking.cancel()
            await asyncio.wait([self._asking])
            if not self._asking.cancelled() and self._asking.exception() is None:
                self._asking.result().end()
            raise
        if self._asking.cancelled():
            self._check()
        self._turn = self._asking.result()
        self._asking = None

    async def _run(self, operation: Callable[[Connection], T], *, stoppable: bool = True) -> T:
        if self._thread is None:
            if self._turn is None:
                raise self._not_found("has ended")
            return await self._run_in_turn(self._turn, operation, stoppable)
        running = asyncio.get_running_loop().run_in_executor(self._thread, self._run_on_thread, operation)
        try:
            return await running
        except asyncio.CancelledError:
            self._cancelled = True
            raise

    async def _run_in_turn(self, turn: Turn, operation: Callable[[Connection], T], stoppable: bool) -> T:
        inside = asyncio.get_running_loop().create_task(turn.run(operation))
        if stoppable:
            self._inside = inside
        task = asyncio.current_task()
        asked = 0 if task is None else task.cancelling()
        try:
            return await inside
        except asyncio.CancelledError:
            if task is not None and task.cancelling() == asked:
                self._check()  # the deadline has stopped it, not its caller
            raise
        finally:
            self._inside = None

    def _open(self) -> None:
        self._writer.file.check()
        connection = connect(
            self._writer.path,
            durability=self._writer.durability,
            max_result_bytes=self._writer.max_result_bytes,
            statements=self._writer.statements,
        )
        connection.own("PRAGMA wal_autocheckpoint = 0")
        connection.own("PRAGMA query_only = ON")
        self._cancelled = False
        connection.set_progress_handler(lambda: self._stopped is not None or self._cancelled, THREAD_CHECK_STEPS)
        self._connection = connection
        self._writer.file.check()  # what has just been opened may be another file already

    def _run_on_thread(self, operation: Callable[[Connection], T]) -> T:
        self._cancelled = False  # a statement whose caller has gone; not the one that comes after it
        assert self._connection is not None
        if self._turn is not None and not self._may_write:
            self._connection.own("PRAGMA query_only = OFF")
            self._may_write = True
        return operation(self._connection)

    def _commit(self, connection: Connection) -> None:
        _check_open(connection)
        self._writer.file.commit(connection)

    async def _close(self) -> None:
        if self.ended:
            return
        self.ended = True
        turn, self._turn = self._turn, None
        try:
            if self._thread is not None:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
                self._thread.shutdown(wait=False)
            elif turn is not None:
                await turn.run(_roll_back)
        finally:
            if self._changed_schema:
                self._writer.statements.forget_tables()  # rolled back, the tables are again what they were
            if turn is not None:
                turn.end()
            self._tell_ended()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.set_progress_handler(None, 0)
            try:
                _roll_back(self._connection)
            finally:
                self._connection.close()


class _RolledBack(Exception):
    """There is no transaction any more: what runs now would be written at once, for good."""


def _check_open(connection: Connection) -> None:
    if not connection.in_transaction:
        raise _RolledBack


def _roll_back(connection: Connection) -> None:
    if connection.in_transaction:
        connection.own("ROLLBACK")
