"""State in front of the store: where a code leads, in scope `links`.

A change is never served stale, also when changes and look-ups of one code run at once and when the process dies
between two steps. For that, everything that writes a code's entry takes its turn: a change takes the entry away, then
writes the store, then puts the new entry in; a look-up that missed reads the store and fills the entry under the same
lock. Hits take no lock. A change is not interrupted half-way by its caller's time-out: it goes on to its end.

SQL of others may change the store directly. The worker is told of it and calls `follow`, which deletes all entries,
because the event does not say which links changed. Of what other engines do to a store that they share nobody tells:
there an entry says until when it may be read, `SHARED_FOR_S` after the store was.

State may outlive the store, or the store may outlive state: a memory store is empty after a restart, `database.url` may
name another file. So state also names the store whose entries it holds, under key `store` of scope `link`. No entry is
read before that name is the store's; if it names another store, all entries are deleted first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec

from linkly import Bus, Json
from linkly.context import current_invocation
from linkly.errors import LinklyError
from linkly.state import Address
from linkly_workers.link.shapes import LinkDetails

log = logging.getLogger("linkly.link")

SCOPE = "links"
OWNER = {"scope": "link", "key": "store"}
SHARED_FOR_S = 5.0
"""How long a link is read from the cache where other engines may change it."""

CLEAR_AT_ONCE = 500
"""Entries that are taken away at the same time: enough to share a commit, few enough to let others in between."""

T = TypeVar("T")


class Cached(msgspec.Struct, omit_defaults=True):
    """An entry; the tutorial's workers write `{"url": ...}` alone.

    Attributes:
        url: Where the code leads.
        expires_at: When that ends.
        until: When the entry ends, in seconds since the epoch; it has to be there where the store is shared.
    """

    url: str
    expires_at: str | None = None
    until: float | None = None


_entry_decoder: msgspec.json.Decoder[Cached | None] = msgspec.json.Decoder(Cached | None)


class LinkCache:
    """The entries of scope `links`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self._changing: set[asyncio.Task[Any]] = set()
        self._uncertain: set[str] = set()
        self._store_id: str | None = None
        self._is_shared = False
        self._is_ours = False
        self._outdated = False
        self._claiming = asyncio.Lock()
        self._owners = 0  # counts `belong_to` and `follow`: what was read before the last of them is not cached

    async def belong_to(self, store_id: str, *, is_shared: bool = False) -> None:
        """Name the store whose links are cached from now on; entries of another one are taken away.

        If the state worker cannot do that yet, nothing is cached until it can.
        """
        self._store_id, self._is_shared, self._is_ours = store_id, is_shared, False
        self._owners += 1
        async with self._claiming:  # a claim for the store before would go on under the new name
            pass
        try:
            await self._claim()
        except LinklyError as error:
            log.warning("links cannot be cached yet, look-ups ask the store: %s", error)

    async def follow(self) -> None:
        """Delete all entries after others have changed the store; none is read before that is done."""
        self._owners += 1
        self._is_ours, self._outdated = False, True
        for code in list(self._locks):  # whoever has read the store before may still be putting that in
            async with self._turn(code):
                pass
        try:
            await self._claim()
        except LinklyError as error:
            log.warning("what is cached may be outdated, look-ups ask the store: %s", error)

    async def close(self) -> None:
        """Wait until the changes that have begun are complete."""
        if self._changing:
            await asyncio.wait(self._changing)

    async def get(self, code: str) -> Cached | None:
        """Return an entry; `None` if there is none, or if the state worker cannot be asked."""
        try:
            if not self._is_ours and not await self._claim():
                return None
            found = await self._bus.trigger("state::get", Address(SCOPE, code), result_type=Json)
            entry = _entry_decoder.decode(found)
            return None if entry is None or (self._is_shared and not self._lasts(entry)) else entry
        except (LinklyError, msgspec.ValidationError) as error:
            log.warning("the cached entry of `%s` cannot be read, the store is asked: %s", code, error)
            return None

    async def fill(self, code: str, load: Callable[[], Awaitable[LinkDetails | None]]) -> LinkDetails | None:
        """Read the store after a miss and keep what it says."""
        async with self._turn(code):
            owners, began = self._owners, self._bus.clock.time()
            link = await load()
            if link is not None and code not in self._uncertain and owners == self._owners:
                await self._put(link, began)
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
            owners, began = self._owners, self._bus.clock.time()
            try:
                result = await write()
            except BaseException:
                # The write may still happen, so nothing is cached for this code before its next change.
                self._uncertain.add(code)
                raise
            self._uncertain.discard(code)
            if isinstance(result, LinkDetails) and owners == self._owners:
                await self._put(result, began)
            return result

    def _lasts(self, entry: Cached) -> bool:
        # A clock that was set back does not make it last longer.
        return entry.until is not None and 0 < entry.until - self._bus.clock.time() <= SHARED_FOR_S

    async def _put(self, link: LinkDetails, began: float) -> None:
        if link.max_clicks is not None:
            return  # only its counter says whether a click is left
        try:
            if not self._is_ours and not await self._claim():
                return
            entry = Cached(link.url, link.expires_at, began + SHARED_FOR_S if self._is_shared else None)
            await self._bus.trigger("state::set", {"scope": SCOPE, "key": link.code, "value": entry})
        except LinklyError as error:
            log.warning("`%s` cannot be cached, look-ups ask the store: %s", link.code, error)

    async def _claim(self) -> bool:
        """Make the entries those of this store; return whether they are, `False` while another task does it."""
        if self._claiming.locked():
            return False
        async with self._claiming:
            store_id, owners = self._store_id, self._owners
            if store_id is None:
                return False
            owner = await self._bus.trigger("state::get", OWNER)
            # Entries without an owner are of the tutorial's workers, or of an older version: of this store.
            if self._outdated or owner not in (None, store_id):
                await self._clear()
            if owner != store_id:
                await self._bus.trigger("state::set", {**OWNER, "value": store_id})
            if owners == self._owners:
                self._is_ours, self._outdated = True, False
            return self._is_ours

    async def _clear(self) -> None:
        keys = (await self._bus.trigger("state::list_keys", {"scope": SCOPE}))["keys"]
        for start in range(0, len(keys), CLEAR_AT_ONCE):
            part = keys[start : start + CLEAR_AT_ONCE]
            await asyncio.gather(*(self._bus.trigger("state::delete", {"scope": SCOPE, "key": key}) for key in part))

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
