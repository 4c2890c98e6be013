"""Who is told that jobs have come to an end, after the commit that says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from linkly_workers.queue.jobs import State

Listener = Callable[[int, State, Sequence[int]], object]
"""Takes the number of a queue, how jobs of it have ended, and their positions; returns at once and raises nothing."""


class Endings:
    """Tells of the ends that this engine has written."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Tell it from now on."""
        self._listeners.append(listener)

    def tell(self, queue: int, state: State, positions: Sequence[int]) -> None:
        """Tell of jobs that have ended."""
        if positions:
            for listener in self._listeners:
                listener(queue, state, positions)
