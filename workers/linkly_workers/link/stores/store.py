"""What every store of links does: `MemoryStore` (`memory.py`), `SqlStore` (`sql/`).

Times are RFC 3339 text in UTC with milliseconds, so that they compare as text.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

import msgspec

from linkly.errors import LinklyError
from linkly_workers.link.outcome import Counted
from linkly_workers.link.shapes import LinkDetails, Stats, Verification

MISMATCH_LIMIT = 100
REFERRER_LIMIT = 20

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
    """A click to count.

    Attributes:
        code: The link's code.
        clicked_at: When.
        click_id: By what name somebody may ask for it again; `None`: nobody will.
        visitor: Tells one visitor from another.
        referrer: Host the visitor came from.
        bot: Whether a program followed the link by itself.
        accepted: It was redirected before it is counted: it counts whatever the link's limits say now. It has an id.
    """

    code: str
    clicked_at: str
    click_id: str | None = None
    visitor: str | None = None
    referrer: str | None = None
    bot: bool = False
    accepted: bool = False


class Changes(msgspec.Struct, frozen=True):
    """New values of a link; `UNSET` leaves one as it is."""

    url: str | msgspec.UnsetType = msgspec.UNSET
    expires_at: str | msgspec.UnsetType | None = msgspec.UNSET
    max_clicks: int | msgspec.UnsetType | None = msgspec.UNSET


class LinkStore(Protocol):
    """Keeps links and counts clicks. What a durable store has answered is on disk."""

    @property
    def is_shared(self) -> bool:
        """Whether other engines may change the links as well; known when it is open."""
        ...

    async def open(self) -> None:
        """Make what is needed; give what an older version made its new shape."""
        ...

    async def close(self) -> None:
        """Wait until what has begun is complete."""
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

    async def listing(self, after: Position | None, limit: int) -> list[LinkDetails]:
        """Return links, newest first: those that stand after a position."""
        ...

    def count(self, click: Click, now: str) -> Awaitable[Counted]:
        """Count a click: its row and the counter together or neither, once for each `click_id` of a code.

        Nothing is counted for a link that is missing, expired, or has no clicks left; of an `accepted` click only for
        one that is missing. `now` says what time it is; where
        engines share a store, the server's clock does. Clicks that are counted together answer the link as it is after
        all of them.
        """
        ...

    async def stats(self, code: str, since_day: str) -> Stats | None:
        """Return how a link was used; `by_day` from `since_day` (`YYYY-MM-DD`) on."""
        ...

    async def verify(self) -> Verification:
        """Compare every counter with its rows, at one moment."""
        ...


def code_taken(code: str) -> CodeTaken:
    """Make the error for a code that leads somewhere already."""
    return CodeTaken(f"code `{code}` is taken; choose another or leave it out", details={"code": code})


def key_reused(key: str) -> KeyReused:
    """Make the error for a key that came with another request."""
    return KeyReused(f"idempotency key {key!r} came with another request before; use a new key for a new request")
