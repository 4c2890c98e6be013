"""The route table: method and path -> binding. Pure (docs/workers.md#http).

A static segment beats a parameter at the same position. `links` and `/links` are one route, `/a` and `/a/` are two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import msgspec

from linkly.errors import TriggerRegistrationFailed
from linkly.http import HttpTriggerInfo
from linkly.trigger import Binding

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")


class Route(msgspec.Struct, frozen=True, eq=False):
    """One route.

    Attributes:
        method: Upper case.
        pattern: As it was registered, with a leading slash.
        segments: Between the slashes; a parameter starts with `:`.
        binding: What it leads to.
        info: What its function is told of it.
        parameter: The name of the last segment, if that is a parameter.
    """

    method: str
    pattern: str
    segments: tuple[str, ...]
    binding: Binding
    info: HttpTriggerInfo
    parameter: str

    @property
    def shape(self) -> tuple[str, ...]:
        """The segments without the names of the parameters."""
        return tuple(":" if part.startswith(":") else part for part in self.segments)


class Match(msgspec.Struct, frozen=True):
    """A route and the values of its parameters, percent-decoded."""

    route: Route
    path_params: dict[str, str]


class _Node:
    __slots__ = ("parameter", "routes", "static")

    def __init__(self) -> None:
        self.static: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.routes: dict[str, Route] = {}


class RouteTable:
    """All routes of a gateway.

    Attributes:
        version: Another number whenever the routes have changed.
    """

    def __init__(self) -> None:
        self.version = 0
        self._root = _Node()
        self._by_binding: dict[str, Route] = {}
        # Routes without a parameter by their path, and those whose last segment is the only one by what stands before
        # it: 0.6 us a look-up, where the tree takes 4.
        self._static: dict[tuple[str, str], Route] = {}
        self._by_prefix: dict[tuple[str, str], Route] = {}

    def __len__(self) -> int:
        return len(self._by_binding)

    def __iter__(self) -> Iterator[Route]:
        return iter(list(self._by_binding.values()))

    def add(self, method: str, path: str, binding: Binding) -> Route:
        """Add a route; the same route again replaces the earlier one.

        Raises:
            TriggerRegistrationFailed: The method or the pattern cannot be used, or a route of the same structure
                names its parameters differently.
        """
        route = _parse(method, path, binding)
        node = self._root
        for part in route.segments:
            if part.startswith(":"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.static.setdefault(part, _Node())
        known = node.routes.get(route.method)
        if known is not None and known.segments != route.segments:
            raise TriggerRegistrationFailed(
                f"route `{route.method} {route.pattern}` conflicts with already-registered route "
                f"`{known.method} {known.pattern}`: identical structure with different parameter names is unsupported"
            )
        if known is not None:
            self._by_binding.pop(known.binding.id, None)
        node.routes[route.method] = route
        index, key = self._index_of(route)
        index[key] = route
        self._by_binding[binding.id] = route
        self.version += 1
        return route

    def remove(self, binding_id: str) -> Route | None:
        """Remove a binding's route and return it; `None` if there is none, or another binding has replaced it."""
        route = self._by_binding.pop(binding_id, None)
        if route is not None:
            self.version += 1
            self._forget(route)
        return route

    def _index_of(self, route: Route) -> tuple[dict[tuple[str, str], Route], tuple[str, str]]:
        """Return where a route stands beside the tree, and by which key; the place is of no use if there is none."""
        parameters = [part.startswith(":") for part in route.segments]
        if True not in parameters:
            return self._static, (route.method, route.pattern)
        if True not in parameters[:-1]:
            return self._by_prefix, (route.method, route.pattern[: route.pattern.rfind("/") + 1])
        return {}, ("", "")

    def _forget(self, route: Route) -> None:
        index, key = self._index_of(route)
        if index.get(key) is route:
            del index[key]
        way = [self._root]
        for part in route.segments:
            child = way[-1].parameter if part.startswith(":") else way[-1].static.get(part)
            if child is None:
                return
            way.append(child)
        if way[-1].routes.get(route.method) is route:
            del way[-1].routes[route.method]
        # What leads nowhere now goes, so that a gateway whose routes come and go does not grow.
        for parent, part, node in reversed(list(zip(way, route.segments, way[1:], strict=False))):
            if node.routes or node.static or node.parameter:
                return
            if part.startswith(":"):
                parent.parameter = None
            else:
                del parent.static[part]

    def find(self, method: str, raw_path: str) -> Match | list[str] | None:
        """Return the match; the allowed methods if only the method is wrong; `None` if there is no such path.

        Args:
            method: Upper case. HEAD is answered by a GET route.
            raw_path: Not yet percent-decoded, so that `%2F` stays inside its segment.
        """
        if "%" not in raw_path:
            also = "GET" if method == "HEAD" else method
            route = self._static.get((method, raw_path)) or self._static.get((also, raw_path))
            if route is not None:
                return Match(route, {})
            cut = raw_path.rfind("/") + 1
            before = raw_path[:cut]
            route = self._by_prefix.get((method, before)) or self._by_prefix.get((also, before))
            if route is not None and cut < len(raw_path):
                return Match(route, {route.parameter: raw_path[cut:]})
        return self._search(method, raw_path)

    def _search(self, method: str, raw_path: str) -> Match | list[str] | None:
        parts = raw_path[1:].split("/") if raw_path != "/" else []
        values: list[str] = []
        allowed: set[str] = set()
        node = self._walk(self._root, parts, 0, values, method, allowed)
        if node is not None:
            route = node.routes.get(method) or node.routes["GET"]
            names = [part[1:] for part in route.segments if part.startswith(":")]
            return Match(route, dict(zip(names, map(unquote, values), strict=True)))
        return sorted(allowed) if allowed else None

    def _walk(
        self, node: _Node, parts: list[str], index: int, values: list[str], method: str, allowed: set[str]
    ) -> _Node | None:
        if index == len(parts):
            if method in node.routes or (method == "HEAD" and "GET" in node.routes):
                return node
            allowed.update(node.routes)
            if "GET" in node.routes:
                allowed.add("HEAD")
            return None
        part = parts[index]
        child = node.static.get(part) or node.static.get(unquote(part))
        if child is not None:
            found = self._walk(child, parts, index + 1, values, method, allowed)
            if found is not None:
                return found
        if node.parameter is not None and part:
            values.append(part)
            found = self._walk(node.parameter, parts, index + 1, values, method, allowed)
            if found is not None:
                return found
            values.pop()
        return None


def _parse(method: str, path: str, binding: Binding) -> Route:
    upper = method.upper()
    if upper not in METHODS:
        raise TriggerRegistrationFailed(f"http_method `{method}` is unknown; allowed: {', '.join(METHODS)}")
    pattern = "/" + path.lstrip("/")
    segments: tuple[str, ...] = tuple(pattern[1:].split("/")) if pattern != "/" else ()
    names = [part[1:] for part in segments if part.startswith(":")]
    problem: Any = None
    if any(not name for name in names):
        problem = "a parameter has no name"
    elif len(set(names)) != len(names):
        problem = "a parameter's name stands twice"
    elif any(letter in pattern for letter in "{}*?#"):
        problem = "a parameter is written `:name`; `{}`, `*`, `?` and `#` mean nothing here"
    if problem is not None:
        raise TriggerRegistrationFailed(f"api_path `{path}`: {problem}")
    info = HttpTriggerInfo(path=pattern, method=upper)
    return Route(upper, pattern, segments, binding, info, segments[-1][1:] if segments else "")
