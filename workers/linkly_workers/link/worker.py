"""Short links: kept in a store, cached in state scope `links`, every click counted before its redirect.

The store (`stores/`) is the truth: a database by default. State is a cache in front of it (`cache.py`). The functions
are those of `links.py`, `clicks.py` and `importing.py`, of `http.py` and `redirect.py` for HTTP requests, and in this
file those about the store as a whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from ada_url import URL

from linkly import Function, Settings, TriggerDeclaration, Worker, function, trigger
from linkly.bus import Registration
from linkly.errors import ConfigError, FunctionNotFound, LinklyError
from linkly_workers._scripts import Unavailable
from linkly_workers.link.cache import LinkCache
from linkly_workers.link.clicks import Clicks, Count
from linkly_workers.link.codes import MAX_LENGTH, Spellings
from linkly_workers.link.http import LinkHttp
from linkly_workers.link.importing import Imports
from linkly_workers.link.links import Links
from linkly_workers.link.new_links import NewLinks
from linkly_workers.link.redirect import Redirect
from linkly_workers.link.shapes import Verification
from linkly_workers.link.stores.memory import MemoryStore
from linkly_workers.link.stores.sql.store import LINKS, SqlStore
from linkly_workers.link.stores.store import LinkStore
from linkly_workers.link.times import Now
from linkly_workers.link.urls import canonical_host

log = logging.getLogger("linkly.link")

OPEN_AGAIN_S = 1.0
"""How often a store is tried that could not be opened because its database is away."""


class LinkSettings(Settings):
    """Settings of the link shortener.

    Attributes:
        store: Where links and clicks are kept: in a database of the `database` worker, or in memory only.
        db: Which database.
        count: When a redirect's click is counted: before the redirect is answered; at the same time; or later, by a
            job that is on disk before the redirect is answered. Of a link with `max_clicks` always before.
        queue: Which queue of the `queue` worker has those jobs.
        events: Publish `link.created` and `link.updated` on durable topics, in the commit of the link itself; the
            queue worker keeps its jobs in the same database then.
        code_length: Characters of a generated code; it grows by itself when short codes run out.
        base_url: Where this shortener is reached, for QR codes; a link that leads there is refused.
        own_hosts: Further host names of this shortener; a link that leads there is refused.
        allow_private_targets: Allow links into this machine and its networks.
        case_sensitive: `Ab` and `ab` are two codes. If not, codes are kept in lower case and found in any.
        forward_query: A redirect hands the query of its request on, behind the one that the target has.
    """

    store: Literal["database", "memory"] = "database"
    db: str = "primary"
    count: Count = "before_redirect"
    queue: str = "default"
    events: Literal["none", "durable"] = "none"
    code_length: Annotated[int, msgspec.Meta(ge=1, le=MAX_LENGTH)] = 6
    base_url: str | None = None
    own_hosts: list[str] = []
    allow_private_targets: bool = False
    case_sensitive: bool = True
    forward_query: bool = False


class LinkWorker(Worker):
    """Creates, resolves and counts short links."""

    name = "link"
    settings_type: ClassVar[type[Settings]] = LinkSettings
    settings: LinkSettings
    _following: Registration | None = None
    _opening: asyncio.Task[None] | None = None

    def __init__(self, settings: LinkSettings | None = None) -> None:
        super().__init__(settings)
        if self.settings.events == "durable" and self.settings.store == "memory":
            raise ConfigError("events: `durable` goes with `store: database`; a link in memory has no commit to share")
        base_url = self.settings.base_url
        self._own_hosts = {_own_host(entry) for entry in self.settings.own_hosts}
        self._reached: dict[str, Any] = {}
        if base_url is not None:
            self._own_hosts.add(_base_host(base_url))
            self._reached["origin"] = URL(base_url).origin
        self._reached["hosts"] = sorted(self._own_hosts)
        self._links, self._clicks, self._imports = Links(), Clicks(), Imports()
        self._http = LinkHttp(base_url)
        self._redirect = Redirect(count=self.settings.count, forward_query=self.settings.forward_query)

    def composed_of(self) -> tuple[object, ...]:
        """Return what serves links, clicks and HTTP requests."""
        return self._links, self._clicks, self._imports, self._redirect, self._http

    def triggers_of(self, function: Function) -> Sequence[TriggerDeclaration]:
        """Tell the gateway by which names the world reaches this shortener."""
        return [
            msgspec.structs.replace(declared, config={**declared.config, **self._reached})
            for declared in function.triggers
        ]

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Choose the store; at the end wait until the changes that have begun are complete."""
        settings, now = self.settings, Now(self.bus.clock)
        self._store: LinkStore = (
            MemoryStore()
            if settings.store == "memory"
            else SqlStore(self.bus.trigger, settings.db, publishes=settings.events == "durable")
        )
        self._cache = LinkCache(self.bus)
        self._spellings = Spellings(self._store.codes_with_capitals, case_sensitive=settings.case_sensitive)
        new_links = NewLinks(
            self._store,
            self._spellings.of,
            now,
            code_length=settings.code_length,
            own_hosts=self._own_hosts,
            allow_private=settings.allow_private_targets,
        )
        self._links.open(self.bus.clock, self._store, self._cache, new_links, self._spellings, now)
        self._clicks.open(self.bus, self._store, self._spellings.of, now, settings.queue)
        self._imports.open(self._store, new_links, now, self.bus.open_reader)
        self._http.open(self._links)
        self._redirect.open(self._links, self._clicks, now)
        try:
            yield
        finally:
            if self._following is not None:
                self._following.unregister()
            if self._opening is not None:
                self._opening.cancel()
                await asyncio.wait([self._opening])
            await self._cache.close()
            await self._store.close()

    async def ready(self) -> None:
        """Make the tables or migrate those of an older version, and bind `link::rows_changed` to changes of others.

        A database that is away does not keep the engine from starting: the links follow when it is there.

        Raises:
            ConfigError: The database or the queue that the settings name is not configured.
        """
        if self.settings.count == "queued" or self.settings.events == "durable":
            await self._check_queue()
        await self._open_store_or_wait()
        if self.settings.store != "memory":
            config = {"db": self.settings.db, "table": "links", "except_origin": LINKS.worker}
            self._following = self.bus.register_trigger("link::rows_changed", trigger("database::row-changed", config))

    async def _check_queue(self) -> None:
        settings = self.settings
        try:
            configured: dict[str, Any] = await self.bus.trigger("queue::configured", {})
        except FunctionNotFound as error:
            raise ConfigError(
                "link: `count: queued` and `events: durable` need the worker `queue`, which is not there; add it to "
                "config.yaml, or set `count: before_redirect` and `events: none` in the config of link"
            ) from error
        if settings.count == "queued" and settings.queue not in configured["queues"]:
            raise ConfigError(
                f"link: there is no queue `{settings.queue}`; configured: {', '.join(configured['queues'])}. Add it to "
                "`queue_configs` of the worker `queue`, or name another one by `queue` in the config of link"
            )
        if settings.events == "durable" and settings.db != configured["db"]:
            raise ConfigError(
                f"link: `events: durable` publishes in the commit of a link, and the links are in database "
                f"`{settings.db}`, the jobs of queue in `{configured['db']}`; set the same `db` for both, or "
                "`events: none`"
            )

    async def others_changed(self, names: frozenset[str]) -> None:
        """Open the store again: the database may be another one now, with other links."""
        if "state" in names or ("database" in names and self.settings.store != "memory"):
            await self._open_store_or_wait()

    async def _open_store_or_wait(self) -> None:
        try:
            await self._open_store()
        except Unavailable as error:
            log.warning("the links cannot be opened yet, they are waited for: %s", error)
            if self._opening is None:
                self._opening = asyncio.get_running_loop().create_task(self._open_store_later(), name="opening links")
        finally:
            self._redirect.store_was_tried()

    async def _open_store_later(self) -> None:
        while True:
            await self.bus.clock.sleep(OPEN_AGAIN_S)
            try:
                await self._open_store()
            except Unavailable:
                continue
            except LinklyError:
                log.exception("the links cannot be opened")
                continue
            self._opening = None
            return

    async def _open_store(self) -> None:
        await self._store.open()
        await self._spellings.learn()
        secret = await self._store.secret()
        self._redirect.hash_visitors_with(secret)
        # The secret is made once for each store, so a digest of it names the store.
        store_id = hashlib.blake2b(secret, digest_size=8, key=b"store").hexdigest()
        await self._cache.belong_to(store_id, is_shared=self._store.is_shared)

    async def _follow(self) -> None:
        await self._cache.follow()
        await self._spellings.learn()

    @function("link::verify")
    async def verify(self) -> Verification:
        """Prove that every counter equals its rows."""
        return await self._store.verify()

    @function("link::refresh")
    async def refresh(self) -> dict[str, bool]:
        """Forget what is cached, so that look-ups see what another program has changed in the database."""
        await self._follow()
        return {"refreshed": True}

    @function("link::rows_changed", metadata={"internal": True})
    async def rows_changed(self) -> None:
        """Follow what others have changed in the links over `database::*`."""
        await self._follow()


def _own_host(entry: str) -> str:
    host = canonical_host(entry)
    if host is None:
        raise ConfigError(f"own_hosts: `{entry}` is no host; write a name or an address, as s.example")
    return host


def _base_host(base_url: str) -> str:
    try:
        host = canonical_host(URL(base_url).host) if base_url.lower().startswith(("http://", "https://")) else None
    except ValueError:
        host = None
    if host is None:
        raise ConfigError(f"base_url: `{base_url}` is no address such as https://s.example")
    return host
