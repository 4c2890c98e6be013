"""Config of an `http` trigger."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec

from linkly.origin import read_host, read_origin

Schema: TypeAlias = dict[str, Any]
Status: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^([1-5][0-9]{2}|[1-5]XX|default)$")]


class RouteDocumentation(msgspec.Struct):
    """What a route says about its request and its answers.

    Attributes:
        summary: One line for people.
        body: JSON Schema of the JSON body.
        query: JSON Schema of an object; its properties are the query parameters.
        answers: Status -> media type -> JSON Schema of the body; no media type: no body.
    """

    summary: str | None = None
    body: Schema | None = None
    query: Schema | None = None
    answers: dict[Status, dict[str, Schema]] = {}


class HttpTrigger(msgspec.Struct):
    """Config of an `http` trigger.

    Attributes:
        api_path: Pattern; `:name` matches one segment.
        http_method: GET if left out.
        condition_function_id: Is called with the request first; a literal `false` answers 422.
        middleware_function_ids: Run before the function, in this order.
        stream: Whether the function may use channels; iii's SDKs do not say, so their functions may.
        openapi: What the route says about itself, for `/openapi.json` (`linkly.http.documentation`).
        origin: Where the world reaches the worker that declares this, as `https://s.example`: a host of the gateway,
            whose pages are its own.
        hosts: Further hosts by which the gateway is reached.
    """

    api_path: str
    http_method: str = "GET"
    condition_function_id: str | None = None
    middleware_function_ids: list[str] = []
    stream: bool = True
    openapi: RouteDocumentation | None = None
    origin: str | None = None
    hosts: list[str] = []

    @property
    def is_direct(self) -> bool:
        """Whether a request without a body needs nothing but the function."""
        return not self.stream and self.condition_function_id is None and not self.middleware_function_ids

    def __post_init__(self) -> None:
        if self.origin is not None:
            read_origin(self.origin)
        for host in self.hosts:
            read_host(host)
