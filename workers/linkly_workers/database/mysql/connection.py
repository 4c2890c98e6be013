"""One connection: its statements, their results, and what makes it as good as new for the next caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from asyncmy.errors import MySQLError

from linkly.errors import OutcomeUnknown
from linkly_workers.database._server.result import Result, returned_id, size_of, too_large
from linkly_workers.database.backend import Take
from linkly_workers.database.batches import BATCH_BYTES, MOST_ROWS
from linkly_workers.database.errors import DriverError
from linkly_workers.database.mysql.binary import loses_digits
from linkly_workers.database.mysql.codecs import big_integers, type_name
from linkly_workers.database.mysql.errors import FAILURES, NOT_PREPARABLE, TOO_LARGE, is_lost, number_of
from linkly_workers.database.mysql.parameters import bound
from linkly_workers.database.mysql.statement import Statement
from linkly_workers.database.mysql.stopping import Stopper
from linkly_workers.database.mysql.wire import Oversized, Wire

CLOSE_S = 2.0
PATIENCE_S = 86_400
"""How long the server waits for a reader that is slow to take the rows of a stream."""

_MAY_LEAVE_NO_DATABASE = ("DROP DATABASE", "DROP SCHEMA")
"""A reset does not bring a session back into its database."""


class Connection:
    """A connection that one caller after another has.

    Args:
        wire: The driver's.
        stopper: Stops its statements.

    Attributes:
        left_bytes: What the answer of this caller may still take.
        fit: It may go to the next caller.
        may_commit: Statements that commit by themselves run inside its transaction, which then begins anew.
    """

    def __init__(self, wire: Wire, stopper: Stopper) -> None:
        self.left_bytes = 0
        self.fit = True
        self.may_commit = False
        self._limit = 0
        self._wire = wire
        self._stopper = stopper
        self._stopping: asyncio.Task[None] | None = None
        self._is_clean = True
        self._has_begun = self._begins_anew = self._has_savepoint = False
        self._ran = 0

    @property
    def is_usable(self) -> bool:
        """Whether it can go to a caller."""
        return self.fit and self._wire.is_open

    @property
    def is_clean(self) -> bool:
        """Whether nobody has used it since it was reset."""
        return self._is_clean

    def allow(self, limit: int) -> None:
        """Let the next answer take so many bytes."""
        self._limit = self.left_bytes = limit

    # --- a statement ---------------------------------------------------------------------------------------

    async def check(self, statement: Statement) -> None:
        """Compile a statement without running it.

        Raises:
            asyncmy.errors.MySQLError, DriverError: It cannot be compiled.
        """
        statement.check_for(mariadb=self._wire.is_mariadb)
        async with self._asking():
            try:
                await self._wire.check(statement.compiled)
            except MySQLError as error:
                if number_of(error) not in NOT_PREPARABLE:
                    raise

    async def run(self, statement: Statement, values: list[Any], *, last: bool = False) -> Result:
        """Run a statement and read all of its result.

        Raises:
            asyncmy.errors.MySQLError: The server refused it.
            DriverError: There are too many values or too few, the server has no such statement, or the transaction is
                over.
            InvalidParam: A value does not fit, or the statement may not run inside a transaction.
            OutcomeUnknown: The connection was lost in a procedure.
            ResultTooLarge: The rows are larger than allowed; the statement was stopped.
        """
        text = self._text(statement, values)
        self._begins_anew = statement.commits is not None and self._has_begun
        self._ran += 1
        if statement.commits in _MAY_LEAVE_NO_DATABASE:
            self.fit = False
        async with self._asking():
            try:
                result = await self._run(statement, text, last=last)
            except FAILURES as error:
                if statement.calls and is_lost(error):
                    raise OutcomeUnknown(
                        f"the connection was lost in a procedure: {error}; what it commits by itself may be written or "
                        "not. Ask what is there before you repeat it",
                        details={"driver": "mysql"},
                    ) from error
                raise
            await self._note_reset()
        return result

    async def _run(self, statement: Statement, text: str, *, last: bool) -> Result:
        head = await self._answer(statement, text, last=last)
        fields = head.fields or []
        rows: list[tuple[Any, ...]] = []
        while (batch := await self._rows()) is not None:
            rows += batch
        affected = len(rows) if statement.returning else 0 if fields else head.affected_rows
        inserted = head.insert_id
        while not self._wire.is_answered:  # of a procedure: the rows of its first result count
            more = await self._wire.next_result()
            while await self._rows() is not None:
                pass
            affected = affected if more.fields else more.affected_rows
        columns = [field.name for field in fields]
        if statement.commits is not None:
            affected = 0
        op = statement.target[0] if statement.target is not None else None
        return Result(
            columns,
            rows,
            affected,
            None if op != "insert" else returned_id(columns, rows) if fields else inserted or None,
            _types(fields),
            None if not affected else statement.target or ("other", None),
            big_integers(fields),
        )

    async def _answer(self, statement: Statement, text: str, *, last: bool = False) -> Any:
        """Send a statement, prepared if the text protocol may lose digits of its answer; returns the first result."""
        runs_once = is_binary = statement.target is not None
        while True:
            if not statement.may_lose_digits:
                head = await self._wire.ask(text, last=last)
                if not loses_digits(head.fields or []):
                    return head
                statement.may_lose_digits = is_binary = True
                if runs_once:
                    raise _altered()
                # It is read again: that is allowed for what changes nothing itself, as it is after a lost connection,
                # and inside a transaction the rows are those of the same moment.
                self._stop_beside(self._stopper.stop)
                await self._ready()
            try:
                handle, fields = await self._wire.prepare(text)
            except MySQLError as error:
                if number_of(error) not in NOT_PREPARABLE:
                    raise
                return await self._wire.ask(text, last=last)
            if is_binary or not fields or loses_digits(fields):
                head = await self._wire.execute(handle, last=last)
                if statement.returning:  # of which only the answer itself describes the columns
                    statement.may_lose_digits = loses_digits(head.fields or [])
                return head
            self._wire.forget(handle)
            statement.may_lose_digits = False

    async def stream(self, statement: Statement, values: list[Any], take: Take) -> None:
        """Run a statement inside a transaction and hand its rows over in batches: see `Database.stream`.

        Raises:
            asyncmy.errors.MySQLError, DriverError, InvalidParam, ResultTooLarge: As `run`.
        """
        text = self._text(statement, values)
        await self.command(f"SET net_write_timeout = {PATIENCE_S}")
        async with self._asking(self._stopper.end):
            fields = (await self._answer(statement, text)).fields or []
            columns, types, big = [field.name for field in fields], _types(fields), big_integers(fields)
            is_first = True
            while (found := await self._next_rows(self._limit)) is not None or is_first:
                is_first = False
                rows = found or []
                self._wire.pause()
                for some in _in_batches(rows):
                    await take(Result(columns, some, 0, None, types, None, big))
                self._wire.resume()
            await self._wire.drain()

    async def _rows(self) -> list[tuple[Any, ...]] | None:
        rows = await self._next_rows(self.left_bytes)
        if rows is not None:
            self.left_bytes -= size_of(rows)
            if self.left_bytes < 0:
                raise too_large("mysql", self._limit)
        return rows

    async def _next_rows(self, limit: int) -> list[tuple[Any, ...]] | None:
        try:
            return await self._wire.rows(limit)
        except Oversized:
            raise too_large("mysql", self._limit) from None

    def _text(self, statement: Statement, values: list[Any]) -> str:
        """Return a statement with its values, if it may run now."""
        statement.check_for(mariadb=self._wire.is_mariadb)
        self._check_transaction()
        if self._has_begun and not self.may_commit:
            statement.check_in_transaction()
        text = bound(statement, values)
        if len(text) * 4 >= self._wire.largest and (size := len(text.encode())) >= self._wire.largest:
            raise DriverError(
                f"the statement and its values have {size} bytes, and max_allowed_packet of the server is "
                f"{self._wire.largest}",
                details={"driver": "mysql", "inner_code": str(TOO_LARGE)},
            )
        return text

    # --- transactions --------------------------------------------------------------------------------------

    async def begin(self, isolation: str | None, *, read_only: bool = False) -> None:
        """Begin a transaction: see `_server.connection.Connection`."""
        if self._has_begun:
            await self.command("ROLLBACK")
        if isolation is not None:
            await self.command(f"SET TRANSACTION ISOLATION LEVEL {isolation.replace('_', ' ').upper()}")
        await self.command(f"START TRANSACTION{' READ ONLY' if read_only else ''}")
        self._has_begun, self._begins_anew = True, False
        self._ran = 0

    async def commit(self) -> bool:
        """Commit the transaction; a server that cannot says so.

        Raises:
            DriverError: Its last statement has ended it, and not alone.
        """
        if self._ran > 1:  # what one does by itself is as it wants to have it
            self._check_transaction()
        async with self._asking():
            await self._wire.ask("COMMIT", last=True)
            await self._wire.drain()
            await self._note_reset()
        return True

    async def savepoint(self, statement: Statement) -> None:
        """Set a savepoint, if there may be something to undo; one of the same name is forgotten with that.

        InnoDB undoes by itself what a statement that it refuses has done, but not what a procedure has done before,
        nor what a statement has done whose rows are too large.
        """
        if self._begins_anew:
            await self.command("START TRANSACTION")
            self._begins_anew = False
        self._check_transaction()
        self._has_savepoint = not statement.reads and statement.commits is None
        if self._has_savepoint:
            await self.command("SAVEPOINT linkly")

    async def go_back(self) -> None:
        """Undo what has been done since the last savepoint."""
        if self._has_savepoint:
            await self.command("ROLLBACK TO SAVEPOINT linkly")
        else:
            await self._ready()

    def _check_transaction(self) -> None:
        if self._has_begun and not self._begins_anew and not self._wire.in_transaction:
            raise DriverError(
                "the last statement has ended the transaction by itself, as a procedure may: what came before it is "
                "written if it has committed, and gone if it has rolled back",
                details={"driver": "mysql", "inner_code": None},
            )

    async def only_reads(self) -> bool:
        """Ask whether the server takes no writes."""
        ((answer,),) = await self.fetch("SELECT @@read_only")
        return bool(int(answer))

    # --- the session ---------------------------------------------------------------------------------------

    async def command(self, text: str) -> None:
        """Run a text of our own that has no rows."""
        async with self._asking():
            await self._wire.command(text)

    async def fetch(self, text: str) -> list[tuple[Any, ...]]:
        """Run a text of our own that has few rows."""
        async with self._asking():
            return await self._wire.fetch(text)

    async def reset(self) -> None:
        """Undo what a caller has left: an open transaction, variables, locks, temporary tables.

        Raises:
            asyncmy.errors.MySQLError, OSError: It cannot be undone; nobody may have this connection any more.
        """
        await self._stopped()
        if self._wire.is_resetting:
            await self._wire.end_reset()
        else:
            await self._wire.reset()
        self._is_as_new()

    async def _note_reset(self) -> None:
        """Take the end of a reset that went behind a statement, if it has come; nobody waits for it."""
        if self._wire.has_been_reset:
            await self._wire.end_reset()
            self._is_as_new()

    def _is_as_new(self) -> None:
        self._has_begun = self._begins_anew = self.may_commit = False
        self._is_clean = True

    async def close(self) -> None:
        """Disconnect."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._ready()
                await self._wire.close()
        except FAILURES:
            self.abort()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Disconnect without a word."""
        self.fit = False
        if self._stopping is not None:
            self._stopping.cancel()
        self._wire.abort()

    # --- a statement that is stopped -----------------------------------------------------------------------

    @asynccontextmanager
    async def _asking(self, stop: Callable[[Wire], Awaitable[None]] | None = None) -> AsyncIterator[None]:
        """Have the connection for a statement; one that is not answered at the end is stopped, beside the caller."""
        await self._ready()
        self._is_clean = False
        try:
            yield
        except BaseException:
            if not self._wire.is_answered and self._wire.is_open and self._stopping is None:
                self._stop_beside(stop or self._stopper.stop)
            raise

    def _stop_beside(self, stop: Callable[[Wire], Awaitable[None]]) -> None:
        self._stopping = asyncio.get_running_loop().create_task(self._stop(stop), name="KILL QUERY")

    async def _ready(self) -> None:
        """Wait for the end of a statement that is being stopped, or of a reset."""
        await self._stopped()
        await self._wire.end_reset()

    async def _stopped(self) -> None:
        if self._stopping is not None:
            await asyncio.shield(self._stopping)
            self._stopping = None

    async def _stop(self, stop: Callable[[Wire], Awaitable[None]]) -> None:
        try:
            await stop(self._wire)
        except BaseException as error:
            self._wire.abort()
            if not isinstance(error, FAILURES):
                raise


def _altered() -> DriverError:
    return DriverError(
        "a table has been altered, and the answer has a FLOAT now that came without all of its digits; nothing of the "
        "statement is kept, it may be tried again",
        details={"driver": "mysql", "inner_code": None, "retryable": True},
    )


def _in_batches(rows: list[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """Cut rows that have come together into pieces of about `BATCH_BYTES`; there is one at least."""
    count = max(1, min(MOST_ROWS, BATCH_BYTES * len(rows) // (size_of(rows) or 1)))
    yield rows[:count]
    for start in range(count, len(rows), count):
        yield rows[start : start + count]


def _types(fields: list[Any]) -> list[str]:
    return [type_name(field) for field in fields]
