"""What a function bound to HTTP gets and answers (workers-edge.md 1.5 and 1.8)."""

from __future__ import annotations

from typing import Any

import msgspec

from linkly.channel import ChannelRef


class HttpTriggerInfo(msgspec.Struct):
    """Which route fired."""

    type: str = "http"
    path: str = ""
    method: str = "GET"


class HttpRequest(msgspec.Struct, kw_only=True):
    """One HTTP request.

    Attributes:
        method: Upper case.
        path: The registered pattern, for example ``/s/:code``.
        url_path: The path that was really asked for, percent-decoded.
        path_params: Values of the pattern's parameters, percent-decoded.
        query_params: Last value of each name.
        headers: Lower-case names, last value of each.
        body: The parsed JSON body; `None` if it is absent, not JSON, or of another content type.
        trigger: Which route fired.
        request_body: Reading end of a channel with the raw bytes, when there is a body.
        response: Writing end of a channel for a streamed response.
    """

    method: str = "GET"
    path: str = "/"
    url_path: str = "/"
    path_params: dict[str, str] = {}
    query_params: dict[str, str] = {}
    headers: dict[str, str] = {}
    body: Any = None
    trigger: HttpTriggerInfo = msgspec.field(default_factory=HttpTriggerInfo)
    request_body: ChannelRef | None = None
    response: ChannelRef | None = None


class HttpResponse(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One HTTP response.

    Attributes:
        status_code: 100..999.
        headers: A map, or a list of ``"Name: value"`` strings where a name has to be repeated.
        body: Any JSON value. A string goes out as it is when `headers` has a content type; otherwise JSON.
            Left out: an empty JSON object, or no body where the status forbids one.
    """

    status_code: int = 200
    headers: dict[str, str] | list[str] = {}
    body: Any | msgspec.UnsetType = msgspec.UNSET
