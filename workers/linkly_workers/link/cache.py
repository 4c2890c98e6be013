"""State in front of the store: where a code leads, in scope `links`.

A change is never served stale, also when changes and look-ups of one code run at once and when the process dies
between two steps. For that, everything that writes a code's entry takes its turn: a change takes the entry away, then
writes the store, then puts the new entry in; a look-up that missed reads the store and fills the entry under the same
lock. Hits take no lock. A change is not interrupted half-way by its caller's time-out: it goes on to its end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec

from linkly import Bus
from linkly.context import current_invocation
from linkly.errors import LinklyError
from linkly_workers.link.shapes import LinkDetails

log = logging.getLogger("linkly.link")

SCOPE = "links"

T = TypeVar("T")


class Cached(msgspec.Struct, omit_defaults=True):
    """An entry. What other workers put there (`{"url": ...}`, as in the tutorial) is understood."""

    url: str
    expires_at: str | None = None


class LinkCache:
    """The entries of scope `links`.

    Args:
        bus: Where the `state` worker is.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self._changing: set[asyncio.Task[Any]] = set()
        self._uncertain: set[str] = set()

    async def close(self) -> None:
        """Let changes that are on their way come to their end."""
        if self._changing:
            await asyncio.wait(self._changing)

    async def get(self, code: str) -> Cached | None:
        """Return an entry; `None` if there is none, or if the state worker cannot be asked."""
        try:
            found = await self._bus.trigger("state::get", {"scope": SCOPE, "key": code})
            return None if found is None else msgspec.convert(found, Cached)
        except (LinklyError, msgspec.ValidationError) as error:
            log.warning("the cached entry of `%s` cannot be read, the store is asked: %s", code, error)
            return None

    async def fill(self, code: str, load: Callable[[], Awaitable[LinkDetails | None]]) -> LinkDetails | None:
        """Read the store after a miss and keep what it says."""
        async with self._turn(code):
            link = await load()
            if link is not None and code not in self._uncertain:
                await self._put(link)
            return link

    async def change(self, code: str, write: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Change a code in the store: `write` answers the link to cache from now on, or anything else for none.

        Raises:
            LinklyError: The entry could not be taken away, and nothing was written; or what `write` raised.
        """
        task = asyncio.get_running_loop().create_task(self._change(code, write))
        self._changing.add(task)
        task.add_done_callback(self._changing.discard)
        return await asyncio.shield(task)

    async def _change(self, code: str, write: Callable[[], Coroutine[Any, Any, T]]) -> T:
        invocation = current_invocation.get()
        if invocation is not None:  # the caller's deadline ends its wait, not the change
            current_invocation.set(msgspec.structs.replace(invocation, deadline=None))
        async with self._turn(code):
            await self._bus.trigger("state::delete", {"scope": SCOPE, "key": code})
            try:
                result = await write()
            except BaseException:
                # Perhaps it is written all the same, later: until the next change nobody knows.
                self._uncertain.add(code)
                raise
            self._uncertain.discard(code)
            if isinstance(result, LinkDetails):
                await self._put(result)
            return result

    async def _put(self, link: LinkDetails) -> None:
        if link.max_clicks is not None:
            return  # whether it leads anywhere is known to its counter only
        try:
            entry = Cached(link.url, link.expires_at)
            await self._bus.trigger("state::set", {"scope": SCOPE, "key": link.code, "value": entry})
        except LinklyError as error:
            log.warning("`%s` cannot be cached, look-ups ask the store: %s", link.code, error)

    @asynccontextmanager
    async def _turn(self, code: str) -> AsyncIterator[None]:
        lock, users = self._locks.get(code, (None, 0))
        lock = lock or asyncio.Lock()
        self._locks[code] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[code]
            if users == 1:
                del self._locks[code]
            else:
                self._locks[code] = (lock, users - 1)
