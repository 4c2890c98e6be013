"""One connection: its statements, their results, and what makes it as good as new for the next caller."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

import asyncpg

from linkly_workers._sql.parameters import WrongNumberOfValues
from linkly_workers.database._server.result import Result, returned_id, size_of, too_large
from linkly_workers.database.backend import Op, Take
from linkly_workers.database.batches import Batches
from linkly_workers.database.errors import DriverError
from linkly_workers.database.postgres.beside import in_front, simple_query
from linkly_workers.database.postgres.codecs import set_codecs
from linkly_workers.database.postgres.counting import Meter
from linkly_workers.database.postgres.errors import FAILURES, OTHER_TYPES, OUTDATED
from linkly_workers.database.postgres.insistent import INSIST_S
from linkly_workers.database.postgres.prepared import Prepared, PreparedStatements
from linkly_workers.database.postgres.statement import Statement

CLOSE_S = 2.0

RESET = (
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); "
    "DISCARD TEMP; DISCARD SEQUENCES"
)
"""DISCARD ALL but for the compiled statements, in one round trip; SET ROLE ends with the authorization. A text
does not tell what its statement leaves behind: a function of a trigger may do it."""

_RESET_MESSAGE = simple_query(RESET)

WIRE_SHARE = 8
"""A row takes at most so many times the bytes in a result that it took on the wire: a row of one boolean has 12."""

_CHANGING = frozenset(("INSERT", "UPDATE", "DELETE", "MERGE"))
_CHANGED_ROWS = (
    "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::int8 FROM pg_catalog.pg_stat_xact_user_tables"
)


class Connection:
    """A connection that one caller after another has.

    Args:
        raw: The driver's, an `Insistent`.
        meter: Counts what it receives.
        keeps_statements: The server behind it stays the same.

    Attributes:
        raw: The driver's.
        left_bytes: What the answer of this caller may still take.
        fit: It may go to the next caller.
        sent: The statement that runs, or ran last, has gone out to the server, as far as that can be known.
    """

    def __init__(self, raw: Any, meter: Meter, *, keeps_statements: bool) -> None:
        self.raw = raw
        self.left_bytes = 0
        self.fit = True
        self.sent = False
        self._limit = 0
        self._meter = meter
        self._keeps_statements = keeps_statements
        self._prepared = PreparedStatements(raw, keeps=keeps_statements)
        self._savepoint = 0
        self._is_at_savepoint = False
        self._to_begin: str | None = None
        self._undone: asyncio.Future[bool] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._is_over = asyncio.Event()
        self._coming = select.poll()

    async def open(self) -> None:
        """Make it ready for callers."""
        await set_codecs(self.raw)
        self._coming.register(self._meter.transport.get_extra_info("socket").fileno(), select.POLLIN)

    @property
    def is_usable(self) -> bool:
        """Whether it can go to a caller."""
        return self.fit and not self.raw.is_closed()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come that nobody asked for: most times that is the end of the connection."""
        return not self._coming.poll(0)

    @property
    def is_in_transaction(self) -> bool:
        """Whether a transaction block is open, as far as the server has said."""
        return bool(self.raw.is_in_transaction())

    def allow(self, limit: int) -> None:
        """Let the next answer take so many bytes."""
        self._limit = self.left_bytes = limit
        self._undone = None

    async def command(self, sql: str) -> str:
        """Run a text of our own without values; returns the command tag of its last statement."""
        await self.raw.end_of_left()
        begin, self._to_begin = self._to_begin, None
        return str(await self.raw.execute(sql if begin is None else f"{begin}; {sql}"))

    async def check(self, statement: Statement) -> None:
        """Compile a statement without running it.

        Raises:
            asyncpg.PostgresError, DriverError: It cannot be compiled, or its result cannot be read.
        """
        await self._compiled(statement.parameters.text)

    async def begin(self, isolation: str | None, *, read_only: bool = False) -> None:
        """Begin a transaction, in the round trip of its first statement: see `_server.connection.Connection`.

        A connection that is not quiet is asked at once: nothing has been sent yet that might have been carried out.
        """
        self._savepoint, self._is_at_savepoint = 0, False
        level = "" if isolation is None else f" ISOLATION LEVEL {isolation.replace('_', ' ').upper()}"
        begin = f"BEGIN{level}{' READ ONLY' if read_only else ''}"
        if self.is_in_transaction:
            await self.command(f"ROLLBACK; {begin}")
        elif self._keeps_statements and self.is_quiet:
            self._to_begin = begin
        else:
            await self.command(begin)

    async def _begin_now(self) -> None:
        """Begin the transaction that would begin with its first statement."""
        begin, self._to_begin = self._to_begin, None
        if begin is not None:
            await self.command(begin)

    async def commit(self) -> bool:
        """Commit the transaction, if the server does not roll it back; what its caller has left is undone with it."""
        if self._to_begin is not None:
            self._to_begin = None  # there was no statement
            return True
        if self.raw.is_closed() or not self.is_quiet:
            try:
                await self.command("SELECT 1")
            except FAILURES:
                return False  # it ended before a COMMIT was sent
        self._undo_behind()
        try:
            return await self.command("COMMIT") == "COMMIT"
        finally:
            self._meter.beside.take_back()

    async def savepoint(self, statement: Statement) -> None:
        """Set a savepoint, in the round trip that releases the one before.

        Each has a name of its own: going back to one that was not set is an error, going back to the one before would
        undo a statement that was answered.
        """
        if self._is_at_savepoint:
            return
        last, self._savepoint = self._savepoint, self._savepoint + 1
        release = f"RELEASE SAVEPOINT linkly_{last}; " if last else ""
        await self.command(f"{release}SAVEPOINT linkly_{self._savepoint}")
        self._is_at_savepoint = True

    async def go_back(self) -> None:
        """Undo what has been done since the last savepoint: PostgreSQL would refuse everything after a failure."""
        await self.command(f"ROLLBACK TO SAVEPOINT linkly_{self._savepoint}")
        self._is_at_savepoint = True

    async def only_reads(self) -> bool:
        """Ask whether the transactions of the server only read."""
        return bool(await self.raw.fetchval("SHOW transaction_read_only") == "on")

    async def run(self, statement: Statement, values: list[Any], *, last: bool = False) -> Result:
        """Run a statement and read all of its result.

        `last`: It is not in a transaction, and its caller's last one, so what he has left is undone with it.

        Raises:
            asyncpg.PostgresError: The server refused it; one of `OUTDATED` inside a transaction may be tried once more.
            DriverError: There are too many values or too few, or a column cannot be read.
            InvalidParam: A value does not fit.
            ResultTooLarge: The rows are larger than allowed; the statement was stopped.
        """
        _check_count(statement, values)
        try:
            return await self._run(statement, values, last=last)
        except OUTDATED:
            self._prepared.forget()
            self._undone = None  # which was for the first attempt
            if self.is_in_transaction:
                raise
            return await self._run(statement, values, last=False)
        finally:
            self._is_over.set()

    async def _run(self, statement: Statement, values: list[Any], *, last: bool) -> Result:
        self.sent = self._is_at_savepoint = False
        prepared, arguments, is_old = await self._prepared_for(statement.parameters.text, values)
        changed = 0
        if statement.inside:
            await self._begin_now()  # outside of a transaction the server may forget what it has counted
            changed = await self._changed_rows()
        before = self._meter.received
        if self._stopping is not None:
            raise asyncpg.QueryCanceledError("it was stopped before it was sent")
        if last:
            self._undo_behind()
        elif self._to_begin is not None:
            self._meter.beside.front, self._to_begin = in_front(self._to_begin), None
        self.sent = True
        try:
            rows = await self._fetched(prepared, prepared.statement.fetch(*arguments))
        except OTHER_TYPES as error:
            if is_old and (self.is_in_transaction or statement.reads or statement.only_changes):
                raise asyncpg.InvalidCachedStatementError(str(error)) from error
            raise
        finally:
            if self._meter.beside.take_back():
                self.sent = False
        if (self._meter.received - before) * WIRE_SHARE > self.left_bytes:
            self.left_bytes -= size_of(rows)
            if self.left_bytes < 0:
                raise too_large("postgres", self._limit)
        word, _, rest = (prepared.statement.get_statusmsg() or "").partition(" ")
        affected = int(rest.rpartition(" ")[2]) if word in _CHANGING else 0
        change = None if not affected else statement.target or ("other", None)
        if statement.inside:  # the tag counts what the SELECT gives
            affected = await self._changed_rows() - changed
            change = _one_of(statement.inside) if affected else None
        inserted = returned_id(prepared.columns, rows) if word == "INSERT" else None
        return Result(prepared.columns, rows, affected, inserted, prepared.types, change, prepared.big_integers)

    def stop(self) -> None:
        """Have the server end the statement that runs; `run` goes on until the server has answered.

        Whoever cancels `run` in its place does not learn the answer.
        """
        if self._stopping is None:
            self._is_over.clear()
            self._stopping = asyncio.get_running_loop().create_task(self._insist(), name="stopping a statement")

    async def _insist(self) -> None:
        """Ask until the statement is over: a request that comes before it has begun is ignored by the server."""
        while not self._is_over.is_set() and not self.raw.is_closed():
            # The driver does this for a cancelled call only, whose answer it drops.
            await self.raw._cancel(asyncio.get_running_loop().create_future())
            with suppress(TimeoutError):
                async with asyncio.timeout(INSIST_S):
                    await self._is_over.wait()

    async def _changed_rows(self) -> int:
        """Count the rows that this transaction has changed, those of triggers included."""
        return int(await self.raw.fetchval(_CHANGED_ROWS))

    async def stream(self, statement: Statement, values: list[Any], take: Take) -> None:
        """Run a statement inside a transaction and hand its rows over in batches: see `Database.stream`.

        Raises:
            asyncpg.PostgresError, DriverError, InvalidParam, ResultTooLarge: As `run`; one of `OUTDATED` before `take`.
        """
        _check_count(statement, values)
        prepared, arguments, _ = await self._prepared_for(statement.parameters.text, values)
        batches = Batches()
        await self._begin_now()
        try:
            cursor: Any = await prepared.statement.cursor(*arguments)
        except OUTDATED:
            self._prepared.forget()
            raise
        while True:
            before = self._meter.received
            rows = await self._fetched(prepared, cursor.fetch(batches.rows))
            size = self._meter.received - before
            await take(Result(prepared.columns, rows, 0, None, prepared.types, None, prepared.big_integers))
            if len(rows) < batches.rows:
                return
            batches.came(len(rows), size)

    async def _fetched(self, prepared: Prepared, fetching: Awaitable[Any]) -> list[tuple[Any, ...]]:
        task = asyncio.current_task()
        assert task is not None
        cancelling, is_over = task.cancelling(), False

        def stop() -> None:
            nonlocal is_over
            is_over = task.cancel()

        if prepared.columns:  # notices are not kept
            self._meter.watch(self.left_bytes, stop)
        try:
            records = await fetching
        except asyncio.CancelledError as error:
            if is_over and task.uncancel() <= cancelling:
                raise too_large("postgres", self._limit) from error
            raise
        finally:
            self._meter.rest()
        return prepared.rows(records)

    async def _prepared_for(self, text: str, values: list[Any]) -> tuple[Prepared, list[Any], bool]:
        """Return a compiled statement, values as it takes them, and whether it was compiled before."""
        await self.raw.end_of_left()
        kept = self._prepared.kept_for(text, values)
        if kept is not None:
            return *kept, True
        prepared = await self._compiled(text)
        return prepared, prepared.arguments(values), False

    async def _compiled(self, text: str) -> Prepared:
        if self._to_begin is not None and "ISOLATION" in self._to_begin:
            await self._begin_now()  # to compile takes a snapshot, behind which the server sets no level
        return await self._prepared.compiled(text)

    def _undo_behind(self) -> None:
        if self._keeps_statements:
            self._undone = self._meter.beside.put_behind(_RESET_MESSAGE)

    @property
    def is_clean(self) -> bool:
        """Whether what a caller has left has been undone with his last statement."""
        return self._stopping is None and self._undone is not None and self._undone.done() and self._undone.result()

    async def reset(self) -> None:
        """Undo what a caller has left: an open transaction, settings, locks, cursors, temporary tables.

        Raises:
            asyncpg.PostgresError, OSError: It cannot be undone; nobody may have this connection any more.
        """
        self._to_begin = None
        undone, self._undone = self._undone, None
        await self.raw.end_of_left()
        if self._stopping is not None:
            await self._stopping  # what comes next must not be what is stopped
            self._stopping = None
        elif undone is not None and await undone:
            return
        # Until a cancelled statement is answered nobody knows if the BEGIN in front of it has opened a transaction.
        await self.raw._protocol._wait_for_cancellation()
        if self.is_in_transaction:
            await self.raw.execute("ROLLBACK")
        if self._keeps_statements:
            await self.raw.execute(RESET)

    async def close(self) -> None:
        """Disconnect."""
        try:
            await self.raw.close(timeout=CLOSE_S)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self.abort()

    def abort(self) -> None:
        """Disconnect without a word."""
        self.raw.terminate()


def _check_count(statement: Statement, values: list[Any]) -> None:
    try:
        statement.parameters.check(len(values))
    except WrongNumberOfValues as error:
        raise DriverError(str(error), details={"driver": "postgres", "inner_code": None}) from error


def _one_of(changes: tuple[tuple[Op, str | None], ...]) -> tuple[Op, str | None]:
    return changes[0] if len(set(changes)) == 1 else ("other", None)
