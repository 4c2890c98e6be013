"""Times of links: RFC 3339 text in UTC with milliseconds."""

from __future__ import annotations

from datetime import datetime

from linkly.clock import Clock
from linkly.errors import InvalidArguments
from linkly.timestamps import time_text
from linkly_workers.link.outcome import is_expired


class Now:
    """Returns the time of a clock as text when it is called."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._noted = (-1, "")

    def __call__(self) -> str:
        """Return the time; made once a millisecond, not once a call: it costs 3 us."""
        milliseconds = int(self._clock.time() * 1000)
        if milliseconds != self._noted[0]:
            self._noted = (milliseconds, time_text(milliseconds / 1000))
        return self._noted[1]


def given_time(moment: datetime, field: str) -> str:
    """Return a time that a caller has given as text.

    Raises:
        InvalidArguments: In UTC it is before year 1 or after year 9999; the message names `field`.
    """
    try:
        return time_text(moment)
    except OverflowError as error:
        raise InvalidArguments(f"{field} {moment.isoformat()} lies outside the years 1 to 9999 in UTC") from error


def check_future(expires_at: str | None, now: str) -> None:
    """Refuse the end of a link that is over.

    Raises:
        InvalidArguments: It is.
    """
    if is_expired(expires_at, now):
        raise InvalidArguments(
            f"expires_at {expires_at} is over, it is {now}; name a later time, or delete the link to end it now"
        )
