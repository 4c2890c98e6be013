"""Whether a link still leads somewhere, and what becomes of a click on it: one rule for all stores and readers."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum

import msgspec

from linkly.timestamps import time_text
from linkly_workers.link.shapes import LinkDetails

REPEAT_WINDOW = timedelta(seconds=60)
"""How long a click that used up a part of `max_clicks` may be asked for again under its id.

A client whose answer got lost asks again within seconds. For longer, one id would redirect as often as anybody likes
and `max_clicks` would limit nothing.
"""


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
        return self is Outcome.COUNTED or self is Outcome.REPEATED


class Counted(msgspec.Struct, frozen=True):
    """What became of a click.

    Attributes:
        outcome: Whether the click is counted, and why not.
        link: The link, `None` for `NOT_FOUND`.
    """

    outcome: Outcome
    link: LinkDetails | None = None


def is_expired(expires_at: str | None, now: str) -> bool:
    """Return whether a link's time is over."""
    return expires_at is not None and expires_at <= now


def why_not(link: LinkDetails, now: str) -> Outcome | None:
    """Return why a link leads nowhere, `None` if it leads somewhere."""
    if is_expired(link.expires_at, now):
        return Outcome.EXPIRED
    if link.max_clicks is not None and link.clicks >= link.max_clicks:
        return Outcome.EXHAUSTED
    return None


def repetition(link: LinkDetails, clicked_at: str, now: str) -> Outcome:
    """Return what becomes of a click that was counted before."""
    if is_expired(link.expires_at, now):
        return Outcome.REPEATED_LATE
    if link.max_clicks is None:
        return Outcome.REPEATED
    oldest = time_text(datetime.fromisoformat(now) - REPEAT_WINDOW)
    return Outcome.REPEATED if clicked_at >= oldest else Outcome.REPEATED_LATE
