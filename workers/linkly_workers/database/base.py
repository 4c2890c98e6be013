"""Settings and lifetime of the database worker."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import ClassVar, Literal

import msgspec

from linkly import Settings, TriggerType, Worker
from linkly.errors import ConfigError
from linkly_workers._sqlite import Durability, StatementResult
from linkly_workers._sqlite.connection import MOST_VALUE_BYTES
from linkly_workers.database.errors import MissingDatabase, UnknownDatabase
from linkly_workers.database.events import RowChanged, RowChangedEvents
from linkly_workers.database.sql import as_rows, finite
from linkly_workers.database.sqlite import Changed, SqliteDatabase
from linkly_workers.database.target import Target


class PoolSettings(Settings):
    """Connections of one database."""

    max: int = 10
    idle_timeout_ms: int = 30_000
    acquire_timeout_ms: int = 5000


class TlsSettings(Settings):
    """Ignored by SQLite."""

    mode: Literal["disable", "require", "verify-full"] = "require"
    ca_cert: str | None = None


class OneDatabase(Settings):
    """One entry of `databases`."""

    url: str
    pool: PoolSettings = msgspec.field(default_factory=PoolSettings)
    tls: TlsSettings | None = None
    durability: Durability = "power"


def _default_databases() -> dict[str, OneDatabase]:
    return {"primary": OneDatabase(url="sqlite:./data/iii.db")}


class DatabaseSettings(Settings):
    """Settings of the database worker.

    Attributes:
        databases: By name.
        max_result_bytes: A call whose rows are larger together fails; about the memory that they take.
    """

    databases: dict[str, OneDatabase] = msgspec.field(default_factory=_default_databases)
    max_result_bytes: int = 16_777_216


class DatabaseBase(Worker):
    """Opens the configured databases and finds them by name."""

    name = "database"
    settings_type: ClassVar[type[Settings]] = DatabaseSettings
    settings: DatabaseSettings

    def __init__(self, settings: DatabaseSettings | None = None) -> None:
        super().__init__(settings)
        if not self.settings.databases:
            raise ConfigError("database: config must declare at least one database")
        limit = self.settings.max_result_bytes
        if not 1 <= limit <= MOST_VALUE_BYTES:
            raise ConfigError(f"database: max_result_bytes {limit}: must be from 1 to {MOST_VALUE_BYTES}")
        self._databases = {name: _database(name, one, limit) for name, one in self.settings.databases.items()}
        self._events = RowChangedEvents(self._databases.__contains__)
        # What a request without `db` means: the only database, or the one called primary.
        default = next(iter(self._databases)) if len(self._databases) == 1 else "primary"
        self._by_request: dict[str | None, SqliteDatabase | None] = {None: self._databases.get(default)}
        self._by_request.update(self._databases.items())

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open every database, the file and its folder are made on first use; at the end deliver what waits."""
        self._events.bus = self.bus
        try:
            async with AsyncExitStack() as stack:
                for name, database in self._databases.items():
                    try:
                        await stack.enter_async_context(database.opened(self.bus.clock))
                    except (sqlite3.Error, OSError) as error:
                        raise ConfigError(f"database `{name}` ({database.path}) cannot be opened: {error}") from error
                yield
        finally:
            await self._events.stop()  # closing a database ends the writes that wait, which have to be told as well

    def trigger_types(self) -> list[TriggerType]:
        """Provide `database::row-changed`."""
        return [self._events.trigger_type()]

    async def drain(self) -> None:
        """Deliver the row-changed events that wait."""
        await self._events.drain()

    def _find(self, name: str | None) -> SqliteDatabase:
        database = self._by_request.get(name)
        if database is not None:
            return database
        available = list(self._databases)
        if name is None:
            raise MissingDatabase(
                f"say which database with `db`: {', '.join(available)}", details={"available": available}
            )
        raise UnknownDatabase(
            f"there is no database `{name}`; configured: {', '.join(available)}",
            details={"db": name, "available": available},
        )

    def _changed(self, database: SqliteDatabase) -> Changed | None:
        """Return what to tell of committed changes; `None` while nobody listens."""
        if not (self._events.listeners and self._events.listening(database.name)):
            return None

        def changed(target: Target, result: StatementResult) -> None:
            returning = as_rows(finite(result), "base64") if result.columns else msgspec.UNSET
            op, table = target
            at = int(self.bus.clock.time() * 1000)
            self._events.committed(RowChanged(database.name, table, op, result.affected_rows, at, returning))

        return changed


def _database(name: str, settings: OneDatabase, max_result_bytes: int) -> SqliteDatabase:
    scheme, found, path = settings.url.partition(":")
    if not found or scheme.lower() != "sqlite" or not path:
        raise ConfigError(
            f"database `{name}`: url scheme `{scheme}` is not supported by this version; "
            "allowed: `sqlite:./data/name.db` or `sqlite::memory:`"
        )
    if settings.pool.max < 1:
        raise ConfigError(f"database `{name}`: pool.max {settings.pool.max}: must be at least 1")
    return SqliteDatabase(
        name,
        path.removeprefix("//") if path.startswith("//") else path,
        durability=settings.durability,
        readers=settings.pool.max,
        idle_timeout_ms=settings.pool.idle_timeout_ms,
        acquire_timeout_ms=settings.pool.acquire_timeout_ms,
        max_result_bytes=max_result_bytes,
    )
