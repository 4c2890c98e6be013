"""The interface of a store of state; `memory`, `sqlite` and `database/` implement it.

Values are JSON text in `bytes` that nobody else refers to. A store in memory answers reads at once, on the loop's
thread (0.1 us; a thread hop costs 40-400 us); one in a database answers them later, so a read is an `Answer`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeAlias, TypeVar, cast

T = TypeVar("T")

Answer: TypeAlias = T | Awaitable[T]
"""What was asked for, or what has to be awaited to get it: see `answered`."""

Change: TypeAlias = Callable[[bytes | None], bytes | None]
"""Old value -> new value, `None` for absent. Pure: it may be called again."""

Written: TypeAlias = Callable[[bytes | None, bytes | None], None]
"""Told (old, new) once a write counts, in the order of the writes of a key."""

Outcome: TypeAlias = tuple[bytes | None, bytes | None]
"""The value before a write, and the value after it; `None` for absent."""

Place: TypeAlias = tuple[int, str, bytes]
"""A key's position in its scope, the key, and its value."""


async def answered(answer: Answer[T]) -> T:
    """Return what a store answers, now or later."""
    return await cast("Awaitable[T]", answer) if isinstance(answer, Awaitable) else answer


class Store(Protocol):
    """Values by (scope, key).

    * `write` is atomic, and its answer means that the write counts: on disk where there is one.
    * Writes of one key take effect one after another; those of one caller in the order in which he asked.
    * A read sees every answered write and no write that may still fail.
    * A key keeps its position in the scope until it is deleted; a new one comes last.
    * Every method raises `StoreError` if the store cannot do its work, `write` also `OutcomeUnknown` if it cannot know
      whether it has.
    """

    def identity(self) -> Answer[bytes]:
        """Return sixteen random bytes that stay the same for as long as the positions mean the same."""
        ...

    def get(self, scope: str, key: str) -> Answer[bytes | None]:
        """Return a value, `None` if absent."""
        ...

    def values(self, scope: str) -> Answer[list[bytes]]:
        """Return a scope's values in order of position."""
        ...

    def keys(self, scope: str) -> Answer[list[str]]:
        """Return a scope's keys in order of position."""
        ...

    def count(self, scope: str) -> Answer[int]:
        """Return how many keys a scope has."""
        ...

    def after(self, scope: str, position: int, limit: int, max_bytes: int) -> Answer[Iterable[Place]]:
        """Return the keys behind a position, in order, for somebody who takes `limit` of them or `max_bytes` of values.

        There is one more, by which he sees that there are more, unless there are none; there may be any number. Only
        what is taken costs time. Consume it before the next `await`.
        """
        ...

    def scopes(self) -> Answer[list[str]]:
        """Return the scopes that have keys, sorted."""
        ...

    def trouble(self) -> Answer[str | None]:
        """Return why writes fail now; `None` if no reason is known."""
        ...

    async def write(self, scope: str, key: str, change: Change, written: Written) -> Outcome:
        """Replace a value by what `change` makes of it; what `change` raises is raised here and nothing happens."""
        ...

    async def idle(self) -> None:
        """Wait until no write waits any more."""
        ...
