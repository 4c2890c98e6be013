"""The store in memory: it ends with the process.

A scope is a dict, and two flat arrays with the order of its keys: 16 bytes a key. So `state::list_entries` finds the
start of its answer by bisection and does not walk the dict.
"""

from __future__ import annotations

import secrets
from array import array
from bisect import bisect_right
from collections.abc import Iterator

from linkly_workers.state.stores.store import Change, Outcome, Place, Written


class Scope:
    """The values of one scope, and their order.

    A deleted key leaves its row in `positions` and `keys`; when a fifth of the rows are left over, they are removed.
    `again` has the row that counts for a key that was deleted and set again before that.
    """

    __slots__ = ("again", "gone", "keys", "positions", "values")

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.positions = array("q")
        self.keys: list[str] = []
        self.gone: set[str] = set()
        self.again: dict[str, int] = {}

    def put(self, key: str, value: bytes, position: int) -> None:
        """Keep a value; a new key stands at `position`, one that is kept already at its own."""
        if key not in self.values:
            self.positions.append(position)
            self.keys.append(key)
            if key in self.gone:
                self.again[key] = position
        self.values[key] = value

    def remove(self, key: str) -> None:
        """Forget a key, if it is kept."""
        if self.values.pop(key, None) is None:
            return
        self.gone.add(key)
        self.again.pop(key, None)
        if (len(self.keys) - len(self.values)) * 5 > len(self.keys):
            self._sweep()

    def after(self, position: int) -> Iterator[Place]:
        """Yield (position, key, value) of the keys behind a position, in order."""
        for index in range(bisect_right(self.positions, position), len(self.keys)):
            found, key = self.positions[index], self.keys[index]
            value = self.values.get(key)
            if value is not None and (key not in self.gone or self.again[key] == found):
                yield found, key, value

    def _sweep(self) -> None:
        rows = [(position, key) for position, key, _ in self.after(-1)]
        self.positions = array("q", [position for position, _ in rows])
        self.keys = [key for _, key in rows]
        self.gone.clear()
        self.again.clear()


class MemoryStore:
    """Keeps everything in memory."""

    def __init__(self) -> None:
        self._scopes: dict[str, Scope] = {}
        self._identity = secrets.token_bytes(16)
        self.last_position = 0

    def identity(self) -> bytes:  # noqa: D102
        return self._identity

    def get(self, scope: str, key: str) -> bytes | None:  # noqa: D102
        found = self._scopes.get(scope)
        return None if found is None else found.values.get(key)

    def values(self, scope: str) -> list[bytes]:  # noqa: D102
        found = self._scopes.get(scope)
        return [] if found is None else list(found.values.values())

    def keys(self, scope: str) -> list[str]:  # noqa: D102
        found = self._scopes.get(scope)
        return [] if found is None else list(found.values)

    def count(self, scope: str) -> int:  # noqa: D102
        found = self._scopes.get(scope)
        return 0 if found is None else len(found.values)

    def after(self, scope: str, position: int, limit: int, max_bytes: int) -> Iterator[Place]:  # noqa: D102
        found = self._scopes.get(scope)
        return iter(()) if found is None else found.after(position)

    def trouble(self) -> str | None:  # noqa: D102
        return None

    def scopes(self) -> list[str]:  # noqa: D102
        return sorted(self._scopes)

    async def write(self, scope: str, key: str, change: Change, written: Written) -> Outcome:  # noqa: D102
        old = self.get(scope, key)
        new = change(old)
        self.put(scope, key, new, self.last_position + 1)
        written(old, new)
        return old, new

    async def idle(self) -> None:  # noqa: D102
        pass

    def put(self, scope: str, key: str, value: bytes | None, position: int) -> None:
        """Keep a value, `None` to forget it; a new key stands at `position`, one that is there keeps its own."""
        found = self._scopes.get(scope)
        if value is None:
            if found is not None:
                found.remove(key)
                if not found.values:
                    del self._scopes[scope]
            return
        if found is None:
            found = self._scopes[scope] = Scope()
        found.put(key, value, position)
        self.last_position = max(self.last_position, position)
