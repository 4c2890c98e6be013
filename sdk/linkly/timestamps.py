"""Times as text: RFC 3339 in UTC with milliseconds, so that they compare as text."""

from __future__ import annotations

from datetime import UTC, datetime


def time_text(moment: datetime | float) -> str:
    """Return a time as text: `2026-01-31T12:00:00.000Z`.

    Args:
        moment: A time with its zone, or seconds since the epoch.

    Raises:
        OverflowError: In UTC it is before year 1 or after year 9999.
    """
    moment = moment.astimezone(UTC) if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
