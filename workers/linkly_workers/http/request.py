"""ASGI's scope and a route -> the request that a function gets (docs/workers.md#http). Pure."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote

import msgspec

from linkly import HttpRequest
from linkly.http import HttpTriggerInfo
from linkly_workers.http.routes import Match

Scope: TypeAlias = MutableMapping[str, Any]


def read_request(scope: Scope, headers: dict[str, str], match: Match) -> HttpRequest:
    """Return a request, without its body."""
    route = match.route
    request = HttpRequest(
        method=scope["method"],
        path=route.pattern,
        url_path=unquote(raw_path(scope)),
        scheme=scope["scheme"],
        path_params=match.path_params,
        query_params=_query(scope["query_string"]),
        query_string=query.decode("latin-1") if (query := scope["query_string"]) else msgspec.UNSET,
        headers=headers,
        client_host=client[0] if (client := scope["client"]) else "",
        trigger=HttpTriggerInfo(path=route.pattern, method=route.method),
    )
    if len(headers) != len(scope["headers"]):
        request.repeated_headers = _repeated(scope["headers"])
    return request


def raw_path(scope: Scope) -> str:
    """Return the path that was asked for, not yet percent-decoded."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.decode("latin-1").partition("?")[0]


def header_map(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the last value of each name; of cookies all, which may come in several lines (RFC 9113 8.2.3)."""
    headers = {name.decode("latin-1"): _text(value) for name, value in raw}
    if len(headers) != len(raw) and "cookie" in headers:
        headers["cookie"] = "; ".join(_text(value) for name, value in raw if name == b"cookie")
    return headers


def is_json(content_type: str) -> bool:
    """Return whether a Content-Type means JSON (RFC 9110 8.3.1; `+json`: RFC 6839 3.1)."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def json_body(body: bytes) -> tuple[Any, str | None]:
    """Return a JSON body, or `None` and a sentence that says why there is none."""
    try:
        return msgspec.json.decode(body), None
    except UnicodeDecodeError as error:
        return None, f"the body is no JSON: a text in it is not UTF-8 ({error.reason})"
    except ValueError as error:
        return None, f"the body is no JSON: {error}"
    except RecursionError:
        return None, "the body is no JSON that can be read: it is nested too deeply"


def no_json_type(content_type: str | None) -> str:
    """Return a sentence that says why a body was not read as JSON."""
    said = f"its Content-Type is `{content_type[:100]}`" if content_type else "it has no Content-Type"
    return f"the body was not read as JSON: {said}; send `Content-Type: application/json`"


def _query(raw: bytes) -> dict[str, str]:
    """Return the last value of each name."""
    return dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True)) if raw else {}


def _repeated(raw: list[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """Return all values of each name that came more than once."""
    values: dict[str, list[str]] = {}
    for name, value in raw:
        values.setdefault(name.decode("latin-1"), []).append(_text(value))
    return {name: given for name, given in values.items() if len(given) > 1}


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return ""
