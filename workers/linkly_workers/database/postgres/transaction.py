"""A transaction over several calls.

Every statement has a savepoint, so one that fails leaves the transaction as it was before: PostgreSQL would refuse
everything after it. A savepoint is set in the round trip that releases the one before. Each has a name of its own:
going back to one that was not set is an error, going back to the one before would undo a statement that was answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from linkly_workers.database.errors import TransactionNotFound
from linkly_workers.database.postgres.connection import Connection, Result
from linkly_workers.database.postgres.errors import FAILURES, OUTDATED, is_lost
from linkly_workers.database.postgres.statement import Statement


def begin_text(isolation: str | None) -> str:
    """Return what begins a transaction; `None` is what the server does."""
    return "BEGIN" if isolation is None else f"BEGIN ISOLATION LEVEL {isolation.replace('_', ' ').upper()}"


class InteractiveTransaction:
    """One open transaction; its calls queue up behind one another.

    Args:
        transaction_id: As its caller knows it.
        connection: Its own until the end; the transaction has begun.
        commit: Commits it.
        refused: Translates what the driver raises.
        give_back: Called once, at the end.

    Attributes:
        id: As its caller knows it.
        ended: It is over.
    """

    def __init__(
        self,
        transaction_id: str,
        connection: Connection,
        commit: Callable[[Connection], Awaitable[None]],
        refused: Callable[[BaseException], Exception],
        give_back: Callable[[], None],
    ) -> None:
        self.id = transaction_id
        self.ended = False
        self._connection = connection
        self._limit = connection.left_bytes
        self._commit = commit
        self._refused = refused
        self._give_back = give_back
        self._lock = asyncio.Lock()
        self._savepoint = 0
        self._is_set = False
        self._stopped: str | None = None
        self._running: asyncio.Timeout | None = None

    async def query(self, statement: Statement, parameters: list[Any], *, tell_change: bool = False) -> Result:
        """Run a statement inside it for its rows: see `Transaction.query`."""
        return await self.execute(statement, parameters, tell_change=tell_change)

    async def execute(self, statement: Statement, parameters: list[Any], *, tell_change: bool = False) -> Result:
        """Run a statement inside it: see `Transaction.execute`."""
        async with self._lock:
            self._check()
            self._connection.allow(self._limit)
            try:
                result = await self._run(statement, parameters)
                self._is_set = False
                return result
            except BaseException as error:
                await asyncio.shield(self._back(error))
                if isinstance(error, TimeoutError):
                    self._check()  # it is not the statement that was wrong
                if isinstance(error, FAILURES):
                    raise self._refused(error) from error
                raise

    async def commit(self, committed: Callable[[], None]) -> None:
        """Write it: see `Transaction.commit`."""
        async with self._lock:
            self._check()
            try:
                await self._commit(self._connection)
                committed()
            finally:
                self._end()

    async def roll_back(self, why: str) -> None:
        """End it without a trace, after stopping the statement that runs; harmless when it has ended."""
        self._stopped = why
        if self._running is not None:
            self._running.reschedule(0)
        async with self._lock:
            self._end()

    async def _run(self, statement: Statement, parameters: list[Any]) -> Result:
        async with asyncio.timeout(None) as self._running:
            try:
                if not self._is_set:
                    await self._set_savepoint()
                try:
                    return await self._connection.run(statement, parameters)
                except OUTDATED:
                    await self._connection.command(self._go_back)
                    return await self._connection.run(statement, parameters)
            finally:
                self._running = None  # a time-out that is over cannot be moved any more

    @property
    def _go_back(self) -> str:
        return f"ROLLBACK TO SAVEPOINT linkly_{self._savepoint}"

    async def _set_savepoint(self) -> None:
        last, self._savepoint = self._savepoint, self._savepoint + 1
        release = f"RELEASE SAVEPOINT linkly_{last}; " if last else ""
        await self._connection.command(f"{release}SAVEPOINT linkly_{self._savepoint}")
        self._is_set = True

    async def _back(self, error: BaseException) -> None:
        """Undo what a statement has done before it failed or was stopped."""
        if self._stopped is not None or is_lost(error):
            self._end()
            return
        try:
            await self._connection.command(self._go_back)
            self._is_set = True
        except FAILURES:
            self._end()

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self._give_back()  # which rolls back what is open

    def _check(self) -> None:
        if self._stopped is None and not self.ended:
            return
        reason = "is unknown or has ended" if self._stopped is None else f"was rolled back {self._stopped}"
        raise TransactionNotFound(f"transaction `{self.id}` {reason}", details={"transaction_id": self.id})
