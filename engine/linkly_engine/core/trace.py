"""W3C trace context on its way through the engine (docs/protocol.md 3.8)."""

from __future__ import annotations

import re

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def valid_traceparent(value: str | None) -> str | None:
    """Return a traceparent that other tools can read, `None` for anything else (W3C Trace Context 3.2)."""
    return value if value is not None and _TRACEPARENT.fullmatch(value) else None


def with_function_id(baggage: str | None, function_id: str) -> str:
    """Return the baggage with the member that names the called function; other members are kept."""
    return with_member(baggage, "iii.function.id", function_id)


def with_member(baggage: str | None, name: str, value: str | None) -> str:
    """Return the baggage with one member set, or taken out if `value` is `None`; other members are kept."""
    members = [] if not baggage else [member.strip() for member in baggage.split(",")]
    kept = [member for member in members if member and member.split("=", 1)[0].strip() != name]
    return ",".join(kept if value is None else [*kept, f"{name}={value}"])


def member(baggage: str | None, name: str) -> str | None:
    """Return the value of one member."""
    if baggage is None or name not in baggage:
        return None
    for item in baggage.split(","):
        key, _, value = item.partition("=")
        if key.strip() == name:
            return value.strip()
    return None
