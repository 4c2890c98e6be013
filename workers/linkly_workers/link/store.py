"""Where links and clicks are kept: one interface, two stores, one test suite over both.

It is the seam of the flagship: `LinkStore` with `MemoryStore` (`memory.py`) and `DatabaseStore` (`database.py`). Times
are RFC 3339 text in UTC with milliseconds, so that they compare as text.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Protocol

import msgspec

from linkly.errors import InvalidArguments, LinklyError
from linkly_workers.link.shapes import LinkDetails, Stats, Verification

MISMATCH_LIMIT = 100
REFERRER_LIMIT = 20

REPEAT_WINDOW = timedelta(seconds=60)
"""How long a click that used up a part of `max_clicks` may be asked for again under its id.

A client whose answer got lost asks again within seconds. For longer, one id would redirect as often as anybody likes
and `max_clicks` would limit nothing.
"""

Position = tuple[str, str]
"""`(created_at, code)` of a link: where it stands in a listing."""


class CodeTaken(LinklyError):
    """The chosen code leads somewhere already."""

    code = "CODE_TAKEN"


class KeyReused(LinklyError):
    """An idempotency key came with another request before."""

    code = "IDEMPOTENCY_KEY_REUSED"


class NewLink(msgspec.Struct, frozen=True):
    """A link to keep."""

    code: str
    url: str
    created_at: str
    expires_at: str | None = None
    max_clicks: int | None = None


class Idempotency(msgspec.Struct, frozen=True):
    """What makes a repeated request known.

    Attributes:
        key: The client's name for the request.
        request: Digest of what was asked; another one under the same key is refused.
        forget_before: Keys that are older than this time are forgotten.
    """

    key: str
    request: str
    forget_before: str


class Made(msgspec.Struct, frozen=True):
    """Answer of `insert`: the link, and whether it was this request that made it."""

    link: NewLink
    repeated: bool


class Click(msgspec.Struct, frozen=True):
    """A click to count."""

    code: str
    click_id: str
    clicked_at: str
    visitor: str | None = None
    referrer: str | None = None
    bot: bool = False


class Outcome(Enum):
    """What became of a click.

    `REPEATED` and `REPEATED_LATE` are clicks that an earlier request counted. The late one redirects no more: its link
    has expired since, or has a limit and the click is older than `REPEAT_WINDOW`.
    """

    COUNTED = "counted"
    REPEATED = "repeated"
    REPEATED_LATE = "repeated_late"
    NOT_FOUND = "not_found"
    EXPIRED = "expired"
    EXHAUSTED = "exhausted"

    @property
    def is_counted(self) -> bool:
        """Whether the click is counted, now or by an earlier request."""
        return self in (Outcome.COUNTED, Outcome.REPEATED, Outcome.REPEATED_LATE)

    @property
    def may_redirect(self) -> bool:
        """Whether the request that brought the click is redirected."""
        return self in (Outcome.COUNTED, Outcome.REPEATED)


class Changes(msgspec.Struct, frozen=True):
    """New values of a link; `UNSET` leaves one as it is."""

    url: str | msgspec.UnsetType = msgspec.UNSET
    expires_at: str | msgspec.UnsetType | None = msgspec.UNSET
    max_clicks: int | msgspec.UnsetType | None = msgspec.UNSET


class LinkStore(Protocol):
    """Keeps links and counts clicks. What a durable store has answered is on disk."""

    async def open(self) -> None:
        """Make what is needed; give what an older version made its new shape."""
        ...

    async def secret(self) -> bytes:
        """Return the secret that visitors are hashed with; the same for the life of the store."""
        ...

    async def insert(self, link: NewLink, idempotency: Idempotency | None = None) -> Made:
        """Keep a new link, its counter at 0. The race for one code has one winner.

        Raises:
            CodeTaken: The code leads somewhere already.
            KeyReused: The key came with another request before.
        """
        ...

    async def made_with(self, idempotency: Idempotency) -> NewLink | None:
        """Return the link that an earlier request with this key made, `None` if there was none.

        Raises:
            KeyReused: The key came with another request.
        """
        ...

    async def codes_with_capitals(self) -> list[str]:
        """Return the codes that are not all lower case, and those that differ from one of them in case only."""
        ...

    async def insert_many(self, links: list[NewLink]) -> list[bool]:
        """Keep many links at once; for each, whether its code was free."""
        ...

    async def find(self, code: str) -> LinkDetails | None:
        """Return a link, expired or not."""
        ...

    async def update(self, code: str, changes: Changes) -> LinkDetails | None:
        """Change a link and return it, `None` if there is none."""
        ...

    async def delete(self, code: str) -> bool:
        """Forget a link, its clicks and the key it was made with; answer whether there was one."""
        ...

    async def page(self, after: Position | None, limit: int) -> list[LinkDetails]:
        """Return links, newest first, that stand after a position."""
        ...

    async def count(self, click: Click, now: str) -> Outcome:
        """Count a click: its row and the counter together or neither, once for each `click_id` of a code.

        Nothing is counted for a link that is missing, expired at `now`, or has no clicks left.
        """
        ...

    async def stats(self, code: str, since_day: str) -> Stats | None:
        """Return how a link was used; `by_day` from `since_day` (`YYYY-MM-DD`) on."""
        ...

    async def verify(self) -> Verification:
        """Compare every counter with its rows, at one moment."""
        ...


def is_expired(expires_at: str | None, now: str) -> bool:
    """Tell whether a link's time is over."""
    return expires_at is not None and expires_at <= now


def judge_repetition(clicked_at: str, expires_at: str | None, max_clicks: int | None, now: str) -> Outcome:
    """Return what becomes of a click that is counted already."""
    if is_expired(expires_at, now):
        return Outcome.REPEATED_LATE
    if max_clicks is None:
        return Outcome.REPEATED
    oldest = time_text(datetime.fromisoformat(now) - REPEAT_WINDOW)
    return Outcome.REPEATED if clicked_at >= oldest else Outcome.REPEATED_LATE


def time_text(moment: datetime | float, field: str = "time") -> str:
    """Return a time as it is kept: `2026-01-31T12:00:00.000Z`.

    Raises:
        InvalidArguments: In UTC it is before year 1 or after year 9999; the message names `field`.
    """
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(moment, UTC)
    try:
        moment = moment.astimezone(UTC)
    except OverflowError as error:
        raise InvalidArguments(f"{field} {moment.isoformat()} lies outside the years 1 to 9999 in UTC") from error
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def code_taken(code: str) -> CodeTaken:
    """Make the error for a code that leads somewhere already."""
    return CodeTaken(f"code `{code}` is taken; choose another or leave it out", details={"code": code})


def key_reused(key: str) -> KeyReused:
    """Make the error for a key that came with another request."""
    return KeyReused(f"idempotency key {key!r} came with another request before; use a new key for a new request")
