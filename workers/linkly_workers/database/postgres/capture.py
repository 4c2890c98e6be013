"""Native capture: every change of a table, whoever makes it, in order and at least once (`capture_sql.py` says how).

A reader has a connection of its own, past a pooler if there is one. Readers of several engines that have one name share
a position: one of them reads, which an advisory lock of its session says, and another goes on when that session ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

from linkly.clock import Clock, time_limit
from linkly_workers.database.backend import RowChange, TakeChange
from linkly_workers.database.errors import DatabaseConfigError
from linkly_workers.database.postgres import capture_sql as sql
from linkly_workers.database.postgres.connection import Connection
from linkly_workers.database.postgres.errors import FAILURES, driver_error, is_lost

log = logging.getLogger("linkly.database")

BATCH, BATCH_BYTES = 200, 4_000_000
"""Changes that are read, and told before their position is kept; the last one may be any size."""

SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.05, 1.0
"""Between two looks; a NOTIFY is only a wake-up, because not every commit sends one."""

TIDY_S = 10.0
SETUP_LOCK_MS = 5000
RETRY_S, BROKEN_S = 1.0, 10.0
"""Before a lost connection is made again; before it is tried again where something has to be put right."""


class Position(NamedTuple):
    """How far a reader is.

    Attributes:
        below, upto: Its window of transactions, as PostgreSQL numbers them.
        last: The last change of the window that was told, 0 for none.
    """

    below: int
    upto: int
    last: int


class PostgresCapture:
    """Captures tables of one database.

    Args:
        connect: Makes a connection.
        clock: For waiting.
        pooled: It goes through a transaction pooler, which has neither LISTEN nor locks of a session.
    """

    def __init__(self, connect: Callable[[], Awaitable[Connection]], clock: Clock, *, pooled: bool) -> None:
        self._connect = connect
        self._pooled = pooled
        self._clock = clock

    async def read(self, table: str, reader: str, take: TakeChange, ready: Callable[[], object]) -> None:
        """Hand over the changes of a table for ever: see `Capture.read`."""
        if self._pooled:
            raise DatabaseConfigError("it cannot go through a pooler; say where the server is with `direct_url`")
        is_accepted, wait_s = False, RETRY_S
        while True:
            try:
                async with self._connected() as raw:
                    name, plain, schema = await self._set_up(raw, table, reader)
                    is_accepted, wait_s = True, RETRY_S
                    ready()
                    await self._read(raw, name, plain, schema, reader, take)
                log.warning("`%s` is another table now, or none; what happened to it meanwhile is not told", table)
            except (*FAILURES, DatabaseConfigError) as error:
                if not (is_accepted or is_lost(error)):
                    raise driver_error(error) from error
                log.warning("the changes of `%s` cannot be read, it is tried again: %s", table, error)
                is_accepted, wait_s = True, RETRY_S if is_lost(error) else BROKEN_S
                ready()
            await self._clock.sleep(wait_s)

    async def forget(self, table: str, reader: str) -> None:
        """Read a table no longer, unless another engine does: see `Capture.forget`."""
        with contextlib.suppress(*FAILURES):
            async with self._connected() as raw:
                found = await raw.fetchrow(sql.NAMED, table)
                if found is not None and await raw.fetchval(sql.ALONE, found[0], reader):
                    await raw.execute(sql.FORGET_READER, found[0], reader)
                    await self._release_unread(raw)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        connection = await self._connect()
        try:
            yield connection.raw
        finally:
            await connection.close()

    async def _set_up(self, raw: Any, table: str, reader: str) -> tuple[str, str, str]:
        """Make what is missing; return the name of the table as SQL, by itself, and the schema."""
        found = await raw.fetchrow(sql.NAMED, table)
        if found is None:
            raise DatabaseConfigError(f"there is no table `{table}`")
        name, plain, schema = found
        if int(raw.get_server_version().major) < 13:
            raise DatabaseConfigError(
                f"that needs PostgreSQL 13 or a later one, and this is {raw.get_server_version().major}; "
                "`capture: statements` works on every version"
            )
        async with raw.transaction():
            await raw.execute(f"SET LOCAL lock_timeout = {SETUP_LOCK_MS}")
            await raw.execute(sql.LOCK)
            await raw.execute(sql.setup(schema))
            await self._make_trigger(raw, name, schema)
            await raw.execute(sql.BEGIN_READING, name, reader)
        return name, plain, schema

    async def _make_trigger(self, raw: Any, name: str, schema: str) -> None:
        is_own, has_this_name = await raw.fetchrow(sql.FOUND_TRIGGER, name) or (True, None)
        if not is_own:
            raise DatabaseConfigError(
                f"{name} is captured already: as a partition, so capture the whole table, or from another schema"
            )
        if has_this_name is False:  # the table had another name then
            await raw.execute(sql.release(name))
        if not has_this_name:
            await raw.execute(sql.capture(name, schema))

    async def _read(self, raw: Any, name: str, plain: str, schema: str, reader: str, take: TakeChange) -> None:
        """Read until the table of this name is another one, or none, or the reader has been removed."""
        woken = asyncio.Event()

        def wake(*_: object) -> None:
            woken.set()

        await raw.add_listener(sql.CHANNEL, wake)
        while not await raw.fetchval(sql.ALONE, name, reader):
            await self._clock.sleep(LONGEST_WAIT_S)
        found = await raw.fetchrow(sql.POSITION, name, reader)
        if found is None:
            return
        at = kept = Position(*found)
        wait_s, tidied, was_gone, is_gone = SHORTEST_WAIT_S, self._clock.monotonic(), False, False
        try:
            while True:
                woken.clear()
                rows = await raw.fetch(sql.READ, name, *at, BATCH, BATCH_BYTES)
                for number, op, old, new, when, _ in rows:
                    await take(RowChange(plain, op, old, new, when))
                    at = at._replace(last=number)
                is_all = not rows or len(rows) == rows[0]["found"] < BATCH
                if is_all:
                    was_gone, (horizon, is_gone) = is_gone, await raw.fetchrow(sql.HORIZON, name)
                    at = Position(at.upto, horizon, 0)
                tidy = self._clock.monotonic() - tidied >= TIDY_S
                if rows or tidy:
                    moved = await raw.execute(sql.MOVE, name, reader, *at)
                    if moved != "UPDATE 1":
                        return
                    kept = at
                if was_gone and not rows:  # all that was written before is told
                    return
                if tidy:
                    tidied = self._clock.monotonic()
                    await self._tidy(raw, schema)
                wait_s = SHORTEST_WAIT_S if rows else min(2 * wait_s, LONGEST_WAIT_S)
                if is_all:
                    with contextlib.suppress(TimeoutError):
                        async with time_limit(self._clock, wait_s):
                            await woken.wait()
                            wait_s = SHORTEST_WAIT_S
        except asyncio.CancelledError:
            if at != kept:  # so that nothing is told again without need
                with contextlib.suppress(*FAILURES):
                    await asyncio.shield(raw.execute(sql.MOVE, name, reader, *at))
            raise

    async def _tidy(self, raw: Any, schema: str) -> None:
        """Remove what every reader has had, what is too much, and readers that nobody has seen for long."""
        await raw.execute(sql.FORGET_READ)
        await raw.execute(sql.prune(schema))
        await raw.execute(sql.ABANDONED, sql.LONGEST_KEPT_S)
        try:
            await self._release_unread(raw)
        except FAILURES as error:
            if is_lost(error):
                raise
            log.warning("a table that nobody captures keeps its trigger until it is free: %s", error)

    async def _release_unread(self, raw: Any) -> None:
        if not await raw.fetch(sql.UNREAD_TABLES):
            return
        async with raw.transaction():
            await raw.execute(f"SET LOCAL lock_timeout = {SETUP_LOCK_MS}")
            await raw.execute(sql.LOCK)
            for (table,) in await raw.fetch(sql.UNREAD_TABLES):
                await raw.execute(sql.release(table))
            await raw.execute(sql.UNREAD_CHANGES)
