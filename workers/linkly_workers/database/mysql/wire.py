"""One connection as the driver has it: a statement goes out, its answer comes in pieces.

All that this package knows of asyncmy's inside is in this file. The driver reads an answer to its end, and a reader
that is cancelled in the middle leaves it out of step. So whatever has to be waited for is waited for here, before the
driver reads it: a cancelled caller leaves an answer of which nothing is half read, and `drain` reads the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import Iterator
from typing import Any, Literal

from asyncmy import errors
from asyncmy.connection import Connection
from asyncmy.protocol import FieldDescriptorPacket

from linkly_workers.database._server.lookup import check_host
from linkly_workers.database._server.tls import context_of
from linkly_workers.database.mysql.address import Address
from linkly_workers.database.mysql.binary import Row, row_of
from linkly_workers.database.mysql.codecs import DECODERS, Field
from linkly_workers.database.mysql.tls import TlsLoop

COM_QUERY, COM_STMT_PREPARE, COM_STMT_EXECUTE, COM_STMT_CLOSE, COM_RESET_CONNECTION = 0x03, 0x16, 0x17, 0x19, 0x1F
_FOUND_ROWS, _MULTI_STATEMENTS, _PS_MULTI_RESULTS = 1 << 1, 1 << 16, 1 << 18
_IN_TRANSACTION = 1
_ERROR = 0xFF
"""The first byte of one."""

_LARGEST_PIECE = 2**24 - 1
"""Of a packet; a longer one goes on in the next piece."""

_SMALL = 65_536
"""A row of so many bytes is let go as it is read: many small ones at once, which takes a fortieth of the time. A
statement of so many is copied, and so many bytes of binary rows are read at once."""

_SESSION = (
    "SET NAMES utf8mb4, autocommit = 1, time_zone = '+00:00', "
    "sql_mode = 'STRICT_TRANS_TABLES,STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', "
    "{recursion} = 4294967295"
)
"""What a session starts with.

The mode says also how texts are read: `_sql.tokens.MYSQL` has neither ANSI_QUOTES nor NO_BACKSLASH_ESCAPES. A recursive
WITH ends at its time limit; by default MariaDB would stop it after 1,000 rounds and answer what it has.
"""

_SELF = "SELECT CONNECTION_ID(), CONCAT_WS(' ', @@hostname, @@port, @@server_id, @@datadir), @@max_allowed_packet"


def _message(command: int, payload: bytes) -> bytes:
    return (len(payload) + 1).to_bytes(3, "little") + bytes([0, command]) + payload


_RESET = _message(COM_RESET_CONNECTION, b"")


class Oversized(Exception):
    """The next row is larger than its reader wants."""


class RefusesClearText:
    """In place of the ways to log in that tell the password to whoever asks: the driver would follow any server."""

    def __init__(self, connection: Any) -> None:
        pass

    def authenticate(self, packet: Any) -> None:
        """Refuse."""
        raise errors.OperationalError(2059, "the server asks for the password in clear text, and there is no TLS")


class Wire:
    """A connection; whoever uses it takes care that one statement has been answered before the next is asked.

    Attributes:
        number: The server's for this connection.
        where: Tells the server from others at the same address.
        largest: Bytes that a statement may have.
        is_mariadb: It is MariaDB, and not MySQL.
        in_transaction: A transaction was open when the server last said so.
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._left: Literal["nothing", "description", "answer", "rows"] = "nothing"
        self._is_binary = False
        self._row: Row | None = None
        self._unwanted = b""
        self._behind = 0
        self._session = b""
        self.number = self.largest = 0
        self.where = ""
        self.is_mariadb = self.in_transaction = False

    async def open(self) -> None:
        """Connect and say how the session has to be."""
        await self._raw.connect()
        self.is_mariadb = "MariaDB" in self._raw.get_server_info()
        recursion = "max_recursive_iterations" if self.is_mariadb else "cte_max_recursion_depth"
        session = _SESSION.format(recursion=recursion)
        self._session = _message(COM_QUERY, session.encode())
        await self.command(session)
        ((number, where, largest),) = await self.fetch(_SELF)
        self.number, self.where, self.largest = int(number), str(where), int(largest)

    @property
    def is_open(self) -> bool:
        """Whether it is connected, as far as is known."""
        return bool(self._raw.connected) and not self._raw._stream_broken

    @property
    def is_answered(self) -> bool:
        """Whether all of the last answer has been read."""
        return self._left == "nothing"

    # --- a statement and its answer ------------------------------------------------------------------------

    async def ask(self, text: str, *, last: bool = False) -> Any:
        """Send a statement and return the first of the driver's results; `rows` gives its rows.

        Behind the `last` one goes what resets the session, in the same write: see `end_reset`.
        """
        self._is_binary = False
        # What the driver's own encoding does to half a surrogate pair is not for it to decide.
        await self._send(COM_QUERY, text.encode(), last=last)
        self._left = "answer"
        return await self.next_result()

    async def prepare(self, text: str) -> tuple[bytes, list[Field]]:
        """Let the server compile a statement; returns its handle for `execute` or `forget`, and the columns of its
        answer, if it is neither CALL nor RETURNING."""
        await self._send(COM_STMT_PREPARE, text.encode())
        self._left = "description"
        return await self._description()

    async def execute(self, handle: bytes, *, last: bool = False) -> Any:
        """Run a prepared statement, once, and return the first of the driver's results; otherwise as `ask`."""
        self._is_binary = True
        await self._send(COM_STMT_EXECUTE, handle + b"\0\1\0\0\0", last=last)
        if not last:  # the reset forgets it
            self.forget(handle)
        self._left = "answer"
        return await self.next_result()

    def forget(self, handle: bytes) -> None:
        """Have the server forget a prepared statement, together with what is sent next: there is no answer."""
        self._unwanted += _message(COM_STMT_CLOSE, handle)

    async def _send(self, command: int, payload: bytes, *, last: bool = False) -> None:
        before, self._unwanted = self._unwanted, b""
        if len(payload) < _SMALL and self.is_open:
            behind = _RESET + self._session if last else b""
            self._raw._write_bytes(before + _message(command, payload) + behind)
            self._raw._next_seq_id = 1
            if last:
                self._behind = 2
        else:
            if before:
                self._raw._write_bytes(before)
            await self._raw._execute_command(command, payload)

    async def _description(self) -> tuple[bytes, list[Field]]:
        """Read the answer to a PREPARE."""
        at = await self._packet(0)
        proto = self._raw._proto
        columns, parameters = 0, 0
        if proto.buffer[proto.pos + 4] != _ERROR:
            columns, parameters = struct.unpack_from("<HH", proto.buffer, proto.pos + 9)
        ends = int(not self._raw._deprecate_eof)
        for count in (parameters, columns):
            for _ in range(count + ends if count else 0):
                at = await self._packet(at)
        self._left = "nothing"
        handle = (await self._raw.read_packet()).get_all_data()[1:5]
        for _ in range(parameters + ends if parameters else 0):
            await self._raw.read_packet()
        fields = [await self._raw.read_packet(FieldDescriptorPacket) for _ in range(columns)]
        if columns and ends:
            await self._raw.read_packet()
        return handle, fields

    async def next_result(self) -> Any:
        """Return the next of the driver's results, after the rows of the one before; there is one if `is_answered`
        is not yet true."""
        await self._head()
        self._left = "nothing"  # where the server refuses the statement
        await self._raw._read_query_result(unbuffered=True)
        result = self._raw._result
        if result.unbuffered_active:
            self._row = row_of(result.fields, result.converters) if self._is_binary else None
            self._left = "rows"
        else:
            self._ended(result)
        return result

    async def rows(self, limit: int) -> list[tuple[Any, ...]] | None:
        """Return the next rows of a result, `None` behind the last.

        Raises:
            Oversized: The next row has more than `limit` bytes.
        """
        result = self._raw._result
        if self._left != "rows":
            return None
        if kept := result._take_pending_rows():
            return list(kept)
        await self._packet(0, limit)
        if self._size(0) == _LARGEST_PIECE:  # the driver takes one whose first value is as large for the end
            packet = await self._raw.read_packet()
            if self._row is not None:
                return [self._row(packet.get_all_data())]
            return [packet.read_row(tuple(result.converters))]
        if self._row is not None and self._is_binary_row:
            return self._binary_rows(self._row)
        return await self._read_row(result)

    @property
    def _is_binary_row(self) -> bool:
        """Whether the next packet is a row, and not the end of the rows or an error."""
        proto = self._raw._proto
        return bool(proto.buffer[proto.pos + 4] == 0)

    def _binary_rows(self, row: Row) -> list[tuple[Any, ...]]:
        """Read the rows that have come, or some of them: they may be more than their reader wants."""
        rows: list[tuple[Any, ...]] = []
        proto = self._raw._proto
        enough = proto.pos + _SMALL
        with memoryview(proto.buffer) as buffer:
            for start, end in self._whole_rows():
                rows.append(row(bytes(buffer[start:end])))
                if end > enough:
                    break
        return rows

    def _whole_rows(self) -> Iterator[tuple[int, int]]:
        """Pass over the rows of the binary protocol that have come; yields where each begins and ends."""
        proto = self._raw._proto
        buffer, length = proto.buffer, proto.length
        while (start := proto.pos + 4) < length and buffer[start] == 0:
            end = start + (buffer[start - 4] | buffer[start - 3] << 8 | buffer[start - 2] << 16)
            if end > length or end - start == _LARGEST_PIECE:
                return
            self._raw._next_seq_id = (buffer[start - 1] + 1) & 0xFF
            proto.pos = end
            yield start, end

    async def _read_row(self, result: Any) -> list[tuple[Any, ...]] | None:
        self._left = "nothing"  # where the server ends the rows with an error
        row = await result._read_rowdata_packet_unbuffered()
        if row is None:
            self._ended(result)
            return None
        self._left = "rows"
        return [row, *result._take_pending_rows()]

    def _ended(self, result: Any) -> None:
        self.in_transaction = bool(result.server_status & _IN_TRANSACTION)
        self._left = "answer" if result.has_next else "nothing"

    async def command(self, text: str) -> None:
        """Run a text of our own that has no rows."""
        await self.ask(text)
        await self.drain()

    async def fetch(self, text: str) -> list[tuple[Any, ...]]:
        """Run a text of our own that has few rows."""
        await self.ask(text)
        found: list[tuple[Any, ...]] = []
        while (batch := await self.rows(_LARGEST_PIECE)) is not None:
            found += batch
        return found

    async def drain(self) -> None:
        """Read what is left of an answer and keep nothing of it. Must not be cancelled, but for good."""
        while self._left != "nothing":
            if self._left == "description":
                self.forget((await self._description())[0])
                continue
            if self._left == "answer":
                await self.next_result()
                continue
            result = self._raw._result
            result._take_pending_rows()
            if self._row is not None:
                for _ in self._whole_rows():
                    pass
            await self._have(4)
            if self._size(0) > _SMALL:
                await self._skip()
                continue
            await self._packet(0)
            if self._row is None or not self._is_binary_row:
                await self._read_row(result)

    async def check(self, text: str) -> None:
        """Let the server compile a statement, and forget it again."""
        handle, _ = await self.prepare(text)
        self.forget(handle)

    @property
    def is_resetting(self) -> bool:
        """Whether the session is being reset: `end_reset` comes before everything else."""
        return self._behind > 0

    @property
    def has_been_reset(self) -> bool:
        """Whether the server has done what went behind a statement, so that `end_reset` does not wait."""
        proto = self._raw._proto
        at, come = 0, proto.length - proto.pos
        for _ in range(self._behind):
            if at + 4 > come:
                return False
            at += 4 + self._size(at)
        return self._behind > 0 and at <= come

    async def reset(self) -> None:
        """Make the session as it was at the beginning, but for the database that it is in."""
        self._unwanted = b""
        await self._raw._execute_command(COM_RESET_CONNECTION, b"")
        self._raw._write_bytes(self._session)
        self._behind = 2
        await self.end_reset()

    async def end_reset(self) -> None:
        """Wait for the end of a reset."""
        while self._behind:
            self._raw._next_seq_id = 1
            await self._packet(0)
            self._behind -= 1
            await self._raw._read_ok_packet()
            self.in_transaction = False

    # --- what has come -------------------------------------------------------------------------------------

    async def _have(self, count: int) -> None:
        """Wait until so many bytes have come."""
        proto = self._raw._proto
        while proto.length - proto.pos < count:
            if proto.eof or proto.exc is not None:
                self._left = "nothing"
                raise errors.OperationalError(2013, f"the server has closed the connection: {proto.exc or 'no reason'}")
            await proto.wait_for_data(count)

    def _size(self, at: int) -> int:
        proto = self._raw._proto
        return int.from_bytes(proto.buffer[proto.pos + at : proto.pos + at + 3], "little")

    async def _packet(self, at: int, limit: int | None = None) -> int:
        """Wait for all of the packet that begins at a place; returns where the next one begins."""
        while True:
            await self._have(at + 4)
            size = self._size(at)
            at += 4 + size
            if limit is not None and at > limit + 4:
                raise Oversized
            await self._have(at)
            if size < _LARGEST_PIECE:
                return at

    async def _head(self) -> None:
        """Wait for the first packet of an answer, and for those that describe its columns."""
        at = await self._packet(0)
        proto = self._raw._proto
        start = proto.pos + 4
        count = proto.buffer[start]
        if count == 0xFC:
            count = int.from_bytes(proto.buffer[start + 1 : start + 3], "little")
        elif count in (0x00, 0xFB, 0xFD, 0xFE, 0xFF):  # no columns
            return
        for _ in range(count + (not self._raw._deprecate_eof)):
            at = await self._packet(at)

    async def _skip(self) -> None:
        """Pass over a packet of any size."""
        size = _LARGEST_PIECE
        while size == _LARGEST_PIECE:
            await self._have(4)
            size = left = self._size(0)
            proto = self._raw._proto
            self._raw._next_seq_id = (proto.buffer[proto.pos + 3] + 1) & 0xFF
            proto.pos += 4
            while left:
                await self._have(1)
                passed = min(left, proto.length - proto.pos)
                proto.pos += passed
                left -= passed

    def pause(self) -> None:
        """Let the rest of an answer wait in the network: what comes is kept, without a limit."""
        if self.is_open:
            self._raw._transport.pause_reading()

    def resume(self) -> None:
        """Take the rest of an answer."""
        if self.is_open:
            self._raw._transport.resume_reading()

    # --- its end -------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Say goodbye and disconnect."""
        await self._raw.ensure_closed()

    def abort(self) -> None:
        """Disconnect without a word."""
        transport = self._raw._transport
        self._raw.close()
        if transport is not None:
            transport.abort()


async def connected(address: Address, password: bytes, application: str) -> Wire:
    """Return a new connection.

    Raises:
        asyncmy.errors.MySQLError, OSError: The server cannot be reached, or lets nobody in.
    """
    (host, port) = address.hosts[0]
    is_socket = host.startswith("/")
    context: ssl.SSLContext | None = None
    if address.ssl != "disable" and not is_socket:
        context = await asyncio.to_thread(context_of, address)
    clear = dict.fromkeys(("mysql_clear_password", "mysql_old_password", "dialog"), RefusesClearText)
    connection: Any = Connection
    raw = connection(
        host=None if is_socket else host,
        port=port,
        unix_socket=host if is_socket else None,
        user=address.user,
        password=password,
        database=address.database,
        charset="utf8mb4",
        autocommit=None,
        conv=DECODERS,
        client_flag=_FOUND_ROWS | _PS_MULTI_RESULTS,
        program_name=application,
        ssl=context,
        connect_timeout=address.connect_timeout_s,
        auth_plugin_map=None if context is not None or is_socket else clear,
    )
    raw._client_flag &= ~_MULTI_STATEMENTS  # which the driver always asks for
    raw._loop = TlsLoop(raw._loop)
    wire = Wire(raw)
    task = asyncio.current_task()
    cancelled = task.cancelling() if task is not None else 0
    try:
        async with asyncio.timeout(address.connect_timeout_s):
            if not is_socket:
                await check_host(host)
            await wire.open()
            if task is not None and task.cancelling() > cancelled:
                raise asyncio.CancelledError  # Python 3.11's `wait_for`, in the driver, keeps one for itself
    except TimeoutError as error:
        wire.abort()
        raise OSError(f"no answer within {address.connect_timeout_s:g} s") from error
    except RuntimeError as error:  # of the driver, where the server cuts the connection before it goes on with it
        wire.abort()
        raise OSError(f"the connection was lost while it was made: {error}") from error
    except BaseException:
        with contextlib.suppress(RuntimeError):
            wire.abort()
        raise
    return wire
