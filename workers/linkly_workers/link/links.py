"""What the link shortener does with links: its functions, and what `http.py` and `redirect.py` ask for."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta

import msgspec

from linkly import function
from linkly.clock import Clock
from linkly.errors import InvalidArguments, NotFound
from linkly.timestamps import time_text
from linkly_workers.link.cache import LinkCache
from linkly_workers.link.codes import Spellings
from linkly_workers.link.new_links import NewLinks
from linkly_workers.link.outcome import is_expired, why_not
from linkly_workers.link.shapes import (
    Code,
    Create,
    Days,
    Deleted,
    Link,
    LinkDetails,
    LinkPage,
    ListRequest,
    Resolved,
    Stats,
    Update,
)
from linkly_workers.link.stores.store import Changes, Idempotency, LinkStore, NewLink, Position
from linkly_workers.link.times import Now, check_future, given_time

KEY_LIFE = timedelta(days=1)


class Links:
    """The part of the link worker that makes, finds, changes and deletes links."""

    _clock: Clock
    _store: LinkStore
    _cache: LinkCache
    _new_links: NewLinks
    _spellings: Spellings
    _now: Now

    def open(
        self, clock: Clock, store: LinkStore, cache: LinkCache, new_links: NewLinks, spellings: Spellings, now: Now
    ) -> None:
        """Serve the links of a store from now on."""
        self._clock, self._store, self._cache = clock, store, cache
        self._new_links, self._spellings, self._now = new_links, spellings, now

    @function("link::create")
    async def create(self, request: Create) -> Link:
        """Make a short link; answered when it is on disk.

        Raises:
            InvalidUrl: The address cannot be a link's target.
            InvalidCode: The chosen code cannot be used.
            CodeTaken: The chosen code leads somewhere already.
            InvalidArguments: `expires_at` is over.
            KeyReused: The idempotency key came with another request before.
        """
        return await self.make(request, None)

    async def make(self, request: Create, own_host: str | None) -> Link:
        """Make a link as `create`; none leads to `own_host`, where the shortener was reached (`canonical_host`)."""
        link = self._new_links.asked(request, own_host)
        idempotency = self._idempotency(request, link)
        if idempotency is not None and is_expired(link.expires_at, link.created_at):
            # A client that asks again, because an answer got lost, may do so after the link's time.
            known = await self._store.made_with(idempotency)
            if known is not None:
                return Link(known.code, known.url, known.expires_at, known.max_clicks)
        check_future(link.expires_at, link.created_at)
        made = await self._new_links.keep(link, idempotency)
        await self._cache.fill(made.code, lambda: self._store.find(made.code))
        return Link(made.code, made.url, made.expires_at, made.max_clicks)

    @function("link::resolve")
    async def resolve(self, code: Code) -> Resolved:
        """Say where a code leads, null if nowhere: unknown, expired, or no clicks left.

        Args:
            code: The short code.
        """
        code = self._spellings.of(code)
        cached = await self._cache.get(code)
        if cached is not None:
            over = cached.expires_at is not None and is_expired(cached.expires_at, self._now())  # most never end
            return Resolved(None if over else cached.url)
        link = await self._cache.fill(code, lambda: self._store.find(code))
        if link is None or why_not(link, self._now()) is not None:
            return Resolved(None)
        return Resolved(link.url, link.max_clicks)

    async def find(self, code: str) -> LinkDetails:
        """Return a link, from the store.

        Raises:
            NotFound: There is no such link.
        """
        link = await self._store.find(self._spellings.of(code))
        if link is None:
            raise _not_found(code)
        return link

    @function("link::update")
    async def update(self, request: Update) -> Link:
        """Change where a link leads, or its limits; the next look-up sees it.

        Raises:
            InvalidUrl: The address cannot be a link's target.
            InvalidArguments: `expires_at` is over.
            NotFound: There is no such link.
        """
        return await self.change(request, None)

    async def change(self, request: Update, own_host: str | None) -> Link:
        """Change a link as `update`; it does not lead to `own_host` afterwards."""
        code = self._spellings.of(request.code)
        url = request.url if request.url is msgspec.UNSET else self._new_links.check_url(request.url, own_host)
        expires_at = (
            given_time(request.expires_at, "expires_at")
            if isinstance(request.expires_at, datetime)
            else request.expires_at
        )
        changes = Changes(url=url, expires_at=expires_at, max_clicks=request.max_clicks)
        if isinstance(expires_at, str):
            check_future(expires_at, self._now())
        link = await self._cache.change(code, lambda: self._store.update(code, changes))
        if link is None:
            raise _not_found(request.code)
        return Link(link.code, link.url, link.expires_at, link.max_clicks)

    @function("link::delete")
    async def delete(self, code: Code) -> Deleted:
        """Forget a link and its clicks.

        Args:
            code: The short code.
        """
        code = self._spellings.of(code)
        return Deleted(await self._cache.change(code, lambda: self._store.delete(code)))

    @function("link::list")
    async def list(self, request: ListRequest) -> LinkPage:
        """List links, newest first, a page at a time.

        Raises:
            InvalidArguments: The cursor is none that an earlier page gave.
        """
        after = None if request.cursor is None else _position_of(request.cursor)
        links = await self._store.listing(after, request.limit + 1)
        part = links[: request.limit]
        return LinkPage(part, _cursor_behind(part[-1]) if len(links) > len(part) else None)

    @function("link::stats")
    async def stats(self, code: Code, days: Days = 30) -> Stats:
        """Say how a link was used. Bots are counted apart.

        Args:
            code: The short code.
            days: How many days, today included, are listed one by one.

        Raises:
            NotFound: There is no such link.
        """
        since = datetime.fromtimestamp(self._clock.time(), UTC) - timedelta(days=days - 1)
        found = await self._store.stats(self._spellings.of(code), since.date().isoformat())
        if found is None:
            raise _not_found(code)
        return found

    def _idempotency(self, request: Create, link: NewLink) -> Idempotency | None:
        if request.idempotency_key is None:
            return None
        # One instant has many spellings; all of them ask for the same.
        expires_at = None if request.expires_at is None else request.expires_at.astimezone(UTC)
        asked = msgspec.json.encode([request.url, link.code or None, expires_at, request.max_clicks])
        before = time_text(self._clock.time() - KEY_LIFE.total_seconds())
        return Idempotency(request.idempotency_key, hashlib.sha256(asked).hexdigest(), before)


def _not_found(code: str) -> NotFound:
    return NotFound(f"there is no link `{code}`", details={"code": code})


def _cursor_behind(link: LinkDetails) -> str:
    """Return the cursor of the part that begins behind a link."""
    position = msgspec.json.encode([link.created_at, link.code])
    return base64.urlsafe_b64encode(position).decode().rstrip("=")


def _position_of(cursor: str) -> Position:
    """Return the position behind which a part begins.

    Raises:
        InvalidArguments: `_cursor_behind` did not make it.
    """
    try:
        data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(data, type=tuple[str, str])
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidArguments(f"cursor {cursor[:64]!r} is none of ours; use next_cursor of the page before") from error
