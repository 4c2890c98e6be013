"""Where state is kept: one small interface, two stores.

Values are JSON text. Reads are answered from memory on the loop's thread by both stores, with no thread hop.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol, TypeAlias

from linkly_workers._sqlite import GroupCommitWriter

Change: TypeAlias = Callable[[bytes | None], bytes | None]
"""Old value -> new value, `None` for absent. Pure: it may be called again."""

Written: TypeAlias = Callable[[bytes | None, bytes | None], None]
"""Told (old, new) once a write counts, in the order of the writes."""


class Store(Protocol):
    """Values by (scope, key). `write` is atomic; its answer means the write counts, on disk where there is one."""

    def get(self, scope: str, key: str) -> bytes | None:
        """Return a value, `None` if absent."""
        ...

    def items(self, scope: str) -> list[tuple[str, bytes]]:
        """Return a scope's keys and values in the order in which the keys were first written."""
        ...

    def scopes(self) -> list[str]:
        """Return the scopes that have keys, sorted."""
        ...

    async def write(self, scope: str, key: str, change: Change, written: Written) -> tuple[bytes | None, bytes | None]:
        """Replace a value by what `change` makes of it; return (old, new)."""
        ...


class MemoryStore:
    """Keeps everything in memory, nothing for longer."""

    def __init__(self) -> None:
        self._scopes: dict[str, dict[str, bytes]] = {}

    def get(self, scope: str, key: str) -> bytes | None:  # noqa: D102
        values = self._scopes.get(scope)
        return None if values is None else values.get(key)

    def items(self, scope: str) -> list[tuple[str, bytes]]:  # noqa: D102
        return list(self._scopes.get(scope, {}).items())

    def scopes(self) -> list[str]:  # noqa: D102
        return sorted(self._scopes)

    async def write(  # noqa: D102
        self, scope: str, key: str, change: Change, written: Written
    ) -> tuple[bytes | None, bytes | None]:
        old = self.get(scope, key)
        new = change(old)
        self.put(scope, key, new)
        written(old, new)
        return old, new

    def put(self, scope: str, key: str, value: bytes | None) -> None:
        """Keep a value, or forget it."""
        if value is not None:
            self._scopes.setdefault(scope, {})[key] = value
            return
        values = self._scopes.get(scope, {})
        values.pop(key, None)
        if not values:
            self._scopes.pop(scope, None)


class SqliteStore:
    """Keeps everything in one SQLite file and a copy of it in memory; a write is answered when it is on disk.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        self._writer = GroupCommitWriter(path)
        self._memory = MemoryStore()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Read what is there and keep the file open."""
        async with self._writer:
            await self._writer.execute(
                "CREATE TABLE IF NOT EXISTS state (position INTEGER PRIMARY KEY AUTOINCREMENT, scope TEXT NOT NULL, "
                "key TEXT NOT NULL, value BLOB NOT NULL, UNIQUE (scope, key))"
            )
            found = await self._writer.execute("SELECT scope, key, value FROM state ORDER BY position")
            for scope, key, value in found.rows:
                self._memory.put(scope, key, value)
            yield

    def get(self, scope: str, key: str) -> bytes | None:  # noqa: D102
        return self._memory.get(scope, key)

    def items(self, scope: str) -> list[tuple[str, bytes]]:  # noqa: D102
        return self._memory.items(scope)

    def scopes(self) -> list[str]:  # noqa: D102
        return self._memory.scopes()

    async def write(  # noqa: D102
        self, scope: str, key: str, change: Change, written: Written
    ) -> tuple[bytes | None, bytes | None]:
        def operation(connection: sqlite3.Connection) -> tuple[bytes | None, bytes | None]:
            # Read in the writer's own transaction: memory lags behind writes of the same batch.
            row = connection.execute("SELECT value FROM state WHERE scope = ? AND key = ?", (scope, key)).fetchone()
            old: bytes | None = None if row is None else row[0]
            new = change(old)
            if new is None:
                connection.execute("DELETE FROM state WHERE scope = ? AND key = ?", (scope, key))
            else:
                connection.execute(
                    "INSERT INTO state (scope, key, value) VALUES (?, ?, ?) "
                    "ON CONFLICT (scope, key) DO UPDATE SET value = excluded.value",
                    (scope, key, new),
                )
            return old, new

        def committed(result: tuple[bytes | None, bytes | None]) -> None:
            self._memory.put(scope, key, result[1])
            written(*result)

        return await self._writer.run(operation, on_commit=committed)
