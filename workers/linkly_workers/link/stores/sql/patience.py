"""How long, and how, clicks wait for links that somebody else has locked.

No statement waits for a lock: it would hold up what shares its transaction, and keep a connection from everybody. What
is locked is passed over and tried again, after a pause that grows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar
from weakref import WeakValueDictionary

import msgspec

from linkly.invocation import Invocation
from linkly_workers._scripts import Unavailable
from linkly_workers.link.outcome import Counted
from linkly_workers.link.stores.store import Click

T = TypeVar("T")

PATIENCE_S = 2.0
"""A click waits so long for a link that is locked."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.001, 0.05
"""Another engine has a link for as long as its transaction takes, about 2 ms; a person's may take minutes."""


class Waiting(msgspec.Struct, eq=False):
    """A click that waits for a transaction of several.

    Attributes:
        told: Gets what became of it; `None`: it has to be decided by itself.
        over: When it waits no longer for its link, by the loop's time; 0 before it was found locked.
    """

    click: Click
    now: str
    told: asyncio.Future[Counted | None]
    invocation: Invocation | None
    over: float = 0.0


class _Link(msgspec.Struct, eq=False):
    clicks: deque[Waiting]
    locked_since: float | None = None
    pause_s: float = 0.0
    try_at: float = 0.0


class Held:
    """Clicks of links that were found locked. Times are those of the loop."""

    def __init__(self) -> None:
        self._links: dict[str, _Link] = {}

    def __bool__(self) -> bool:
        return bool(self._links)

    @property
    def try_at(self) -> float:
        """Return when the first of them is to be tried again."""
        return min(link.try_at for link in self._links.values())

    def due(self, now: float, most: int) -> list[Waiting]:
        """Take clicks that are to be tried now: one of a link that is likely to be still locked, several of others."""
        due = sorted((link.try_at, code) for code, link in self._links.items() if link.try_at <= now)[:most]
        found = list[Waiting]()
        for _, code in due:
            link = self._links[code]
            for _ in range(most // len(due) if link.pause_s <= FIRST_PAUSE_S else 1):
                if not link.clicks:
                    break
                waiting = link.clicks.popleft()
                if not waiting.told.done():  # its caller has gone
                    found.append(waiting)
        return found

    def hold(self, code: str, clicks: list[Waiting], now: float) -> list[Waiting]:
        """Keep clicks of a link that is locked; return those that have waited for it long enough."""
        link = self._links.get(code)
        if link is None:
            link = self._links[code] = _Link(deque())
        else:
            link.pause_s = min(max(FIRST_PAUSE_S, 2 * link.pause_s), LONGEST_PAUSE_S)
        link.try_at = now + link.pause_s
        for waiting in reversed(clicks):
            waiting.over = waiting.over or now + PATIENCE_S
            link.clicks.appendleft(waiting)
        if link.locked_since is None:
            link.locked_since = now
        if now < link.locked_since + PATIENCE_S:
            return []  # who has waited behind others has not waited for a lock
        over = [waiting for waiting in link.clicks if waiting.over <= now]
        link.clicks = deque(waiting for waiting in link.clicks if waiting.over > now)
        return over

    def free(self, codes: Iterable[str]) -> None:
        """These links are not locked any more: what waits for them is due at once."""
        for code in codes:
            link = self._links.get(code)
            if link is not None:
                link.locked_since, link.pause_s, link.try_at = None, 0.0, 0.0

    def tidy(self) -> None:
        """Forget links for which nobody waits any more."""
        for code in [code for code, link in self._links.items() if not link.clicks]:
            del self._links[code]

    def all(self) -> list[Waiting]:
        """Take all clicks."""
        found = [waiting for link in self._links.values() for waiting in link.clicks]
        self._links.clear()
        return found


class _Turn:
    __slots__ = ("__weakref__", "lock", "seen_free")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.seen_free = 0.0


class Turns:
    """Lets one click of a link after another be counted by itself: two would find the link locked by each other."""

    def __init__(self) -> None:
        self._turns: WeakValueDictionary[str, _Turn] = WeakValueDictionary()

    async def decide(self, code: str, attempt: Callable[[], Awaitable[T | None]]) -> T:
        """Return what an attempt for a link finds; `None` from it: the link is locked.

        Raises:
            Unavailable: It stayed locked.
        """
        now = asyncio.get_running_loop().time
        came, pause_s = now(), FIRST_PAUSE_S
        turn = self._turns.get(code)
        if turn is None:
            turn = self._turns[code] = _Turn()
        async with turn.lock:
            while (found := await attempt()) is None:
                left_s = max(came, turn.seen_free) + PATIENCE_S - now()
                if left_s <= 0:
                    raise stayed_locked(code)
                await asyncio.sleep(min(pause_s, left_s))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            turn.seen_free = now()
        return found


def stayed_locked(code: str) -> Unavailable:
    """Return the error for a click whose link somebody else had locked for too long."""
    return Unavailable(
        f"somebody else has locked link `{code}` for {PATIENCE_S:g} s; the click is not counted, it may be tried again"
    )
