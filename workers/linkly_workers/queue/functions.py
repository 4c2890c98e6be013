"""Which functions can be called now: jobs of others wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from linkly.bus import Bus
from linkly.errors import LinklyError
from linkly_workers.queue.jobs import Lane


class _Row(msgspec.Struct):
    """A function, as the engine lists it."""

    function_id: str
    namespace: str


class Functions:
    """The functions that somebody serves.

    Args:
        bus: Where to ask.
        came: Called when there may be new ones.
    """

    def __init__(self, bus: Bus, came: Callable[[], object]) -> None:
        self._bus = bus
        self._came = came
        self._served: frozenset[tuple[str, str]] = frozenset()

    def serve(self, lane: Lane) -> bool:
        """Return whether the function of a lane can be called, as far as is known."""
        return (lane.namespace, lane.function_id) in self._served

    async def ask(self) -> None:
        """Ask the engine which there are."""
        answer = await self._bus.trigger("engine::functions::list", {"include_internal": True})
        self.are(answer["functions"])

    def are(self, rows: Iterable[Any]) -> None:
        """Take a list of the engine's."""
        before = self._served
        found = msgspec.convert(rows, list[_Row])
        self._served = frozenset((row.namespace, row.function_id) for row in found)
        if self._served - before:
            self._came()

    async def is_gone(self, lane: Lane) -> bool:
        """Ask whether nobody serves the function of a lane any more; nobody does where the engine ends."""
        try:
            await self.ask()
        except LinklyError:
            return True
        return not self.serve(lane)
