"""Lines in which callers wait side by side: one of each caller in turn, each caller's own in order.

A single line makes everybody wait behind whoever asks most. Callers are told apart by where their calls entered
(`linkly.context.current_origin`). It knows no clock and no database.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from linkly.context import current_origin
from linkly.errors import Overloaded

T = TypeVar("T")

LINE_LIMIT = 100_000
"""Items that may wait, shared out evenly among the callers that wait."""

CALLER_LIMIT = 20_000
"""Items of one caller that may wait, also when nobody else does."""

SHARED_FROM = 1_000
"""While no more wait in all, nobody's share is worked out."""


class _Own(Generic[T]):
    """What one caller waits for."""

    __slots__ = ("caller", "items")

    def __init__(self, caller: Hashable) -> None:
        self.caller = caller
        self.items: deque[T] = deque()


class FairLine(Generic[T]):
    """Items of several callers, served round robin.

    Attributes:
        size: How many wait.
        rotation: Who waits, in the order in which it is their turn. Only to be read: whether it is empty costs no call.
    """

    __slots__ = ("_by_caller", "rotation", "size")

    def __init__(self) -> None:
        self._by_caller: dict[Hashable, _Own[T]] = {}
        self.rotation: deque[_Own[T]] = deque()
        self.size = 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[T]:
        """Give every item, caller by caller."""
        return iter([item for own in self.rotation for item in own.items])

    @property
    def head(self) -> T:
        """Whose turn it is; `IndexError` if nobody waits."""
        return self.rotation[0].items[0]

    def waiting(self, caller: Hashable) -> int:
        """Count what one caller waits for."""
        own = self._by_caller.get(caller)
        return 0 if own is None else len(own.items)

    @property
    def share(self) -> int:
        """Count what each caller may wait for now."""
        return max(1, min(CALLER_LIMIT, LINE_LIMIT // max(1, len(self.rotation))))

    def is_full_for(self, caller: Hashable) -> bool:
        """Return whether a caller waits for his share already; the others are not concerned."""
        return self.size >= SHARED_FROM and self.waiting(caller) >= self.share

    def check(self, caller: Hashable, whom: str) -> None:
        """Refuse one item more of a caller who waits for his share already.

        Raises:
            Overloaded: `whom` is what he waits for.
        """
        if self.is_full_for(caller):
            raise Overloaded(
                f"{self.waiting(caller)} writes of this caller wait for {whom}, and {self.share} may; nothing was "
                "written, wait for some of them before you write more"
            )

    def append(self, caller: Hashable, item: T) -> None:
        """Stand behind the caller's others."""
        own = self._by_caller.get(caller)
        if own is None:
            own = self._by_caller[caller] = _Own(caller)
            self.rotation.append(own)
        own.items.append(item)
        self.size += 1

    def appendleft(self, caller: Hashable, item: T) -> None:
        """Stand in front of the caller's others again; a caller who no longer waited comes next."""
        own = self._by_caller.get(caller)
        if own is None:
            own = self._by_caller[caller] = _Own(caller)
            self.rotation.appendleft(own)
        own.items.appendleft(item)
        self.size += 1

    def popleft(self) -> T:
        """Take the head; it is the next caller's turn. `IndexError` if nobody waits."""
        own = self.rotation[0]
        item = own.items.popleft()
        self.size -= 1
        if own.items:
            self.rotation.rotate(-1)
        else:
            self.rotation.popleft()
            del self._by_caller[own.caller]
        return item

    def undo(self, caller: Hashable, item: T) -> None:
        """Make what was taken last the head again."""
        own = self._by_caller.get(caller)
        if own is None:
            self.appendleft(caller, item)
        else:
            own.items.appendleft(item)
            self.size += 1
            self.rotation.rotate(1)

    def pass_over(self) -> None:
        """Let the next caller come first."""
        self.rotation.rotate(-1)

    def remove(self, caller: Hashable, item: T) -> None:
        """Take an item out of the line, wherever it stands; harmless if it does not."""
        own = self._by_caller.get(caller)
        if own is None:
            return
        try:
            own.items.remove(item)
        except ValueError:
            return
        self.size -= 1
        if not own.items:
            self.rotation.remove(own)
            del self._by_caller[caller]

    def clear(self) -> None:
        """Forget everybody."""
        self._by_caller.clear()
        self.rotation.clear()
        self.size = 0


class Places:
    """A number of places that are given away in fair order: a semaphore of which nobody may hold all.

    The last one of several is never for a caller who has all the others: ten statements without an end must not keep
    everybody else from reading.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._most = max(1, count - 1)
        self._held: dict[Hashable, int] = {}
        self._line: FairLine[asyncio.Future[None]] = FairLine()

    async def acquire(self) -> Hashable:
        """Take a place; waits until it is this caller's turn. Returns who has it, for `release`."""
        caller = current_origin()
        if self._free and self._may_have(caller):
            self._take(caller)
            return caller
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(caller, given)
        try:
            await given
        except asyncio.CancelledError:
            if not given.cancelled():
                self.release(caller)  # given in the very moment in which its caller was cancelled
            else:
                self._line.remove(caller, given)
            raise
        return caller

    def release(self, caller: Hashable) -> None:
        """Give a caller's place back, to whoever comes next."""
        self._free += 1
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]
        passed_over = 0
        while self._free and passed_over < len(self._line.rotation):
            caller = self._line.rotation[0].caller
            if not self._may_have(caller):
                self._line.pass_over()
                passed_over += 1
                continue
            given = self._line.popleft()
            if not given.done():
                self._take(caller)
                given.set_result(None)

    def _may_have(self, caller: Hashable) -> bool:
        return self._held.get(caller, 0) < self._most

    def _take(self, caller: Hashable) -> None:
        self._free -= 1
        self._held[caller] = self._held.get(caller, 0) + 1
