"""How a call ended, as it travels: a result or an error, both encoded, one of them absent."""

from __future__ import annotations

from linkly.errors import LinklyError, RemoteError, error_from_body, escaped
from linkly.invocation import Json
from linkly.schema import decode, encode

ABSENT = Json(b"")
"""An optional field that is not there; on this wire it means the same as `null`."""

SHOWN_BYTES = 1000
"""How much of an error's body is quoted where the body cannot be read."""


def is_absent(value: Json) -> bool:
    """Return whether an optional field is absent or `null`, which mean the same on this wire."""
    return value is ABSENT or bytes(memoryview(value)[:5]) in (b"", b"null")


def error_body(error: LinklyError) -> Json:
    """Encode an error as it travels; without a JSON form details are left out, text is escaped: no error is lost."""
    body = error.to_body()
    try:
        return Json(encode(body))
    except LinklyError:
        body.pop("details", None)
        return Json(encode({name: escaped(text) for name, text in body.items()}))


def read_error(body: Json) -> LinklyError:
    """Rebuild an error from its encoded body; one that cannot be read becomes a `RemoteError` that quotes it."""
    try:
        return error_from_body(decode(body))
    except LinklyError:  # a number that no float holds, or nested too deeply to be read: it was passed on unread
        return RemoteError(bytes(memoryview(body)[:SHOWN_BYTES]).decode("utf-8", "replace"))
