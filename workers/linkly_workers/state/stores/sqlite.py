"""The store in one SQLite file, with a copy in memory; a write is answered when it is on disk.

One batch of writes goes to the disk at a time, and the writes that come meanwhile wait. Then their changes are computed
on the loop's thread, one after another on top of the copy, and written as **one** statement that has each key once: a
thousand increments of one key are one row. When the batch is on disk, the copy is updated, the events are noted and
the callers answered, in the order in which they asked. Reads are answered from the copy. So a read sees every answered
write and none that may still fail, and no change builds on a write that failed.

If a batch cannot be written, its writes are tried one by one, and only those that fail are refused.

The file belongs to one engine at a time, because the copy does not see another engine's writes: `state.lock` is locked.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from linkly.clock import Clock
from linkly.errors import OutcomeUnknown
from linkly_workers._sqlite import Connection, Error, GroupCommitWriter
from linkly_workers._sqlite.connection import is_locked
from linkly_workers._sqlite.ownership import OwnedElsewhere, locked
from linkly_workers.state.errors import StoreError
from linkly_workers.state.stores.memory import MemoryStore
from linkly_workers.state.stores.waiting import Waiting, Write

log = logging.getLogger("linkly.state")

BATCH_WRITES, BATCH_BYTES = 1024, 4 * 1024 * 1024
"""Limits of one batch, so that the loop and the first of its callers do not wait for long."""

JSON_BYTES = 1024 * 1024
"""A batch up to this size is given to SQLite as one JSON text, a larger one row by row: the text would be a copy."""

TABLES = (
    "CREATE TABLE IF NOT EXISTS state (position INTEGER PRIMARY KEY AUTOINCREMENT, scope TEXT NOT NULL, "
    "key TEXT NOT NULL, value BLOB NOT NULL, UNIQUE (scope, key))",
    "CREATE TABLE IF NOT EXISTS state_identity (identity BLOB NOT NULL)",
)
# A row without a position has a key that is stored already; the key keeps its position.
_UPSERT = (
    "INSERT INTO state (position, scope, key, value) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (scope, key) DO UPDATE SET value = excluded.value"
)
_UPSERT_ALL = (
    "INSERT INTO state (position, scope, key, value) "
    "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), "
    "CAST(json_extract(value, '$[3]') AS BLOB) FROM json_each(?) WHERE true "
    "ON CONFLICT (scope, key) DO UPDATE SET value = excluded.value"
)
_DELETE = "DELETE FROM state WHERE scope = ? AND key = ?"


class _Batch:
    """Writes that share one statement, with their changes computed."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.places: list[int] = []
        self.values: dict[tuple[str, str], bytes | None] = {}
        self.positions: dict[tuple[str, str], int] = {}
        self.deleted: set[tuple[str, str]] = set()
        self.bytes = 0

    def add(self, write: Write, memory: MemoryStore) -> None:
        """Compute a write on top of the others; what its change raises goes to its caller alone."""
        address, position = write.address, 0
        if not write.compute(self.values[address] if address in self.values else memory.get(*address)):
            return
        if write.new is None:
            if write.old is not None and self.positions.pop(address, None) is None:
                self.deleted.add(address)  # it is on disk
        elif write.old is None:
            # Every write has a number of its own, so positions are in the order of the writes.
            position = memory.last_position + len(self.writes) + 1
            self.positions[address] = position
        self.values[address] = write.new
        self.bytes += sum(map(len, address)) + len(write.new or b"")
        self.writes.append(write)
        self.places.append(position)

    def run(self, connection: Connection) -> None:
        """Write the outcome of the batch; called on the writing thread."""
        if self.deleted:
            connection.executemany(_DELETE, self.deleted)
        rows = [
            (self.positions.get(address), *address, value)
            for address, value in self.values.items()
            if value is not None
        ]
        if not rows:
            return
        if self.bytes <= JSON_BYTES and not any("\0" in scope or "\0" in key for _, scope, key, _ in rows):
            # One statement for all rows: sqlite3 releases the GIL for each statement and has to get it again.
            texts = [(position, scope, key, str(value, "utf-8")) for position, scope, key, value in rows]
            connection.execute(_UPSERT_ALL, (msgspec.json.encode(texts).decode(),))
        else:  # SQLite's JSON functions end a text at its first NUL
            connection.executemany(_UPSERT, rows)


class SqliteStore:
    """Keeps everything in one file of a folder.

    Args:
        folder: Made on first use.
        clock: By which the writer notices that a write does not end.
        lock_patience_s: How long writes wait for another program that has locked the file.
    """

    def __init__(self, folder: str, lock_patience_s: float = 5, clock: Clock | None = None) -> None:
        self._folder = folder
        self._writer = GroupCommitWriter(os.path.join(folder, "state.db"), lock_patience_s=lock_patience_s, clock=clock)
        self._memory = memory = MemoryStore()
        self.get, self.values, self.keys = memory.get, memory.values, memory.keys
        self.count, self.after, self.scopes = memory.count, memory.after, memory.scopes
        self._waiting = Waiting("the disk", self._serve)
        self.write, self.idle = self._waiting.write, self._waiting.idle

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Read what is there and keep the file open; at the end write what still waits.

        Raises:
            StoreError: It cannot be opened, or another engine has it.
        """
        async with AsyncExitStack() as stack:
            try:
                stack.enter_context(_locked(self._folder))
                await stack.enter_async_context(self._writer)
                await self._read()
            except (Error, OSError, OwnedElsewhere, TypeError, ValueError) as error:
                raise StoreError(str(error)) from error
            self._waiting.open()
            try:
                yield
            finally:
                await self._waiting.close()

    async def _read(self) -> None:
        execute = self._writer.execute
        for table in TABLES:
            await execute(table)
        await execute(
            "INSERT INTO state_identity SELECT ? WHERE NOT EXISTS (SELECT 1 FROM state_identity)",
            (secrets.token_bytes(16),),
        )
        self._identity: bytes = (await execute("SELECT identity FROM state_identity")).rows[0][0]
        for position, scope, key, value in (await execute("SELECT * FROM state ORDER BY position")).rows:
            self._memory.put(scope, key, bytes(value), position)
        # Positions of deleted keys are not given away again: a cursor may stand on one.
        used = (await execute("SELECT max(seq) FROM sqlite_sequence WHERE name = 'state'")).rows[0][0]
        self._memory.last_position = max(self._memory.last_position, used or 0)

    def identity(self) -> bytes:  # noqa: D102
        return self._identity

    def trouble(self) -> str | None:  # noqa: D102
        return self._writer.trouble() if self._waiting.is_open else None

    async def _serve(self) -> None:
        batch = _Batch()
        for write in self._waiting.take():
            batch.add(write, self._memory)
            if len(batch.writes) == BATCH_WRITES or batch.bytes >= BATCH_BYTES:
                break
        await self._commit(batch)

    async def _commit(self, batch: _Batch) -> None:
        if not batch.writes:
            return
        try:
            await self._writer.run(batch.run)
        except OutcomeUnknown as unknown:
            for write in batch.writes:
                write.fail(unknown)
            return
        except Exception as error:
            if len(batch.writes) > 1 and not is_locked(error):
                await self._commit_singly(batch.writes)
                return
            # Another program has the lock: one by one, each write would wait for it again.
            for write in batch.writes:
                write.fail(StoreError(f"{error} ({self._folder})"))
            return
        for write, position in zip(batch.writes, batch.places, strict=True):
            self._memory.put(*write.address, write.new, position)
            write.kept()

    async def _commit_singly(self, writes: list[Write]) -> None:
        for write in writes:
            if not write.answered:
                batch = _Batch()
                batch.add(write, self._memory)
                await self._commit(batch)


def _locked(folder: str) -> AbstractContextManager[None]:
    os.makedirs(folder, exist_ok=True)
    foreign = [path.name for path in Path(folder).glob("*.bin")]
    if foreign:
        log.warning("%s has %d files that iii wrote (%s, ...): they are not read", folder, len(foreign), foreign[0])
    return locked(os.path.join(folder, "state.lock"))
