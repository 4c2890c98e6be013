"""The triggers of the `http` worker: what a function gets and answers, how it is declared, and what OpenAPI says of it.

Facts: docs/workers.md#http.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from linkly.bus import Bus
from linkly.channel import ChannelRef, ChannelWriter
from linkly.errors import InvalidArguments
from linkly.schema import json_schema
from linkly.trigger import TriggerDeclaration


class HttpTriggerInfo(msgspec.Struct, frozen=True):
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
        scheme: ``http`` or ``https``; behind a proxy that the gateway trusts, what the proxy says it is.
        path_params: Values of the pattern's parameters, percent-decoded.
        query_params: Last value of each name.
        query_string: The query as it was sent, not decoded; left out if there is none.
        headers: Lower-case names, last value of each; all cookies, as one `Cookie` line has them.
        repeated_headers: All values, in their order, of each name that came more than once.
        body: The parsed JSON body; `None` if it is absent, not JSON, or of another content type.
        body_error: Why there is a body and `body` is `None` all the same: a sentence for whoever sent it.
        client_host: Address of the client; behind a proxy that the gateway trusts, what the proxy says it is.
        trigger: Which route fired.
        request_body: Reading end of a channel with the raw bytes, when there is a body.
        response: Writing end of a channel for a streamed response.
    """

    method: str = "GET"
    path: str = "/"
    url_path: str = "/"
    scheme: str = "http"
    path_params: dict[str, str] = {}
    query_params: dict[str, str] = {}
    query_string: str | msgspec.UnsetType = msgspec.UNSET
    headers: dict[str, str] = {}
    repeated_headers: dict[str, list[str]] = {}
    body: Any = None
    body_error: str | None = None
    client_host: str = ""
    trigger: HttpTriggerInfo = msgspec.field(default_factory=HttpTriggerInfo)
    request_body: ChannelRef | None = None
    response: ChannelRef | None = None


class HttpResponse(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One HTTP response.

    Attributes:
        status_code: 200..999.
        headers: A map, where a list of values becomes several lines, or a list of ``"Name: value"`` strings.
        body: Any JSON value. A string goes out as it is when `headers` has a content type; otherwise JSON.
            Left out: an empty JSON object, or no body where the status forbids one.
    """

    status_code: int = 200
    headers: Mapping[str, str | list[str]] | list[str] = {}
    body: Any | msgspec.UnsetType = msgspec.UNSET


class StreamedResponse:
    """A response that is written while it is made; `async with` it.

        @function("report::csv", triggers=[http("GET", "/report.csv", stream=True)])
        async def csv(self, request: HttpRequest) -> None:
            async with StreamedResponse(self.bus, request, headers={"content-type": "text/csv"}) as out:
                async for row in rows():
                    await out.write(row)

    Status and headers leave with the first data, or with the end. A function that streams returns `None`. One that
    fails before its first data is answered as any other that fails.

    Args:
        bus: The worker's.
        request: What the function was given.
        status_code: 200..599.
        headers: For example the content type; there is no default. A list of values becomes several lines.
    """

    def __init__(
        self,
        bus: Bus,
        request: HttpRequest,
        *,
        status_code: int = 200,
        headers: Mapping[str, str | list[str]] | None = None,
    ) -> None:
        self._bus = bus
        self._reference = request.response
        self._status_code = status_code
        self._headers = headers or {}
        self._writer: ChannelWriter | None = None

    async def __aenter__(self) -> StreamedResponse:
        if self._reference is None:
            raise InvalidArguments("this request cannot be streamed; declare its trigger with http(..., stream=True)")
        self._writer = await self._bus.open_writer(self._reference)
        await self._say({"type": "set_status", "status_code": self._status_code})
        await self._say({"type": "set_headers", "headers": self._headers})
        return self

    async def __aexit__(self, failed: object, *exc_info: object) -> None:
        # After a failure the gateway ends it, as a failure: a close would look like the end of a whole response.
        if self._writer is not None and failed is None:
            await self._writer.close()

    async def write(self, data: bytes | str) -> None:
        """Send a part of the body; waits while the client does not read.

        Raises:
            ConnectionLost: The client has gone.
        """
        if self._writer is None:
            raise InvalidArguments("write inside `async with`")
        await self._writer.write(data.encode() if isinstance(data, str) else data)

    async def event(
        self, data: object, *, event: str | None = None, event_id: str | None = None, retry_ms: int | None = None
    ) -> None:
        """Send a server-sent event (HTML 9.2.6); give the content type `text/event-stream`.

        Args:
            data: Text, or a value that is sent as JSON.
            event: Its type.
            event_id: What the browser says it has seen when it comes back.
            retry_ms: How long it waits before it comes back.

        Raises:
            InvalidArguments: A type or id has a line break in it.
            ConnectionLost: The client has gone.
        """
        lines: list[str] = []
        for name, value in (("event", event), ("id", event_id), ("retry", retry_ms)):
            if value is not None:
                if "\n" in str(value) or "\r" in str(value):
                    raise InvalidArguments(f"{name} {value!r}: must be one line")
                lines.append(f"{name}: {value}")
        text = data if isinstance(data, str) else msgspec.json.encode(data).decode()
        lines += [f"data: {line}" for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
        await self.write("\n".join(lines) + "\n\n")

    async def _say(self, message: dict[str, Any]) -> None:
        if self._writer is not None:
            await self._writer.send_text(msgspec.json.encode(message).decode())


class Media(msgspec.Struct, frozen=True):
    """A body that is not JSON, for `http(answers=...)`.

    Attributes:
        media_type: For example ``image/svg+xml``.
        description: One line for people.
    """

    media_type: str
    description: str = ""


def documentation(
    *,
    summary: str | None = None,
    body: Any = None,
    query: Any = None,
    answers: dict[int, Any] | None = None,
) -> dict[str, Any]:
    """Return what a route says about itself as plain data, so that it can travel in its trigger's config.

    The arguments are those of `http`.

    Returns:
        ``{"summary": text, "body": schema, "query": schema, "answers": {"200": {media type: schema}}}``, without
        the keys that were not given. A schema is JSON Schema 2020-12, its definitions in ``$defs``.

    Raises:
        TypeError: A type has no JSON form, `query` has no fields, or a status is none.
    """
    told: dict[str, Any] = {}
    if summary is not None:
        told["summary"] = summary
    if body is not None:
        told["body"] = json_schema(body)
    if query is not None:
        told["query"] = json_schema(query)
        if "properties" not in told["query"]:
            raise TypeError(
                f"query={query!r}: must be a Struct, dataclass or TypedDict whose fields are the parameters"
            )
    if answers is not None:
        told["answers"] = {str(status): _contents(status, answer) for status, answer in answers.items()}
    return told


def _contents(status: int, answer: Any) -> dict[str, Any]:
    if type(status) is not int or not 100 <= status <= 599:
        raise TypeError(f"answers: {status!r} is no HTTP status; the keys are 100 to 599")
    contents: dict[str, Any] = {}
    for one in answer if isinstance(answer, tuple) else (answer,):
        if isinstance(one, Media):
            described = {"description": one.description} if one.description else {}
            contents[one.media_type] = {"type": "string", **described}
        elif one is not None:
            known = contents.get("application/json")
            schema = json_schema(one)
            contents["application/json"] = schema if known is None else {"anyOf": [known, schema]}
    return contents


def http(
    method: str,
    path: str,
    *,
    condition: str | None = None,
    middleware: tuple[str, ...] = (),
    metadata: dict[str, Any] | None = None,
    summary: str | None = None,
    body: Any = None,
    query: Any = None,
    answers: dict[int, Any] | None = None,
    stream: bool = False,
) -> TriggerDeclaration:
    """Run the function for an HTTP request.

    `summary`, `body`, `query` and `answers` appear in the gateway's `/openapi.json` and change nothing else: the
    function gets an `HttpRequest`, and checks what it needs.

    Args:
        method: `GET`, `POST`, ...
        path: Pattern; `:name` matches one segment.
        condition: Function id; answers literal `false` -> the request is refused with 422.
        middleware: Function ids that run before the function, in this order.
        metadata: Handed to the function with every request.
        summary: One line for people; default: the function's description.
        body: Type of the JSON body.
        query: A Struct, dataclass or TypedDict; its fields are the query parameters.
        answers: Status -> type of the JSON body, `None` for no body, `Media("image/png")` for another one, or a
            tuple of these.
        stream: The function reads the raw body (`request.request_body`) or streams the response
            (`StreamedResponse`). Without it there are no channels to pay for; a body that is not JSON
            comes through `request_body` all the same.

    Raises:
        TypeError: A type cannot be documented (`documentation`).
    """
    config: dict[str, Any] = {"api_path": path, "http_method": method, "stream": stream}
    if condition is not None:
        config["condition_function_id"] = condition
    if middleware:
        config["middleware_function_ids"] = list(middleware)
    told = documentation(summary=summary, body=body, query=query, answers=answers)
    if told:
        config["openapi"] = told
    return TriggerDeclaration(type="http", config=config, metadata=metadata)


class Readiness(msgspec.Struct, kw_only=True):
    """What a function answers that is asked whether its worker can serve.

    Attributes:
        ready: Whether it can.
        reasons: Why not, for people; they are shown to whoever may ask.
    """

    ready: bool
    reasons: list[str] = []


def readiness() -> TriggerDeclaration:
    """Run the function when the gateway is asked whether the project is ready (`/readyz`); it answers `Readiness`."""
    return TriggerDeclaration(type="http::readiness", config={})
