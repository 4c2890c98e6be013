"""W3C trace context on its way through the engine (docs/protocol.md 3.8)."""

from __future__ import annotations

import re

from linkly.baggage import with_member

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def valid_traceparent(value: str | None) -> str | None:
    """Return a traceparent that other tools can read, `None` for anything else (W3C Trace Context 3.2)."""
    return value if value is not None and _TRACEPARENT.fullmatch(value) else None


def with_function_id(baggage: str | None, function_id: str) -> str:
    """Return the baggage with the member that names the called function; other members are kept."""
    return with_member(baggage, "iii.function.id", function_id)
