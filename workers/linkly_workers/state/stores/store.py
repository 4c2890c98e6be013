"""The interface of a store of state; `memory` and `sqlite` implement it.

Values are JSON text in `bytes` that nobody else refers to. Both stores answer reads from memory on the loop's thread
(0.1 us; a thread hop costs 40-400 us).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias

Change: TypeAlias = Callable[[bytes | None], bytes | None]
"""Old value -> new value, `None` for absent. Pure: it may be called again."""

Written: TypeAlias = Callable[[bytes | None, bytes | None], None]
"""Told (old, new) once a write counts, in the order of the writes."""

Outcome: TypeAlias = tuple[bytes | None, bytes | None]
"""The value before a write, and the value after it; `None` for absent."""


class Store(Protocol):
    """Values by (scope, key).

    * `write` is atomic, and its answer means that the write counts: on disk where there is one.
    * Writes of one key take effect one after another, in the order in which they were asked for.
    * A read sees every answered write and no write that may still fail.
    * A key keeps its position in the scope until it is deleted; a new one comes last.
    * Every method raises `StoreError` if the store cannot do its work, `write` also `OutcomeUnknown` if it cannot know
      whether it has.
    """

    @property
    def identity(self) -> bytes:
        """Sixteen random bytes that stay the same for as long as the positions mean the same."""
        ...

    def get(self, scope: str, key: str) -> bytes | None:
        """Return a value, `None` if absent."""
        ...

    def values(self, scope: str) -> list[bytes]:
        """Return a scope's values in order of position."""
        ...

    def keys(self, scope: str) -> list[str]:
        """Return a scope's keys in order of position."""
        ...

    def count(self, scope: str) -> int:
        """Return how many keys a scope has."""
        ...

    def after(self, scope: str, position: int) -> Iterator[tuple[int, str, bytes]]:
        """Yield (position, key, value) of the keys behind a position, in order; only what is taken costs time.

        Consume the iterator before the next `await`.
        """
        ...

    def scopes(self) -> list[str]:
        """Return the scopes that have keys, sorted."""
        ...

    def trouble(self) -> str | None:
        """Return why writes fail now; `None` if no reason is known."""
        ...

    async def write(self, scope: str, key: str, change: Change, written: Written) -> Outcome:
        """Replace a value by what `change` makes of it; what `change` raises is raised here and nothing happens."""
        ...
