"""Header lines -> headers, as functions get them (docs/workers.md#http). Pure."""

from __future__ import annotations


def header_map(fields: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the last value of each name; of cookies all, which may come in several lines (RFC 9113 8.2.3)."""
    try:
        headers = {name.decode("latin-1"): value.decode() for name, value in fields}
    except UnicodeDecodeError:
        headers = {name.decode("latin-1"): text(value) for name, value in fields}
    if len(headers) != len(fields) and "cookie" in headers:
        headers["cookie"] = "; ".join(text(value) for name, value in fields if name == b"cookie")
    return headers


def repeated(fields: list[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """Return all values of each name that came more than once."""
    values: dict[str, list[str]] = {}
    for name, value in fields:
        values.setdefault(name.decode("latin-1"), []).append(text(value))
    return {name: given for name, given in values.items() if len(given) > 1}


def text(value: bytes) -> str:
    """Return a value as text; nothing if it is not UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return ""
