"""The writer's turn, held by one caller for longer than a batch: an interactive transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from linkly_workers._sqlite.connection import Connection

T = TypeVar("T")


class Turn:
    """Nobody else writes while it is held; give it back with `end`.

    Args:
        run: Runs something on the writer's own connection.
        end: Lets the others go on.
    """

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
