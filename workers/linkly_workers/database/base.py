"""Settings and lifetime of the database worker."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, ClassVar, Literal

import msgspec

from linkly import Settings, TriggerType, Worker
from linkly.errors import ConfigError, LinklyError
from linkly.paths import check_path
from linkly_workers._sqlite import Durability, StatementResult
from linkly_workers._sqlite.connection import MOST_VALUE_BYTES
from linkly_workers._sqlite.ownership import OwnedElsewhere, Ownership
from linkly_workers.database.errors import MissingDatabase, UnknownDatabase
from linkly_workers.database.events import RowChanged, RowChangedEvents
from linkly_workers.database.sql import as_rows, finite
from linkly_workers.database.sqlite import Changed, SqliteDatabase
from linkly_workers.database.target import Target

log = logging.getLogger("linkly.database")

IN_MEMORY = ":memory:"


class PoolSettings(Settings):
    """Connections of one database."""

    max: Annotated[int, msgspec.Meta(ge=1)] = 10
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

    def __post_init__(self) -> None:
        scheme, found, path = self.url.partition(":")
        if not found or scheme.lower() != "sqlite" or not path:
            raise ValueError(
                f"url: scheme `{scheme}` is not supported by this version; "
                "allowed: `sqlite:./data/name.db` or `sqlite::memory:`"
            )
        check_path("url", self.path)

    @property
    def path(self) -> str:
        """The file as it is written, or `:memory:`."""
        path = self.url.partition(":")[2]
        return path.removeprefix("//") if path.startswith("//") else path


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

    def __post_init__(self) -> None:
        if not self.databases:
            raise ValueError("databases: declare at least one database")
        if not 1 <= self.max_result_bytes <= MOST_VALUE_BYTES:
            raise ValueError(f"max_result_bytes: {self.max_result_bytes}: must be from 1 to {MOST_VALUE_BYTES}")


class DatabaseBase(Worker):
    """Opens the configured databases and finds them by name."""

    name = "database"
    settings_type: ClassVar[type[Settings]] = DatabaseSettings
    settings: DatabaseSettings

    def __init__(self, settings: DatabaseSettings | None = None) -> None:
        super().__init__(settings)
        self._events = RowChangedEvents(self.settings.databases.__contains__)
        self._databases: dict[str, SqliteDatabase] = {}
        self._by_request: dict[str | None, SqliteDatabase | None] = {}

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open every database, the file and its folder are made on first use; at the end deliver what waits.

        Raises:
            ConfigError: One cannot be opened, or another engine has it.
        """
        settings = self.settings.databases
        paths = {
            name: one.path if one.path == IN_MEMORY else str(self.located(one.path)) for name, one in settings.items()
        }
        self._databases = {
            name: _database(name, paths[name], one, self.settings.max_result_bytes) for name, one in settings.items()
        }
        # What a request without `db` means: the only database, or the one called primary.
        default = next(iter(self._databases)) if len(self._databases) == 1 else "primary"
        self._by_request = {None: self._databases.get(default)}
        self._by_request.update(self._databases.items())
        async with AsyncExitStack() as stack:
            # Left last: closing a database ends the writes that wait, which have to be told as well.
            await stack.enter_async_context(self._events.delivery.running(self.bus))
            for name, database in self._databases.items():
                try:
                    await self._own(database, stack)
                    await stack.enter_async_context(database.opened(self.bus.clock))
                except (sqlite3.Error, OSError) as error:
                    raise ConfigError(f"database `{name}` ({database.path}) cannot be opened: {error}") from error
            yield

    async def _own(self, database: SqliteDatabase, stack: AsyncExitStack) -> None:
        """Keep other engines from a file."""
        if database.path == ":memory:":
            return
        try:
            # The id of its own worker is new with each start of an engine, and the same for whoever is connected to it.
            answer = await self.bus.trigger("engine::workers::info", {"name": "engine"})
            engine_id = str(answer["worker"]["id"])
        except (LinklyError, KeyError, TypeError) as error:
            log.warning("database `%s` is not locked: the engine does not say who it is: %s", database.name, error)
            return
        ownership = Ownership(database.path, engine_id, self.bus.clock)
        try:
            await ownership.take()
        except OwnedElsewhere as error:
            raise ConfigError(
                f"database `{database.name}`: another engine uses {database.path}; stop it, or give each engine a file "
                "of its own (`url`)"
            ) from error
        stack.callback(ownership.release)

    def trigger_types(self) -> list[TriggerType]:
        """Provide `database::row-changed`."""
        return [self._events.trigger_type()]

    async def drain(self) -> None:
        """Deliver the row-changed events that wait."""
        await self._events.delivery.drain()

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

    def _changed(
        self, database: SqliteDatabase, texts: Sequence[str] = (), origin: str | None = None
    ) -> Changed | None:
        """Return what to tell of committed changes; `None` if no binding may match (`RowChangedEvents.listening`)."""
        if not (self._events.delivery and self._events.listening(database.name, texts, origin)):
            return None

        def changed(target: Target, result: StatementResult) -> None:
            returning = as_rows(finite(result), "base64") if result.columns else msgspec.UNSET
            op, table = target
            at = int(self.bus.clock.time() * 1000)
            self._events.committed(RowChanged(database.name, table, op, result.affected_rows, at, returning, origin))

        return changed


def _database(name: str, path: str, settings: OneDatabase, max_result_bytes: int) -> SqliteDatabase:
    return SqliteDatabase(
        name,
        path,
        durability=settings.durability,
        readers=settings.pool.max,
        idle_timeout_ms=settings.pool.idle_timeout_ms,
        acquire_timeout_ms=settings.pool.acquire_timeout_ms,
        max_result_bytes=max_result_bytes,
    )
