"""Members of W3C baggage, which travels with a call and with every call that it makes."""

from __future__ import annotations

TRANSACTION = "linkly.transaction"
"""The interactive transaction in which a call was made: see `linkly.atomic`."""


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
