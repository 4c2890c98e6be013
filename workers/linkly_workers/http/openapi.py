"""What a client can ask the gateway for, as an OpenAPI 3.1 document.

It is made from what the routes say about themselves, what their functions say on the bus, and what the gateway itself
answers, and is kept until the routes change. A GET route answers HEAD too, which is not listed.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from http import HTTPStatus
from importlib.metadata import version
from itertools import groupby
from typing import Any

import msgspec
from anyio import to_thread

from linkly import Bus
from linkly.errors import LinklyError
from linkly_workers.http.routes import METHODS, Route, RouteTable
from linkly_workers.http.schemas import COMPONENTS, Schemas, free_name
from linkly_workers.http.trigger import HttpTrigger, RouteDocumentation, Schema

log = logging.getLogger("linkly.http")

JSON = "application/json"
ASK_S = 2.0
ASK_AT_ONCE = 32  # functions that one `engine::functions::info` describes

ANYTHING: dict[str, Any] = {JSON: {"schema": {}}, "*/*": {}}
ENVELOPE: Schema = {
    "title": "GatewayError",
    "description": "Why the gateway did not answer what the function would have.",
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "string", "description": "For programs."},
                "message": {"type": "string", "description": "For people."},
                "error_id": {"type": "string", "description": "Stands in the gateway's log, from status 500 on."},
            },
            "required": ["code", "message"],
        },
        "skipped": {"type": "boolean", "description": "The route's condition was not met."},
    },
    "required": ["error"],
}
# What comes from the gateway whatever the route: no HTTP, too slow, too long, too much; failed calls.
ALWAYS = {"400", "408", "413", "414", "431", "500", "503", "504"}

Key = tuple[str, str]


class OpenApi:
    """The document of a gateway.

    Args:
        bus: Where to ask what the functions say about themselves.
        routes: What can be asked for.
        middleware: Whether functions run before every function; they may answer anything.
    """

    def __init__(self, bus: Bus, routes: RouteTable, *, middleware: bool) -> None:
        self._bus = bus
        self._routes = routes
        self._middleware = middleware
        self._known: tuple[int, bytes] | None = None

    async def read(self) -> bytes:
        """Return the document of the routes as they are now, as JSON."""
        now = self._routes.version
        if self._known is not None and self._known[0] == now:
            return self._known[1]
        routes = list(self._routes)
        functions = await self._describe({_function(route) for route in routes})
        document = await to_thread.run_sync(
            lambda: msgspec.json.encode(make_document(routes, functions, middleware=self._middleware))
        )
        # A function that could not be described may be registered any moment.
        if all(_function(route) in functions for route in routes):
            self._known = (now, document)
        return document

    async def _describe(self, wanted: set[Key]) -> dict[Key, dict[str, Any]]:
        """Ask the engine; what it does not know, or does not say in time, is left out."""
        asked: list[tuple[str, list[str]]] = []
        for namespace, keys in groupby(sorted(wanted), key=lambda key: key[0]):
            ids = [function_id for _, function_id in keys]
            asked += [(namespace, ids[at : at + ASK_AT_ONCE]) for at in range(0, len(ids), ASK_AT_ONCE)]
        answers = await asyncio.gather(*(self._ask(namespace, ids) for namespace, ids in asked))
        return {
            (namespace, row["function_id"]): row
            for (namespace, _), rows in zip(asked, answers, strict=True)
            for row in rows
            if "error" not in row
        }

    async def _ask(self, namespace: str, ids: list[str]) -> list[dict[str, Any]]:
        try:
            answer = await self._bus.trigger(
                "engine::functions::info",
                {"function_ids": ids, "namespace": namespace},
                result_type=dict[str, list[dict[str, Any]]],
                timeout_s=ASK_S,
            )
        except LinklyError as error:
            log.warning("/openapi.json goes without descriptions: %s", error)
            return []
        return answer.get("functions", [])


def make_document(
    routes: list[Route], functions: dict[Key, dict[str, Any]], *, middleware: bool = False
) -> dict[str, Any]:
    """Return the document.

    Args:
        routes: What can be asked for.
        functions: (namespace, function id) -> its `engine::functions::info`, where there is one.
        middleware: Whether functions run before every function.
    """
    schemas = Schemas()
    schemas.add(ENVELOPE)
    several = Counter(_function(route) for route in routes)
    paths: dict[str, dict[str, Any]] = {}
    operation_ids: set[str] = set()
    # Paths that differ only in the names of their parameters are one path in OpenAPI.
    for _, same in groupby(sorted(routes, key=_order), key=lambda route: route.shape):
        item: dict[str, Any] = {}
        names: list[str] = []
        for route in same:
            if not item:
                names = [part[1:] for part in route.segments if part.startswith(":")]
                template = "/" + "/".join(
                    f"{{{part[1:]}}}" if part.startswith(":") else part for part in route.segments
                )
                paths[template] = item
            name = route.binding.function_id
            if several[_function(route)] > 1:
                name += f"_{route.method.lower()}_{route.pattern}"
            name = free_name(_identifier(name), operation_ids)
            operation_ids.add(name)
            operation = _Operation(route, functions.get(_function(route), {}), schemas, middleware=middleware)
            try:
                described = operation.describe(names)
            except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
                log.warning("/openapi.json: what `%s` says of itself is no JSON Schema: %r", operation.name, error)
                described = operation.without_words(names)
            item[route.method.lower()] = {"operationId": name, **described}
    return {
        "openapi": "3.1.0",
        "info": {"title": "linkly", "version": version("linkly")},
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in sorted({_group(route) for route in routes})],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "responses": {"GatewayError": {"description": ENVELOPE["description"], "content": _envelope()}},
        },
    }


class _Operation:
    """One route."""

    def __init__(self, route: Route, function: dict[str, Any], schemas: Schemas, *, middleware: bool) -> None:
        config: HttpTrigger = route.binding.config
        self._route = route
        self._function = function
        self._told = RouteDocumentation()
        self._description: str = function.get("description") or ""
        self._schemas = schemas
        self._middleware = middleware or bool(config.middleware_function_ids)
        self._own = ALWAYS | {"422"} if config.condition_function_id is not None else ALWAYS

    @property
    def name(self) -> str:
        """For people who look for it."""
        return f"{self._route.method} {self._route.pattern}"

    def describe(self, names: list[str]) -> dict[str, Any]:
        """Return the operation object, without its id.

        Args:
            names: Of the path's parameters.

        Raises:
            AttributeError, LookupError, TypeError, ValueError, RecursionError: A schema that it was given is none.
        """
        self._told = _told(self._route, self._function)
        return self._describe(names)

    def without_words(self, names: list[str]) -> dict[str, Any]:
        """Return what is known anyway, so that one worker's mistake does not hide the routes of all."""
        self._told = RouteDocumentation()
        return self._describe(names)

    def _describe(self, names: list[str]) -> dict[str, Any]:
        told = self._told
        described: dict[str, Any] = {}
        summary = told.summary or self._description.partition("\n")[0]
        if summary:
            described["summary"] = summary
        if self._description and self._description != summary:
            described["description"] = self._description
        # A segment is never empty: that would be another path.
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ]
        parameters += [] if told.query is None else self._query(told.query)
        if parameters:
            described["parameters"] = parameters
        if told.body is not None:
            content = {JSON: {"schema": self._schemas.add(told.body)}}
            described["requestBody"] = {"required": True, "content": content}
        return {"tags": [_group(self._route)], **described, "responses": self._responses()}

    def _query(self, query: Schema) -> list[dict[str, Any]]:
        required: list[str] = query.get("required", [])
        parameters: list[dict[str, Any]] = []
        for name, schema in self._schemas.fields(query).items():
            schema = _never_null(schema)
            parameter: dict[str, Any] = {"name": name, "in": "query", "required": name in required}
            if "description" in schema:
                parameter["description"] = schema.pop("description")
            parameters.append({**parameter, "schema": schema})
        return parameters

    def _responses(self) -> dict[str, Any]:
        answers = self._told.answers
        anything = {"description": "What the function answers, or the gateway's error.", "content": ANYTHING}
        if not answers:
            return {"default": anything}
        responses = {status: self._response(status, contents) for status, contents in sorted(answers.items())}
        if not any(status[0] in "23" for status in answers):
            responses["2XX"] = anything
        # Middleware answers in the function's place, and does not say what.
        responses.setdefault(
            "default", anything if self._middleware else {"$ref": "#/components/responses/GatewayError"}
        )
        return responses

    def _response(self, status: str, contents: dict[str, Schema]) -> dict[str, Any]:
        description = _phrase(status)
        if len(contents) == 1:
            description = next(iter(contents.values())).get("description") or description
        content = {media_type: {"schema": self._schemas.add(schema)} for media_type, schema in contents.items()}
        if status in self._own or status in ("4XX", "5XX", "default"):
            own = _envelope()[JSON]
            content[JSON] = {"schema": _either(content[JSON]["schema"], own["schema"])} if JSON in content else own
        return {"description": description, **({"content": content} if content else {})}


def _told(route: Route, function: dict[str, Any]) -> RouteDocumentation:
    """Return what is known of a route: where it is silent, its function's request schema may know the body."""
    config: HttpTrigger = route.binding.config
    told = config.openapi or RouteDocumentation()
    request: dict[str, Any] = function.get("request_schema") or {}
    properties = request.get("properties")
    body = properties.get("body") if isinstance(properties, dict) else None
    if told.body is not None or route.method not in ("POST", "PUT", "PATCH") or not isinstance(body, dict):
        return told
    if not body.keys() & {"$ref", "type", "anyOf", "oneOf", "allOf"}:
        return told
    definitions = {key: request[key] for key in ("$defs", "definitions") if key in request}
    return msgspec.structs.replace(told, body={**body, **definitions})


def _never_null(schema: Schema) -> Schema:
    """Return a query parameter's schema: text cannot be null, it can only be left out."""
    kept = dict(schema)
    if kept.get("default", ...) is None:
        del kept["default"]
    for key in ("anyOf", "oneOf"):
        if isinstance(choices := kept.get(key), list):
            choices = [each for each in choices if each != {"type": "null"}]
            del kept[key]
            kept = {**kept, key: choices} if len(choices) != 1 else {**choices[0], **kept}
    if isinstance(types := kept.get("type"), list):
        kept["type"] = [each for each in types if each != "null"]
    return kept


def _either(first: Schema, second: Schema) -> Schema:
    return {"anyOf": [*(first["anyOf"] if first.keys() == {"anyOf"} else [first]), second]}


def _envelope() -> dict[str, Any]:
    return {JSON: {"schema": {"$ref": COMPONENTS + "GatewayError"}}}


def _phrase(status: str) -> str:
    try:
        return HTTPStatus(int(status)).phrase
    except ValueError:
        return "Any other answer." if status == "default" else f"Status {status}"


def _function(route: Route) -> Key:
    return route.binding.namespace, route.binding.function_id


def _group(route: Route) -> str:
    return route.binding.function_id.partition("::")[0]


def _order(route: Route) -> tuple[Any, ...]:
    return route.shape, METHODS.index(route.method)


def _identifier(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    return name if name and not name[0].isdigit() else f"_{name}"
