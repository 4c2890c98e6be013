"""A request on a connection and its route -> the request that a function gets (docs/workers.md#http). Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from linkly import HttpRequest
from linkly_workers.http.exchange import Exchange
from linkly_workers.http.fields import repeated
from linkly_workers.http.routes import Match


def read_request(exchange: Exchange, match: Match) -> HttpRequest:
    """Return a request, without its body."""
    route, path, query = match.route, exchange.path, exchange.query
    request = HttpRequest(
        method=exchange.method,
        path=route.pattern,
        url_path=unquote(path) if "%" in path else path,
        scheme=exchange.scheme,
        path_params=match.path_params,
        query_params=dict(parse_qsl(query, keep_blank_values=True)) if query else {},
        query_string=query or msgspec.UNSET,
        headers=exchange.headers,
        client_host=exchange.client_host,
        trigger=route.info,
    )
    if len(exchange.headers) != len(exchange.fields):
        request.repeated_headers = repeated(exchange.fields)
    return request


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
