"""A transaction over several calls.

Every statement has a savepoint, so one that fails leaves the transaction as it was before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic

from linkly_workers.database._server.connection import Connection, R, S
from linkly_workers.database._server.driver import Driver
from linkly_workers.database.errors import TransactionNotFound


class InteractiveTransaction(Generic[S, R]):
    """One open transaction; its calls queue up behind one another.

    Args:
        transaction_id: As its caller knows it.
        connection: Its own until the end; the transaction has begun.
        driver: Says what errors mean.
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
        connection: Connection[S, R],
        driver: Driver,
        commit: Callable[[Connection[S, R]], Awaitable[None]],
        refused: Callable[[BaseException], Exception],
        give_back: Callable[[], None],
    ) -> None:
        self.id = transaction_id
        self.ended = False
        self._connection = connection
        self._limit = connection.left_bytes
        self._driver = driver
        self._commit = commit
        self._refused = refused
        self._give_back = give_back
        self._lock = asyncio.Lock()
        self._stopped: str | None = None
        self._running: asyncio.Timeout | None = None

    async def query(self, statement: S, parameters: list[Any], *, tell_change: bool = False) -> R:
        """Run a statement inside it for its rows: see `Transaction.query`."""
        return await self.execute(statement, parameters, tell_change=tell_change)

    async def execute(self, statement: S, parameters: list[Any], *, tell_change: bool = False) -> R:
        """Run a statement inside it: see `Transaction.execute`."""
        async with self._lock:
            self._check()
            self._connection.allow(self._limit)
            try:
                return await self._run(statement, parameters)
            except BaseException as error:
                await asyncio.shield(self._back(error))
                if isinstance(error, TimeoutError):
                    self._check()  # it is not the statement that was wrong
                if isinstance(error, self._driver.failures):
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

    async def _run(self, statement: S, parameters: list[Any]) -> R:
        async with asyncio.timeout(None) as self._running:
            try:
                await self._connection.savepoint(statement)
                try:
                    return await self._connection.run(statement, parameters)
                except self._driver.outdated:
                    await self._connection.go_back()
                    return await self._connection.run(statement, parameters)
            finally:
                self._running = None  # a time-out that is over cannot be moved any more

    async def _back(self, error: BaseException) -> None:
        """Undo what a statement has done before it failed or was stopped."""
        if self._stopped is not None or self._driver.ends_transaction(error):
            self._end()
            return
        try:
            await self._connection.go_back()
        except self._driver.failures:
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
