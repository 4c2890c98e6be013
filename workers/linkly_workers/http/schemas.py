"""Schemas of many routes -> one set of `components/schemas`. Pure.

A route's schema brings its definitions along (`$defs`, in older drafts `definitions`), anywhere in it. One document
needs each of them once, under a name of its own. Definitions are equal if they, and all that they reach, are equal.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

import msgspec

from linkly_workers.http.trigger import Schema

COMPONENTS = "#/components/schemas/"

# JSON Schema 2020-12: where schemas stand inside a schema. Anything else (`default`, `enum`, ...) is data.
_ONE = {
    "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not", "propertyNames", "then",
    "unevaluatedItems", "unevaluatedProperties",
}  # fmt: skip
_LIST = {"allOf", "anyOf", "oneOf", "prefixItems"}
_MAP = {"dependentSchemas", "patternProperties", "properties"}
_DEFINITIONS = ("$defs", "definitions")
_LOCAL = re.compile(r"#/(?:\$defs|definitions)/([^/]+)")

Scope = dict[str, Any]


class Schemas:
    """The schemas of a document.

    Attributes:
        components: Name -> schema; a `$ref` in it leads to another one of them.
    """

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}
        self._names: dict[bytes, str] = {}

    def add(self, schema: Schema) -> Schema:
        """Take a schema that stands alone; return what stands in its place in the document.

        An object with a title becomes a component of that name. A reference that leads nowhere means any value.
        """
        moved: Schema = self._moved(schema, {})
        return moved

    def fields(self, schema: Schema) -> dict[str, Schema]:
        """Take a schema of an object that is no component itself; return its properties."""
        scope = _scope(schema, {})
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            return {}
        return {name: self._moved(part, scope) for name, part in properties.items() if isinstance(part, dict)}

    def _moved(self, schema: Any, scope: Scope) -> Any:
        if not isinstance(schema, dict):
            return schema
        scope = _scope(schema, scope)
        title = schema.get("title")
        if isinstance(title, str) and isinstance(schema.get("properties"), dict):
            own = _without_definitions(schema)
            if scope.get(title, own) == own:
                return {"$ref": COMPONENTS + self._component(title, {**scope, title: own})}
        return self._rewritten(cast("Schema", schema), scope)

    def _rewritten(self, schema: Schema, scope: Scope) -> Schema:
        """Return the schema with everything below it moved."""
        moved = _map_children(_without_definitions(schema), lambda child: self._moved(child, scope))
        reference = moved.pop("$ref", None)
        if reference is not None:
            target = _target(reference, scope)
            if target is not None:
                moved["$ref"] = COMPONENTS + self._component(target, scope)
        discriminator = moved.get("discriminator")
        if isinstance(discriminator, dict) and isinstance(discriminator.get("mapping"), dict):
            mapping = {
                tag: COMPONENTS + self._component(target, scope)
                for tag, reference in discriminator["mapping"].items()
                if (target := _target(reference, scope)) is not None
            }
            moved["discriminator"] = {**discriminator, "mapping": mapping}
        return moved

    def _component(self, name: str, scope: Scope) -> str:
        """Return the name of the component that `name` means in this scope; makes it if there is none yet."""
        meaning = _meaning(name, scope)
        known = self._names.get(meaning)
        if known is not None:
            return known
        unique = free_name(re.sub(r"[^A-Za-z0-9._-]+", "_", name), self.components)
        self._names[meaning] = unique
        self.components[unique] = {}  # the name is taken: the definition may refer to itself
        definition = scope[name]
        if isinstance(definition, dict):
            self.components[unique] = self._rewritten(definition, _scope(definition, scope))
        return unique


def free_name(name: str, taken: dict[str, Any] | set[str]) -> str:
    """Return the name, with the first number behind it that makes it unique if it is taken."""
    free, number = name, 2
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def _scope(schema: Schema, outer: Scope) -> Scope:
    """Return the definitions that are seen from inside a schema: its own before those around it."""
    found = outer
    for key in _DEFINITIONS:
        own = schema.get(key)
        if isinstance(own, dict):
            found = {**found, **own}
    return found


def _without_definitions(schema: Schema) -> Schema:
    """Leave out what only made sense while the schema stood alone."""
    return {key: value for key, value in schema.items() if key not in (*_DEFINITIONS, "$schema", "$id")}


def _target(reference: Any, scope: Scope) -> str | None:
    """Return which definition a reference leads to."""
    found = _LOCAL.fullmatch(reference) if isinstance(reference, str) else None
    if found is None:
        return None
    name = found[1].replace("~1", "/").replace("~0", "~")
    return name if name in scope else None


def _map_children(schema: Schema, change: Callable[[Any], Any]) -> Schema:
    changed = dict(schema)
    for key, value in schema.items():
        if key == "items" and isinstance(value, list):  # a tuple, before 2020-12
            del changed["items"]
            changed["prefixItems"] = [change(child) for child in value]
        elif key in _ONE and isinstance(value, dict):
            changed[key] = change(value)
        elif key in _LIST and isinstance(value, list):
            changed[key] = [change(child) for child in value]
        elif key in _MAP and isinstance(value, dict):
            changed[key] = {name: change(child) for name, child in value.items()}
    return changed


def _meaning(name: str, scope: Scope) -> bytes:
    """Return a text that two names share only if they mean the same: the definition and all that it reaches."""
    reached: Scope = {}
    waiting = [name]

    def visit(schema: Any) -> Any:
        if isinstance(schema, dict):
            target = _target(schema.get("$ref"), scope)
            if target is not None and target not in reached:
                waiting.append(target)
            _map_children(cast("Schema", schema), visit)
            for key in _DEFINITIONS:
                _map_children({"properties": schema.get(key)}, visit)
        return schema

    while waiting:
        each = waiting.pop()
        if each not in reached:
            reached[each] = scope[each]
            visit(scope[each])
    return msgspec.json.encode([name, reached], order="deterministic")
