"""Requests and results of the link worker."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec

from linkly.channel import ChannelRef

Code = Annotated[str, msgspec.Meta(examples=["demo"])]
Url = Annotated[str, msgspec.Meta(examples=["https://example.com"])]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
MaxClicks = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Limit = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Days = Annotated[int, msgspec.Meta(ge=1, le=3660)]
Key = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Unset = msgspec.UnsetType


class Create(msgspec.Struct, kw_only=True):
    """A link to make.

    Attributes:
        url: Where it leads; https:// is put in front of an address without a scheme.
        code: The short code, 1 to 64 of `[A-Za-z0-9_-]`; six random characters if it is left out.
        expires_at: RFC 3339 time after which it leads nowhere.
        max_clicks: How many times it redirects.
        idempotency_key: Repeating a request with the same key within a day makes no second link.
    """

    url: Url
    code: str | None = None
    expires_at: Time | None = None
    max_clicks: MaxClicks | None = None
    idempotency_key: Key | None = None


class Link(msgspec.Struct, omit_defaults=True):
    """A short link.

    Attributes:
        code: Its short code.
        url: Where it leads.
        expires_at: When it ends, if it does.
        max_clicks: How often it redirects, if there is a limit.
    """

    code: str
    url: str
    expires_at: str | None = None
    max_clicks: int | None = None


class LinkDetails(msgspec.Struct):
    """A short link with everything that is known of it.

    Attributes:
        code: Its short code.
        url: Where it leads.
        created_at: RFC 3339 time.
        clicks: How often it has redirected, people and bots.
        expires_at: When it ends, if it does.
        max_clicks: How often it redirects, if there is a limit.
    """

    code: str
    url: str
    created_at: str
    clicks: int
    expires_at: str | None
    max_clicks: int | None


class Resolved(msgspec.Struct, omit_defaults=True):
    """Where a code leads.

    Attributes:
        url: The address; null if it leads nowhere.
        max_clicks: How many times it redirects, if there is a limit: then a click has to be counted first.
    """

    url: str | None
    max_clicks: int | None = None


class Update(msgspec.Struct, kw_only=True):
    """What to change of a link; what is left out stays, null takes a limit away.

    Attributes:
        code: The short code.
        url: Where it leads from now on.
        expires_at: RFC 3339 time after which it leads nowhere.
        max_clicks: How many times it redirects, those so far included.
    """

    code: Code
    url: str | Unset = msgspec.UNSET
    expires_at: Time | Unset | None = msgspec.UNSET
    max_clicks: MaxClicks | Unset | None = msgspec.UNSET


class Deleted(msgspec.Struct):
    """Whether there was something to delete."""

    deleted: bool


class ListRequest(msgspec.Struct, kw_only=True):
    """Which page of links.

    Attributes:
        limit: Links a page, 1 to 1000.
        cursor: `next_cursor` of the page before; left out for the first.
    """

    limit: Limit = 20
    cursor: str | None = None


class LinkPage(msgspec.Struct):
    """Links, newest first.

    Attributes:
        links: The page.
        next_cursor: Gives the next page, null on the last.
    """

    links: list[LinkDetails]
    next_cursor: str | None


class RecordClick(msgspec.Struct, kw_only=True):
    """A click to count.

    Attributes:
        code: The short code.
        click_id: Names the click: counting it again counts nothing. Without it every call is another click.
        clicked_at: RFC 3339 time; now if it is left out.
        visitor: Tells one visitor from another; whatever the caller likes.
        referrer: Host the visitor came from.
        bot: Whether a program followed the link by itself.
    """

    code: Code
    click_id: Key | None = None
    clicked_at: Time | None = None
    visitor: str | None = None
    referrer: str | None = None
    bot: bool = False


class Recorded(msgspec.Struct, omit_defaults=True):
    """Whether a click is counted.

    Attributes:
        recorded: It is, now or by an earlier request with the same `click_id`.
        reason: Why it is not: `not_found`, `expired` or `exhausted`.
    """

    recorded: bool
    reason: str | None = None


class DayCount(msgspec.Struct):
    """Clicks of people on one day, UTC."""

    day: str
    clicks: int


class ReferrerCount(msgspec.Struct):
    """Clicks of people who came from one host; null: nobody knows from where."""

    referrer: str | None
    clicks: int


class Stats(msgspec.Struct):
    """How a link was used. Bots are counted apart: every other figure is of people.

    Attributes:
        code: The short code.
        total: Clicks of people.
        unique: Visitors among them.
        bots: Clicks of programs that say so: crawlers, link previews.
        by_day: The days with clicks, oldest first, of the days asked for.
        by_referrer: The twenty busiest hosts.
    """

    code: str
    total: int
    unique: int
    bots: int
    by_day: list[DayCount]
    by_referrer: list[ReferrerCount]


class Mismatch(msgspec.Struct):
    """A code whose counter and rows differ; counter null: rows of a link that is gone."""

    code: str
    counter: int | None
    rows: int


class Verification(msgspec.Struct):
    """Whether every counter equals its rows.

    Attributes:
        ok: It does.
        links: How many links there are.
        counted: Sum of all counters.
        rows: Rows in `clicks`.
        mismatches: What differs, at most a hundred.
    """

    ok: bool
    links: int
    counted: int
    rows: int
    mismatches: list[Mismatch]


class ImportLink(msgspec.Struct, kw_only=True):
    """One link to import."""

    url: str
    code: str | None = None
    expires_at: Time | None = None
    max_clicks: MaxClicks | None = None


class Import(msgspec.Struct, kw_only=True):
    """Links to import.

    Attributes:
        links: Objects of url and, if wanted, code, expires_at, max_clicks.
        reader: Reading end of a channel with a CSV file whose first line names the columns: url, code,
            expires_at, max_clicks. `keyword` is read as code; other columns are left out.
    """

    links: Annotated[list[Any], msgspec.Meta(examples=[[{"url": "https://example.com", "code": "demo"}]])] = []
    reader: ChannelRef | None = None


class ImportProblem(msgspec.Struct):
    """Why a link was not imported; `index` counts from 0."""

    index: int
    error: str


class Imported(msgspec.Struct, omit_defaults=True):
    """What became of an import.

    Attributes:
        imported: Links made.
        skipped: Links not made: their code is taken or they cannot be a link.
        problems: Why, for the first hundred.
        ignored_columns: Columns of the CSV file that are none of a link's; left out if there are none.
    """

    imported: int
    skipped: int
    problems: list[ImportProblem]
    ignored_columns: list[str] = []


class Refusal(msgspec.Struct):
    """Why a request over HTTP was refused."""

    error: str


class CreateBody(msgspec.Struct, kw_only=True):
    """Body of `POST /links`.

    Attributes:
        url: Where the link leads.
        code: The short code; random if it is left out.
        expires_at: RFC 3339 time after which it leads nowhere.
        max_clicks: How many times it redirects.
    """

    url: str
    code: str | None = None
    expires_at: Time | None = None
    max_clicks: MaxClicks | None = None


class UpdateBody(msgspec.Struct, kw_only=True):
    """Body of `PUT /links/:code`; limits that are left out stay, null takes them away.

    Attributes:
        url: Where the link leads from now on.
        expires_at: RFC 3339 time after which it leads nowhere.
        max_clicks: How many times it redirects, those so far included.
    """

    url: str
    expires_at: Time | Unset | None = msgspec.UNSET
    max_clicks: MaxClicks | Unset | None = msgspec.UNSET
