"""`database::stream`: a result of any size, through a channel, while it is read.

The rows of each batch are one piece of newline-delimited JSON. The writer waits while the channel is full, and the
database with it; a reader that goes away ends the statement, also while that gives no rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

from linkly import Bus, ChannelWriter, function
from linkly.clock import Clock, time_limit
from linkly.errors import ConnectionLost, LinklyError
from linkly_workers.database.backend import Result
from linkly_workers.database.databases import Databases
from linkly_workers.database.errors import InvalidParam, StatementWrites
from linkly_workers.database.shapes import Stream, Streamed
from linkly_workers.database.values import as_rows, check_parameters, columns_of

TRAILER_S = 1.0
"""So long a reader who does not read is waited for before he is told of an error."""

_ENCODER = msgspec.json.Encoder()


class Streams:
    """The function that answers through a channel."""

    _bus: Bus

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    def open(self, bus: Bus) -> None:
        """Open channels over a bus from now on."""
        self._bus = bus

    @function("database::stream", aliases=["iii-database::stream"])
    async def stream(self, request: Stream) -> Streamed:
        """Run one SQL statement that reads and write its rows to a channel while they are read; answered at the end.

        Raises:
            DriverError: The database refused it.
            InvalidParam: It writes, or cannot be used at all.
            QueryTimeout: It took longer than `timeout_ms`, the waiting for the reader included.
            ConnectionLost: The reader has gone.
            UnknownDatabase: There is no such database.
        """
        async with _trailer(await self._bus.open_writer(request.writer), self._bus.clock) as writer:
            return await self._stream(request, writer)

    async def _stream(self, request: Stream, writer: ChannelWriter) -> Streamed:
        database = self._databases.find(request.db)
        statement, parameters = database.statement(request.sql), check_parameters(request.params)
        integers = request.integers or self._databases.integers(database.name)
        answer: Streamed | None = None

        async def take(result: Result) -> None:
            nonlocal answer
            if answer is None:
                answer = Streamed(0, columns_of(result))
                await _say(writer, {"type": "columns", "columns": answer.columns})
            rows = as_rows(result, request, integers)
            answer.row_count += len(rows)
            await writer.write(_ENCODER.encode_lines(rows))

        try:
            async with _while_read(writer):
                await database.stream(statement, parameters, request.timeout_ms, take)
        except StatementWrites as error:
            raise InvalidParam(
                "database::stream is for statements that only read",
                details={"index": 0, "reason": "the statement writes"},
            ) from error
        answer = answer or Streamed(0, [])
        await _say(writer, {"type": "end", "row_count": answer.row_count})
        return answer


@asynccontextmanager
async def _while_read(writer: ChannelWriter) -> AsyncIterator[None]:
    """Stop the block when nobody will read any more.

    Raises:
        ConnectionLost: Nobody will.
    """
    over = asyncio.timeout(None)

    async def watch() -> None:
        await writer.reader_gone()
        over.reschedule(0)

    try:
        async with over:
            watching = asyncio.get_running_loop().create_task(watch(), name="reader of a stream")
            try:
                yield
            finally:
                watching.cancel()
    except TimeoutError as error:
        if over.expired():
            raise ConnectionLost("the reader of this channel is gone") from error
        raise


@asynccontextmanager
async def _trailer(writer: ChannelWriter, clock: Clock) -> AsyncIterator[ChannelWriter]:
    """Close a channel; an error is told to its reader first, if he reads."""
    try:
        yield writer
    except ConnectionLost:
        raise
    except LinklyError as error:
        body = {"code": error.code, "message": error.message, **error.details}
        with suppress(ConnectionLost, TimeoutError):
            async with time_limit(clock, TRAILER_S):
                await _say(writer, {"type": "error", "error": body})
        raise
    finally:
        await writer.close()


async def _say(writer: ChannelWriter, message: dict[str, Any]) -> None:
    await writer.send_text(_ENCODER.encode(message).decode())
