"""What the link shortener does, whoever asks: functions (`worker.py`) and HTTP (`pages.py`) both end here."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import secrets
from collections.abc import AsyncIterator, Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from linkly import Bus
from linkly.errors import ConfigError, HandlerFailed, InvalidArguments, LinklyError, NotFound
from linkly.timestamps import time_text
from linkly_workers.link.cache import LinkCache
from linkly_workers.link.codes import CodeMaker, check_code
from linkly_workers.link.importing import BATCH, csv_rows
from linkly_workers.link.outcome import Counted, is_expired, why_not
from linkly_workers.link.shapes import (
    Create,
    Import,
    Imported,
    ImportLink,
    ImportProblem,
    Link,
    LinkDetails,
    LinkPage,
    ListRequest,
    RecordClick,
    Resolved,
    Stats,
    Update,
)
from linkly_workers.link.stores.store import Changes, Click, CodeTaken, Idempotency, LinkStore, NewLink, Position
from linkly_workers.link.urls import check_url

ATTEMPTS = 40
KEY_LIFE = timedelta(days=1)
PROBLEM_LIMIT = 100


class Links:
    """Links and their clicks.

    Args:
        bus: Where state and database are.
        store: The truth.
        code_length: Characters of a generated code, to start with.
        own_hosts: Hosts of this shortener, as `canonical_host` writes them, where no link may lead.
        allow_private: Allow links into this machine and its networks.
        case_sensitive: `Ab` and `ab` are two codes.
    """

    def __init__(
        self,
        bus: Bus,
        store: LinkStore,
        *,
        code_length: int,
        own_hosts: Collection[str],
        allow_private: bool,
        case_sensitive: bool,
    ) -> None:
        self._bus = bus
        self._store = store
        self._cache = LinkCache(bus)
        self._codes = CodeMaker(code_length)
        self._own_hosts = frozenset(own_hosts)
        self._allow_private = allow_private
        self._spellings: Spellings | None = None if case_sensitive else Spellings()
        self._learning = asyncio.Lock()  # the last to read the store is the last to say how its codes are written
        self._run = secrets.token_hex(8)  # of this process: it tells its clicks from those of every other one
        self._clicks = itertools.count()
        self._noted = (-1, "")
        self.visitor_secret = b""

    async def open(self) -> None:
        """Make what is needed, or give what an older version made what it lacks."""
        await self._store.open()
        await self._learn()
        self.visitor_secret = await self._store.secret()
        # The secret is made once for each store, so a digest of it names the store.
        await self._cache.belong_to(hashlib.blake2b(self.visitor_secret, digest_size=8, key=b"store").hexdigest())

    async def close(self) -> None:
        """Let changes that are on their way come to their end."""
        await self._cache.close()

    async def follow(self) -> None:
        """Forget what is cached, and learn how codes are written: somebody else has changed the store.

        Raises:
            ConfigError: Two codes differ in nothing but their case, which does not count.
        """
        await self._cache.follow()
        await self._learn()

    async def create(self, request: Create, own_host: str | None = None) -> Link:
        """Make a link.

        Args:
            request: What is wanted.
            own_host: Host by which the shortener was reached, if it was, as `canonical_host` writes it.

        Raises:
            InvalidUrl: The address cannot be a link's target.
            InvalidCode: The chosen code cannot be used.
            CodeTaken: The chosen code leads somewhere already.
            InvalidArguments: `expires_at` is over.
            KeyReused: The idempotency key came with another request before.
        """
        link = NewLink(
            code="" if request.code is None else self._chosen(request.code),
            url=self._check_url(request.url, own_host),
            created_at=self.now(),
            expires_at=None if request.expires_at is None else _time(request.expires_at, "expires_at"),
            max_clicks=request.max_clicks,
        )
        idempotency = self._idempotency(request, link)
        if is_expired(link.expires_at, link.created_at):
            # A client that asks again, because an answer got lost, may do so after the link's time.
            known = None if idempotency is None else await self._store.made_with(idempotency)
            if known is None:
                raise self._over(link.expires_at)
            return Link(known.code, known.url, known.expires_at, known.max_clicks)
        if link.code:
            made = (await self._store.insert(link, idempotency)).link
        else:
            made = await self._insert_generated(link, idempotency)
        await self._cache.fill(made.code, lambda: self._store.find(made.code))
        return Link(made.code, made.url, made.expires_at, made.max_clicks)

    async def resolve(self, code: str) -> Resolved:
        """Return where a code leads; nowhere if it is unknown, expired, or has no clicks left."""
        code = self._spelled(code)
        cached = await self._cache.get(code)
        if cached is not None:
            return Resolved(None if is_expired(cached.expires_at, self.now()) else cached.url)
        link = await self._cache.fill(code, lambda: self._store.find(code))
        if link is None or why_not(link, self.now()) is not None:
            return Resolved(None)
        return Resolved(link.url, link.max_clicks)

    async def find(self, code: str) -> LinkDetails:
        """Return a link, from the store.

        Raises:
            NotFound: There is no such link.
        """
        link = await self._store.find(self._spelled(code))
        if link is None:
            raise _not_found(code)
        return link

    async def update(self, request: Update, own_host: str | None = None) -> Link:
        """Change a link; the next look-up sees it.

        Raises:
            InvalidUrl: The address cannot be a link's target.
            InvalidArguments: `expires_at` is over.
            NotFound: There is no such link.
        """
        code, expires_at = self._spelled(request.code), request.expires_at
        changes = Changes(
            url=msgspec.UNSET if request.url is msgspec.UNSET else self._check_url(request.url, own_host),
            expires_at=self._future(expires_at) if isinstance(expires_at, datetime) else expires_at,
            max_clicks=request.max_clicks,
        )
        link = await self._cache.change(code, lambda: self._store.update(code, changes))
        if link is None:
            raise _not_found(request.code)
        return Link(link.code, link.url, link.expires_at, link.max_clicks)

    async def delete(self, code: str) -> bool:
        """Forget a link and its clicks; answer whether there was one."""
        code = self._spelled(code)
        return await self._cache.change(code, lambda: self._store.delete(code))

    async def page(self, request: ListRequest) -> LinkPage:
        """Return a page of links, newest first.

        Raises:
            InvalidArguments: The cursor is none that an earlier page gave.
        """
        after = None if request.cursor is None else _position(request.cursor)
        links = await self._store.listing(after, request.limit + 1)
        page = links[: request.limit]
        return LinkPage(page, _cursor(page[-1]) if len(links) > len(page) else None)

    async def stats(self, code: str, days: int) -> Stats:
        """Return how a link was used, day by day for the last `days`.

        Raises:
            NotFound: There is no such link.
        """
        since = datetime.fromtimestamp(self._bus.clock.time(), UTC) - timedelta(days=days - 1)
        found = await self._store.stats(self._spelled(code), since.date().isoformat())
        if found is None:
            raise _not_found(code)
        return found

    async def count(self, request: RecordClick) -> Counted:
        """Count a click, once for each of its ids."""
        now = self.now()
        click = Click(
            code=self._spelled(request.code),
            click_id=request.click_id or self.click_id(),
            clicked_at=now if request.clicked_at is None else _time(request.clicked_at, "clicked_at"),
            visitor=request.visitor,
            referrer=request.referrer,
            bot=request.bot,
        )
        return await self._store.count(click, now)

    async def import_links(self, request: Import) -> Imported:
        """Import links in batches; what cannot be imported is skipped and named."""
        result = Imported(0, 0, [])
        batch: list[tuple[int, NewLink, bool]] = []
        index = -1
        async for row in self._rows(request, result.ignored_columns.append):
            index += 1
            try:
                if isinstance(row, LinklyError):
                    raise row
                given = msgspec.convert(row, ImportLink)
                batch.append((index, self._imported(given), given.code is None))
            except (LinklyError, msgspec.ValidationError) as error:
                _skip(result, index, error.message if isinstance(error, LinklyError) else str(error))
            if len(batch) == BATCH:
                await self._import_batch(batch, result)
        await self._import_batch(batch, result)
        result.problems.sort(key=lambda problem: problem.index)
        return result

    def click_id(self) -> str:
        """Make a name for a click that no other click has; later ones sort later, which keeps their index compact."""
        return f"{int(self._bus.clock.time() * 1000):011x}-{self._run}-{next(self._clicks):x}"

    def now(self) -> str:
        """Return the time as it is kept."""
        # Made once a millisecond, not once a call: it costs 3 us.
        milliseconds = int(self._bus.clock.time() * 1000)
        if milliseconds != self._noted[0]:
            self._noted = (milliseconds, time_text(milliseconds / 1000))
        return self._noted[1]

    async def _learn(self) -> None:
        if self._spellings is not None:
            async with self._learning:
                self._spellings.know(await self._store.codes_with_capitals())

    async def _rows(self, request: Import, ignore: Callable[[str], object]) -> AsyncIterator[Any]:
        for row in request.links:
            yield row
        if request.reader is not None:
            reader = await self._bus.open_reader(request.reader)
            try:
                async for row in csv_rows(reader, ignore):
                    yield row
            finally:
                await reader.close()

    def _imported(self, given: ImportLink) -> NewLink:
        code = self._codes.make() if given.code is None else self._chosen(given.code)
        expires_at = None if given.expires_at is None else self._future(given.expires_at)
        return NewLink(code, self._check_url(given.url), self.now(), expires_at, given.max_clicks)

    async def _import_batch(self, batch: list[tuple[int, NewLink, bool]], result: Imported) -> None:
        inserted = await self._store.insert_many([link for _, link, _ in batch]) if batch else []
        for (index, link, generated), done in zip(batch, inserted, strict=True):
            if not done and not generated:
                _skip(result, index, f"code `{link.code}` is taken")
                continue
            if not done:
                await self._insert_generated(link, None)
            result.imported += 1
        batch.clear()

    def _check_url(self, given: str, own_host: str | None = None) -> str:
        own_hosts = self._own_hosts if own_host is None else self._own_hosts | {own_host}
        return check_url(given, own_hosts=own_hosts, allow_private=self._allow_private)

    def _chosen(self, code: str) -> str:
        return self._spelled(check_code(code))

    def _spelled(self, code: str) -> str:
        return code if self._spellings is None else self._spellings.of(code)

    def _future(self, expires_at: datetime) -> str:
        text = _time(expires_at, "expires_at")
        if is_expired(text, self.now()):
            raise self._over(text)
        return text

    def _over(self, expires_at: str | None) -> InvalidArguments:
        return InvalidArguments(
            f"expires_at {expires_at} is over, it is {self.now()}; name a later time, or delete the link to end it now"
        )

    async def _insert_generated(self, link: NewLink, idempotency: Idempotency | None) -> NewLink:
        for _ in range(ATTEMPTS):
            link = msgspec.structs.replace(link, code=self._codes.make())
            try:
                made = await self._store.insert(link, idempotency)
            except CodeTaken:
                self._codes.tell(taken=True)
            else:
                self._codes.tell(taken=False)
                return made.link
        raise HandlerFailed(f"no free code found in {ATTEMPTS} attempts; set a larger code_length")

    def _idempotency(self, request: Create, link: NewLink) -> Idempotency | None:
        if request.idempotency_key is None:
            return None
        # One instant has many spellings; all of them ask for the same.
        expires_at = None if request.expires_at is None else request.expires_at.astimezone(UTC)
        asked = msgspec.json.encode([request.url, link.code or None, expires_at, request.max_clicks])
        before = time_text(self._bus.clock.time() - KEY_LIFE.total_seconds())
        return Idempotency(request.idempotency_key, hashlib.sha256(asked).hexdigest(), before)


class Spellings:
    """How codes are written in the store, for whoever takes `Ab` and `ab` for one code.

    New codes are kept in lower case. Links of a time when the case counted keep theirs, so that their clicks stay
    with them and the setting can be taken back.
    """

    def __init__(self) -> None:
        self._capitals: dict[str, str] = {}

    def know(self, capitals: list[str]) -> None:
        """Learn the codes that are not all lower case.

        Raises:
            ConfigError: Two codes differ in nothing but their case.
        """
        self._capitals = {code.lower(): code for code in capitals}
        if len(self._capitals) < len(capitals):
            twice = next(code for code in capitals if self._capitals[code.lower()] != code)
            raise _one_code(twice, self._capitals[twice.lower()])

    def of(self, code: str) -> str:
        """Return a code as the store has it, or as a new one is kept."""
        folded = code.lower()
        return self._capitals.get(folded, folded)


def _one_code(first: str, second: str) -> ConfigError:
    return ConfigError(
        f"link: case_sensitive: false would make one code of `{first}` and `{second}`, which are two links; "
        "delete one of them first"
    )


def _time(moment: datetime, field: str) -> str:
    try:
        return time_text(moment)
    except OverflowError as error:
        raise InvalidArguments(f"{field} {moment.isoformat()} lies outside the years 1 to 9999 in UTC") from error


def _skip(result: Imported, index: int, reason: str) -> None:
    result.skipped += 1
    if len(result.problems) < PROBLEM_LIMIT:
        result.problems.append(ImportProblem(index, reason))


def _not_found(code: str) -> NotFound:
    return NotFound(f"there is no link `{code}`", details={"code": code})


def _cursor(link: LinkDetails) -> str:
    position = msgspec.json.encode([link.created_at, link.code])
    return base64.urlsafe_b64encode(position).decode().rstrip("=")


def _position(cursor: str) -> Position:
    try:
        data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(data, type=tuple[str, str])
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidArguments(f"cursor {cursor[:64]!r} is none of ours; use next_cursor of the page before") from error
