"""Schemas of many routes -> one set of `components/schemas`. Pure.

A route's schema brings its definitions along (`$defs`, in older drafts `definitions`), anywhere in it. The document has
each of them once for each worker, whose name stands before its own: `link.Link`. Definitions of one worker that differ
and have one name are numbered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import count
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

    def add(self, schema: Schema, worker: str) -> Schema:
        """Return what stands in the document in the place of a schema that stands alone.

        An object with a title becomes a component of that name. A reference that leads nowhere means any value.
        """
        moved: Schema = self._moved(schema, {}, worker)
        return moved

    def fields(self, schema: Schema, worker: str) -> dict[str, Schema]:
        """Return the properties of an object that is no component itself."""
        scope = _scope(schema, {})
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            return {}
        return {name: self._moved(part, scope, worker) for name, part in properties.items() if isinstance(part, dict)}

    def _moved(self, schema: Any, scope: Scope, worker: str) -> Any:
        if not isinstance(schema, dict):
            return schema
        scope = _scope(schema, scope)
        title = schema.get("title")
        if isinstance(title, str) and isinstance(schema.get("properties"), dict):
            own = _without_definitions(schema)
            if scope.get(title, own) == own:
                return {"$ref": COMPONENTS + self._component(title, {**scope, title: own}, worker)}
        return self._rewritten(cast("Schema", schema), scope, worker)

    def _rewritten(self, schema: Schema, scope: Scope, worker: str) -> Schema:
        """Return the schema with everything below it moved."""
        moved = _map_children(_without_definitions(schema), lambda child: self._moved(child, scope, worker))
        reference = moved.pop("$ref", None)
        if reference is not None:
            target = _target(reference, scope)
            if target is not None:
                moved["$ref"] = COMPONENTS + self._component(target, scope, worker)
        discriminator = moved.get("discriminator")
        if isinstance(discriminator, dict) and isinstance(discriminator.get("mapping"), dict):
            mapping = {
                tag: COMPONENTS + self._component(target, scope, worker)
                for tag, reference in discriminator["mapping"].items()
                if (target := _target(reference, scope)) is not None
            }
            moved["discriminator"] = {**discriminator, "mapping": mapping}
        return moved

    def _component(self, name: str, scope: Scope, worker: str) -> str:
        """Return the name of the component that `name` means in this scope; makes it if there is none yet."""
        meaning = msgspec.json.encode([worker, name, _reached(name, scope)], order="deterministic")
        if meaning in self._names:
            return self._names[meaning]
        prefixed = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{worker}.{name}")
        unique = next(each for each in numbered(prefixed) if each not in self.components)
        self._names[meaning] = unique
        self.components[unique] = {}  # before its parts: it may refer to itself
        definition = scope[name]
        if isinstance(definition, dict):
            self.components[unique] = self._rewritten(definition, _scope(definition, scope), worker)
        return unique


def numbered(name: str) -> Iterator[str]:
    """Return names: itself, then itself with the numbers from 2 on."""
    yield name
    for number in count(2):
        yield f"{name}_{number}"


def _scope(schema: Schema, outer: Scope) -> Scope:
    """Return the definitions that are seen from inside a schema: its own before those around it."""
    found = outer
    for key in _DEFINITIONS:
        own = schema.get(key)
        if isinstance(own, dict):
            found = {**found, **own}
    return found


def _without_definitions(schema: Schema) -> Schema:
    """Return a schema without its definitions, `$schema` and `$id`, which mean nothing inside the document."""
    return {key: value for key, value in schema.items() if key not in (*_DEFINITIONS, "$schema", "$id")}


def _target(reference: Any, scope: Scope) -> str | None:
    """Return which definition a reference leads to."""
    found = _LOCAL.fullmatch(reference) if isinstance(reference, str) else None
    if found is None:
        return None
    name = found[1].replace("~1", "/").replace("~0", "~")
    return name if name in scope else None


def _reached(name: str, scope: Scope) -> Scope:
    """Return a definition and all that it refers to; a text in it that only looks like a reference counts as one."""
    reached: Scope = {}
    waiting = [name]
    while waiting:
        each = waiting.pop()
        if each not in reached:
            reached[each] = scope[each]
            waiting += (target for text in _texts(scope[each]) if (target := _target(text, scope)) is not None)
    return reached


def _texts(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    elif isinstance(part, dict | list):
        for child in part.values() if isinstance(part, dict) else part:
            yield from _texts(child)


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
