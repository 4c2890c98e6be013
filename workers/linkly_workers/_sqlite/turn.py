"""The writer's turn, held by one caller over several calls: asked for in line, run in, given back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from linkly_workers._sqlite.connection import Connection
from linkly_workers._sqlite.operation import Operation
from linkly_workers._sqlite.text import ALONE

T = TypeVar("T")


class Inside(Operation[Any]):
    """Runs in a turn: what it meets is its holder's affair."""


class Turn:
    """The writer's turn, held by one caller for longer than a batch: nobody else writes until its `end`."""

    def __init__(
        self, run: Callable[[Callable[[Connection], Any]], Awaitable[Any]], end: Callable[[Turn], None]
    ) -> None:
        self._run = run
        self._end = end

    async def run(self, operation: Callable[[Connection], T]) -> T:
        """Run something on the writer's connection, on its thread, in no transaction but the holder's own."""
        result: T = await self._run(operation)
        return result

    def end(self) -> None:
        """Give the turn back; harmless the second time."""
        self._end(self)


class Asking(Operation[Turn]):
    """Asks for a turn; it is not run."""


def asking(future: asyncio.Future[Turn]) -> Asking:
    """Ask for a turn."""
    return Asking(_no_operation, future, place=ALONE)


def _no_operation(_: Connection) -> Turn:
    raise AssertionError("asking for a turn is not run")
