"""Routes and what their functions say on the bus -> an OpenAPI 3.1 document. Pure.

A GET route answers HEAD too, which is not listed. What the gateway itself answers is in every operation.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from http import HTTPStatus
from importlib.metadata import version
from itertools import groupby
from typing import Any

import msgspec

from linkly.bus import DEFAULT_NAMESPACE
from linkly_workers.http.routes import METHODS, Route
from linkly_workers.http.schemas import COMPONENTS, Schemas, numbered
from linkly_workers.http.trigger import HttpTrigger, RouteDocumentation, Schema

log = logging.getLogger("linkly.http")

JSON = "application/json"

Key = tuple[str, str]
"""Namespace and function id."""

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


def function_of(route: Route) -> Key:
    """Return which function a route leads to."""
    return route.binding.namespace, route.binding.function_id


def make_document(
    routes: list[Route], functions: dict[Key, dict[str, Any]], *, middleware: bool = False
) -> dict[str, Any]:
    """Return the document."""
    schemas = Schemas()
    several = Counter(function_of(route) for route in routes)
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
            if several[function_of(route)] > 1:
                name += f"_{route.method.lower()}_{route.pattern}"
            name = next(each for each in numbered(_identifier(name)) if each not in operation_ids)
            operation_ids.add(name)
            function = functions.get(function_of(route), {})
            operation = _Operation(route, function, schemas, middleware=middleware)
            try:
                described = operation.describe(names, _told(route, function))
            except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
                text = "/openapi.json: what `%s %s` says of itself is no JSON Schema: %r"
                log.warning(text, route.method, route.pattern, error)
                described = operation.describe(names, RouteDocumentation())  # one wrong schema does not hide all routes
            item[route.method.lower()] = {"operationId": name, **described}
    return {
        "openapi": "3.1.0",
        "info": {"title": "linkly", "version": version("linkly")},
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in sorted({_group(route) for route in routes})],
        "paths": paths,
        "components": {
            "schemas": {"GatewayError": ENVELOPE, **dict(sorted(schemas.components.items()))},
            "responses": {"GatewayError": {"description": ENVELOPE["description"], "content": _envelope()}},
        },
    }


class _Operation:
    """One route."""

    def __init__(self, route: Route, function: dict[str, Any], schemas: Schemas, *, middleware: bool) -> None:
        config: HttpTrigger = route.binding.config
        self._route = route
        self._description: str = function.get("description") or ""
        self._schemas = schemas
        namespace, group = route.binding.namespace, _group(route)
        self._worker = group if namespace == DEFAULT_NAMESPACE else f"{namespace}.{group}"
        self._middleware = middleware or bool(config.middleware_function_ids)
        self._own = ALWAYS | {"422"} if config.condition_function_id is not None else ALWAYS

    def describe(self, names: list[str], told: RouteDocumentation) -> dict[str, Any]:
        """Return the operation object, without its id.

        Raises:
            AttributeError, LookupError, TypeError, ValueError, RecursionError: A schema that it was given is none.
        """
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
            content = {JSON: {"schema": self._schemas.add(told.body, self._worker)}}
            described["requestBody"] = {"required": True, "content": content}
        return {"tags": [_group(self._route)], **described, "responses": self._responses(told.answers)}

    def _query(self, query: Schema) -> list[dict[str, Any]]:
        required: list[str] = query.get("required", [])
        parameters: list[dict[str, Any]] = []
        for name, schema in self._schemas.fields(query, self._worker).items():
            schema = _never_null(schema)
            parameter: dict[str, Any] = {"name": name, "in": "query", "required": name in required}
            if "description" in schema:
                parameter["description"] = schema.pop("description")
            parameters.append({**parameter, "schema": schema})
        return parameters

    def _responses(self, answers: dict[str, dict[str, Schema]]) -> dict[str, Any]:
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
        content = {
            media_type: {"schema": self._schemas.add(schema, self._worker)} for media_type, schema in contents.items()
        }
        if status in self._own or status in ("4XX", "5XX", "default"):
            own = _envelope()[JSON]
            content[JSON] = {"schema": _either(content[JSON]["schema"], own["schema"])} if JSON in content else own
        return {"description": description, **({"content": content} if content else {})}


def _told(route: Route, function: dict[str, Any]) -> RouteDocumentation:
    """Return a route's documentation; a body that it does not document comes from its function's request schema."""
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


def _group(route: Route) -> str:
    return route.binding.function_id.partition("::")[0]


def _order(route: Route) -> tuple[Any, ...]:
    return route.shape, METHODS.index(route.method)


def _identifier(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    return name if name and not name[0].isdigit() else f"_{name}"
