"""`database::migrate`: files of SQL, each once.

A file's statements and its row in `linkly_migrations` are one transaction, which only one caller of all engines can
have open (`Database.begin_alone`). A file without transaction has its row before it begins, without a time; while that
stands nobody else begins one.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

from linkly import function
from linkly.clock import Clock
from linkly.errors import LinklyError
from linkly.timestamps import time_text
from linkly_workers.database.backend import Database, Result, Transaction
from linkly_workers.database.commits import commit
from linkly_workers.database.databases import Databases
from linkly_workers.database.events import RowChangedEvents
from linkly_workers.database.migration_files import Migration, Row, Unfinished, left_to_apply, migrations_of
from linkly_workers.database.shapes import AppliedMigration, Migrate, MigrateResult

POLL_S = 0.1
"""How often it is looked whether a file without transaction, which somebody else runs, has ended."""

_CREATE = """CREATE TABLE IF NOT EXISTS linkly_migrations (
    id BIGINT PRIMARY KEY,
    name VARCHAR(255) NOT NULL,
    checksum VARCHAR(64) NOT NULL,
    applied_at VARCHAR(32)
)"""
_ROWS = "SELECT id, name, checksum, applied_at FROM linkly_migrations ORDER BY id"
_INSERT = "INSERT INTO linkly_migrations (id, name, checksum, applied_at) VALUES (?, ?, ?, ?)"
_END = "UPDATE linkly_migrations SET applied_at = ? WHERE id = ?"
_FORGET = "DELETE FROM linkly_migrations WHERE id = ?"

NO_LIMIT_MS = 0


class Migrations:
    """Brings a database to where the files of a folder say."""

    clock: Clock

    def __init__(self, databases: Databases, events: RowChangedEvents) -> None:
        self._databases = databases
        self._events = events

    @function("database::migrate")
    async def migrate(self, request: Migrate) -> MigrateResult:
        """Run files of SQL in the order of their numbers, each once; what was applied before is checked.

        A file is one transaction, unless a comment before its first statement says `-- linkly: no-transaction`.

        Raises:
            MigrationError: A file was edited, renamed, removed or put before others after it was applied.
            LockTimeout: Somebody else migrates, for longer than `lock_timeout_ms`.
            DriverError: The database refused a statement; `details` say of which file, in which line.
            InvalidParam: A statement that is not for callers, for example COMMIT.
            UnknownDatabase: There is no such database.
        """
        database = self._databases.find(request.db)
        migrations = migrations_of(request.migrations)
        applied: list[AppliedMigration] = []
        check = request.steps is None or request.dry_run
        while True:
            try:
                made, left = await self._step(database, migrations, request, check=check)
            except LinklyError as error:
                error.details["applied"] = [each.name for each in applied]
                raise
            check = False
            if made is not None:
                applied.append(made)
            if made is None or not left or len(applied) == request.steps:
                return MigrateResult(database.name, database.url, applied, [each.name for each in left])

    async def _step(
        self, database: Database[Any], migrations: list[Migration], request: Migrate, *, check: bool
    ) -> tuple[AppliedMigration | None, list[Migration]]:
        """Run the next file; return it and those behind it."""
        async with self._alone(database, migrations, request.lock_timeout_ms) as (transaction, left):
            if check:
                for each in left:
                    _statements(database, each)
            if request.dry_run or not left:
                return None, left
            next_one, *behind = left
            started = self.clock.monotonic()
            statements = _statements(database, next_one)
            if next_one.in_transaction:
                await self._run_inside(database, transaction, next_one, statements)
            else:
                await _note(database, transaction, next_one, None)
                await commit(transaction, lambda: None)
        if not next_one.in_transaction:
            await self._run_outside(database, next_one, statements)
        took_ms = round((self.clock.monotonic() - started) * 1000, 3)
        return AppliedMigration(next_one.id, next_one.name, took_ms), behind

    @contextlib.asynccontextmanager
    async def _alone(
        self, database: Database[Any], migrations: list[Migration], lock_timeout_ms: int
    ) -> AsyncIterator[tuple[Transaction[Any], list[Migration]]]:
        """Open a transaction that nobody else can have, and say which files are left.

        Waits as long for a file that somebody else runs without a transaction, and anew for whoever has one behind it.
        """
        end = self.clock.monotonic() + lock_timeout_ms / 1000
        while True:
            transaction = await database.begin_alone(str(uuid.uuid4()), lock_timeout_ms)
            try:
                try:
                    left = left_to_apply(migrations, await _rows(database, transaction))
                except Unfinished:
                    if self.clock.monotonic() + POLL_S >= end:
                        raise
                else:
                    yield transaction, left
                    return
            finally:
                if not transaction.ended:
                    await asyncio.shield(transaction.roll_back("because it was not to be kept"))
            await self.clock.sleep(POLL_S)

    async def _run_inside(
        self,
        database: Database[Any],
        transaction: Transaction[Any],
        migration: Migration,
        statements: list[tuple[Any, int]],
    ) -> None:
        committed = self._events.following(database.name, [statement for statement, _ in statements])
        changes: list[Result] = []
        for statement, line in statements:
            with _at(migration, line):
                result = await transaction.execute(statement, [], tell_change=committed is not None)
            if result.change is not None:
                changes.append(result)
        await _note(database, transaction, migration, self._now())
        await commit(transaction, (lambda: None) if committed is None else (lambda: committed(changes)))

    async def _run_outside(
        self, database: Database[Any], migration: Migration, statements: list[tuple[Any, int]]
    ) -> None:
        try:
            for statement, line in statements:
                committed = self._events.following(database.name, [statement])
                with _at(migration, line):
                    await database.execute(statement, [], NO_LIMIT_MS, committed)
        except BaseException:
            # It may run again from its beginning; if this fails too, its row says what to do.
            with contextlib.suppress(LinklyError):
                forget = database.execute(database.statement(_FORGET), [migration.id], NO_LIMIT_MS)
                await asyncio.shield(forget)
            raise
        await database.execute(database.statement(_END), [self._now(), migration.id], NO_LIMIT_MS)

    def _now(self) -> str:
        return time_text(self.clock.time())


async def _rows(database: Database[Any], transaction: Transaction[Any]) -> list[Row]:
    await transaction.execute(database.statement(_CREATE), [])
    found = await transaction.query(database.statement(_ROWS), [])
    return [Row(int(number), name, checksum, applied_at) for number, name, checksum, applied_at in found.rows]


async def _note(
    database: Database[Any], transaction: Transaction[Any], migration: Migration, applied_at: str | None
) -> None:
    values = [migration.id, migration.name, migration.checksum, applied_at]
    await transaction.execute(database.statement(_INSERT), values)


def _statements(database: Database[Any], migration: Migration) -> list[tuple[Any, int]]:
    """Return the statements of a file, each with its line.

    Raises:
        InvalidParam: Callers may not send one.
    """
    found: list[tuple[Any, int]] = []
    for piece in migration.statements(database.dialect):
        with _at(migration, piece.line):
            found.append((database.statement(piece.text), piece.line))
    return found


@contextlib.contextmanager
def _at(migration: Migration, line: int) -> Iterator[None]:
    try:
        yield
    except LinklyError as error:
        details = {**error.details, "migration": migration.name, "line": line}
        raise type(error)(f"{migration.name}, line {line}: {error.message}", details=details) from error
