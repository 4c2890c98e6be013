"""A read-only connection on a thread of its own, whose statement can be stopped at any moment."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import aiosqlite

from linkly_workers._sqlite import StatementResult, connect
from linkly_workers._sqlite.connection import THREAD_CHECK_STEPS as STOP_CHECK_STEPS


class Reader:
    """One connection for queries; one query at a time.

    Args:
        path: File name.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._stopped = False
        self._connection = aiosqlite.Connection(self._connect, iter_chunk_size=64)

    async def open(self) -> None:
        """Connect.

        Raises:
            sqlite3.Error: The file cannot be opened.
        """
        await self._connection

    async def read(self, sql: str, parameters: list[Any]) -> StatementResult:
        """Run a statement for its rows.

        A cancelled caller stops the statement within microseconds; afterwards the reader can only be closed.

        Raises:
            sqlite3.Error: It failed, for example because it writes.
        """
        try:
            cursor = await self._connection.execute(sql, parameters)
            columns = [column[0] for column in cursor.description or ()]
            rows = [tuple(row) for row in await cursor.fetchall()]
            await cursor.close()
            return StatementResult(columns, rows, 0, None)
        except asyncio.CancelledError:
            self._stopped = True
            raise

    async def close(self) -> None:
        """Disconnect, after the statement that runs."""
        await self._connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = connect(self._path, read_only=True)
        # `interrupt()` would miss a statement that is just about to start; the flag does not.
        connection.set_progress_handler(lambda: self._stopped, STOP_CHECK_STEPS)
        return connection
