"""Cursors of listings: a position in the listing, as text that nobody has to understand."""

from __future__ import annotations

import base64

import msgspec

from linkly.errors import InvalidArguments
from linkly_workers.link.shapes import LinkDetails
from linkly_workers.link.stores.store import Position


def cursor_behind(link: LinkDetails) -> str:
    """Return the cursor of the part that begins behind a link."""
    position = msgspec.json.encode([link.created_at, link.code])
    return base64.urlsafe_b64encode(position).decode().rstrip("=")


def position_of(cursor: str) -> Position:
    """Return the position behind which a part begins.

    Raises:
        InvalidArguments: `cursor_behind` did not make it.
    """
    try:
        data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(data, type=tuple[str, str])
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidArguments(f"cursor {cursor[:64]!r} is none of ours; use next_cursor of the page before") from error
