"""Times as text: RFC 3339 in UTC with milliseconds, so that they compare as text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec

from linkly.errors import InvalidPayload

_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


def time_text(moment: datetime | float) -> str:
    """Return a time as text: `2026-01-31T12:00:00.000Z`.

    Args:
        moment: A time with its zone, or seconds since the epoch.

    Raises:
        OverflowError: In UTC it is before year 1 or after year 9999.
    """
    moment = moment.astimezone(UTC) if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment_of(text: str, what: str) -> datetime:
    """Read a time that somebody has written: RFC 3339, with its zone.

    Args:
        text: The time.
        what: Names it in an error.

    Raises:
        InvalidPayload: It is no such time, it has no zone, or it is not in the years 1 to 9999 of UTC.
    """
    try:
        return msgspec.convert(text, _Moment).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError) as error:
        raise InvalidPayload(
            f"`{what}` {text[:100]!r} is no time with a zone, as RFC 3339 writes it (2026-01-31T12:00:00Z): {error}"
        ) from error
