"""What a function answered -> status, headers and bytes (workers-edge.md 1.8), and the error envelope (1.9)."""

from __future__ import annotations

import logging
import re
import secrets
from typing import Any, TypeAlias, cast

import msgspec

from linkly import Json
from linkly.errors import CallTimeout, LinklyError, Overloaded

log = logging.getLogger("linkly.http")

Headers: TypeAlias = list[tuple[bytes, bytes]]

JSON_TYPE = (b"content-type", b"application/json")

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
WITHOUT_BODY = (204, 205, 304)
_HOP_BY_HOP = (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
"""They are the connection's (RFC 9110 7.6.1), of which a function knows nothing."""
_MANAGED = frozenset((b"content-length", b"date", *_HOP_BY_HOP))
"""What the gateway says itself: twice would be wrong."""
_UNREMARKABLE = (501, 505)
"""Statuses of the server that are the client's doing."""


class Reply(msgspec.Struct):
    """A whole response."""

    status: int
    headers: Headers
    body: bytes


class _Answer(msgspec.Struct):
    """The three keys that make a value a response; each stays as the function wrote it."""

    status_code: Any = msgspec.UNSET
    headers: Any = msgspec.UNSET
    body: Json | msgspec.UnsetType = msgspec.UNSET


_answer_decoder = msgspec.json.Decoder(_Answer)


def reply(result: Any) -> Reply:
    """Turn what a function answered into a response.

    A value without any of `status_code`, `headers` and `body` is answered itself, as JSON with status 200.
    """
    data = bytes(result) if type(result) is Json else msgspec.json.encode(result)
    if data[:1] != b"{":
        return Reply(200, [JSON_TYPE], _compact(data))
    answer = _answer_decoder.decode(data)
    status = answer.status_code
    if status is msgspec.UNSET and answer.headers is msgspec.UNSET and answer.body is msgspec.UNSET:
        return Reply(200, [JSON_TYPE], _compact(data))
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 999:
        status = 200  # 1xx too: an interim status cannot end a request (RFC 9110 15.2)
    headers = read_headers(answer.headers)
    content_type = next((value for name, value in headers if name == b"content-type"), None)
    if status in WITHOUT_BODY:
        return Reply(status, headers, b"")
    if answer.body is msgspec.UNSET:
        if 300 <= status < 400:
            return Reply(status, headers, b"")
        body = b"{}"
    else:
        body = bytes(answer.body)
        if content_type is not None and body == b"null":
            return Reply(status, headers, b"")
        if content_type is not None and body[:1] == b'"':
            return Reply(status, headers, msgspec.json.decode(body, type=str).encode())
    if content_type is None:
        headers.append(JSON_TYPE)
    return Reply(status, headers, _compact(body))


def _compact(body: bytes) -> bytes:
    """Take the spaces out of JSON that was written with them, as older Python clients do; its numbers stay as written.

    Whoever writes spaces does so from the first separator on, so a look at the beginning is enough: 0.2 us.
    """
    head = body[:256]
    return msgspec.json.format(body, indent=-1) if b'": ' in head or b", " in head else body


def read_headers(given: Any) -> Headers:
    """Read headers from a map or a list of `Name: value`; what could split the response is left out."""
    pairs: list[tuple[str, Any]] = []
    if isinstance(given, dict):
        pairs = list(cast("dict[str, Any]", given).items())
    elif isinstance(given, list):
        for line in given:
            name, found, value = str(line).partition(":")
            if found:
                pairs.append((name.strip(), value.strip()))
    headers: Headers = []
    for name, value in pairs:
        if not isinstance(value, str):
            continue
        raw_name = name.encode("latin-1", "replace").lower()
        raw_value = value.encode("utf-8").strip()
        if not _NAME.fullmatch(raw_name) or not _VALUE.fullmatch(raw_value):
            log.warning("left out the response header %r: its name or value is not allowed", name)
        elif raw_name not in _MANAGED:
            headers.append((raw_name, raw_value))
    return headers


def error_reply(status: int, code: str, message: str, *, headers: Headers | None = None, **extra: Any) -> Reply:
    """Return the error envelope; the ones that are logged carry an `error_id` to find the log line by."""
    body: dict[str, Any] = {"error": {"code": code, "message": message}}
    if status >= 500 and status not in _UNREMARKABLE:
        error_id = secrets.token_hex(6)
        body["error"]["error_id"] = error_id
        log.error("%d %s %s: %s", status, error_id, code, message)
    return Reply(status, [JSON_TYPE, *(headers or [])], msgspec.json.encode({**body, **extra}))


def failure_reply(error: LinklyError) -> Reply:
    """Return the response for a call that failed."""
    if isinstance(error, CallTimeout):
        return error_reply(504, error.code, error.message)
    if isinstance(error, Overloaded):
        return error_reply(503, error.code, error.message, headers=[(b"retry-after", b"1")])
    return error_reply(500, error.code, error.message)
