"""Stops statements on the server, over a connection of its own.

MySQL has no way to stop a statement on the connection where it runs: another one sends KILL QUERY with the number of
the first. It is kept open: when all connections of the server are taken is when statements have to be stopped.

A server that has not begun with the statement yet ignores KILL QUERY (7 of 400 sent right behind one, on a busy
machine), so that is sent again. KILL is for the connection, and never missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal

from asyncmy import errors

from linkly_workers.database.mysql.errors import FAILURES, INTERRUPTED, UNKNOWN_THREAD, number_of
from linkly_workers.database.mysql.wire import Wire

STOP_S = 5.0
"""How long it may take until the server has stopped a statement, before its connection is given up."""

INSIST_S = 0.5
"""After so long the server is asked once more to stop a statement."""

_TRIES = 3


class Stopper:
    """Sends KILL and KILL QUERY, one at a time.

    Args:
        connect: Makes the connection.
    """

    def __init__(self, connect: Callable[[], Awaitable[Wire]]) -> None:
        self._connect = connect
        self._wire: Wire | None = None
        self._lock = asyncio.Lock()

    async def ready(self) -> None:
        """Make the connection if there is none.

        Raises:
            asyncmy.errors.MySQLError, OSError: It cannot be made.
        """
        async with self._lock:
            await self._usable()

    async def stop(self, wire: Wire) -> None:
        """Stop the statement of a connection, read what is left of its answer, and leave it ready for the next one.

        Raises:
            asyncmy.errors.MySQLError, OSError: That is not possible; nobody may use the connection any more.
        """
        wire.pause()
        async with asyncio.timeout(STOP_S):
            await self._kill(wire, "KILL QUERY")
            wire.resume()
            await self._insist(wire)
            reset_was_stopped = await _end_reset(wire)
            await _swallow(wire)
            if reset_was_stopped:
                await wire.reset()

    async def end(self, wire: Wire) -> None:
        """Stop the statement of a connection with it: reading megabytes of rows that nobody wants takes longer.

        Raises:
            asyncmy.errors.MySQLError, OSError: It could not be stopped, and ends when it sends its next rows.
        """
        wire.pause()
        try:
            async with asyncio.timeout(STOP_S):
                await self._kill(wire, "KILL")
        finally:
            wire.abort()

    async def close(self) -> None:
        """Disconnect."""
        async with self._lock:
            wire, self._wire = self._wire, None
            if wire is not None:
                wire.abort()

    async def _insist(self, wire: Wire) -> None:
        """Ask until the answer of the statement has come to its end."""
        drained = asyncio.ensure_future(wire.drain())
        try:
            while not (await asyncio.wait([drained], timeout=INSIST_S))[0]:
                await self._kill(wire, "KILL QUERY")
        finally:
            drained.cancel()
        with suppress(errors.MySQLError):  # that of the statement, for which nobody waits
            drained.result()

    async def _kill(self, wire: Wire, how: Literal["KILL", "KILL QUERY"]) -> None:
        async with self._lock:
            for tries_left in reversed(range(2)):
                mine = await self._usable()
                try:
                    if mine.where != wire.where:
                        # Behind the address there are several servers, and there the number is somebody else's.
                        raise OSError(f"the statement runs on {wire.where}, and {how} goes to {mine.where}")
                    await mine.command(f"{how} {wire.number}")
                except BaseException as error:
                    if number_of(error) == UNKNOWN_THREAD:
                        return
                    self._wire = None
                    mine.abort()
                    if not tries_left or not isinstance(error, FAILURES):
                        raise
                else:
                    return

    async def _usable(self) -> Wire:
        if self._wire is None or not self._wire.is_open:
            self._wire = None
            self._wire = await self._connect()
        return self._wire


async def _end_reset(wire: Wire) -> bool:
    """Wait for the end of a reset behind the statement; returns whether the KILL, a little late, has stopped that."""
    was_stopped = False
    while wire.is_resetting:
        try:
            await wire.end_reset()
        except errors.MySQLError as error:
            if number_of(error) != INTERRUPTED:
                raise
            was_stopped = True
    return was_stopped


async def _swallow(wire: Wire) -> None:
    """Ask for nothing until that is answered: a KILL that came late would stop the next statement."""
    for _ in range(_TRIES):
        try:
            await wire.command("DO 0")
        except errors.MySQLError as error:
            if number_of(error) != INTERRUPTED:
                raise
        else:
            return
    raise OSError("the connection does not answer after KILL QUERY")
