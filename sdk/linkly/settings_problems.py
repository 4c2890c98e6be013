"""Every reason why a `config:` block does not fit its settings, each with the keys that lead to it.

msgspec stops at the first reason. What it names is noted and taken out of a copy, and the rest is checked again. This
module knows types and plain data, neither files nor workers.
"""

from __future__ import annotations

import copy
import re
from typing import Any, TypeAlias, cast

import msgspec
from msgspec import inspect

from linkly.plain_words import in_plain_words, unknown_key

Place: TypeAlias = list[str | int]

LIMIT = 100
"""How many errors of one block are looked for."""

_AT = re.compile(r"(.*) - at `(key` in `)?\$(.*)`", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_NAMED = re.compile(r"([\w-]+(?:\.[\w-]+)*): ")


def problems_in(settings_type: type[Any], block: object) -> list[tuple[Place, str]]:
    """Return place and reason of everything that does not fit; empty if the block fits.

    Args:
        settings_type: A Struct.
        block: Plain data; it is not changed.
    """
    rest: Any = copy.deepcopy(block)
    indexes: dict[int, list[int]] = {}  # of lists that something was taken out of: where the items stood
    taken: set[int] = set()  # mappings that a known key was taken out of, and that lack it since
    found: list[tuple[Place, str]] = []
    while len(found) < LIMIT:
        try:
            msgspec.convert(rest, type=settings_type)
            break
        except msgspec.ValidationError as error:
            place, reason = _understood(settings_type, rest, str(error))
        container, inside = _follow(rest, place)
        unknown, missing = _UNKNOWN.fullmatch(reason), _MISSING.fullmatch(reason)
        if unknown is not None and isinstance(inside, dict):
            key = next((key for key in inside if str(key) == unknown[1]), unknown[1])
            said = unknown_key(key, _fields(settings_type, place))
            found.append(([*_written(rest, place, indexes), key], said))
            if key not in inside:
                break
            del inside[key]
            continue
        whole = isinstance(inside, dict) and (missing is not None or not reason.startswith(("Expected", "Object")))
        named = [] if missing is not None or not whole else _named(cast("dict[str, Any]", inside), reason)
        if not (whole and id(_follow(inside, named)[1]) in taken):
            said = in_plain_words(reason, inside)
            if named:
                said = reason[len(".".join(map(str, named))) + 2 :]
            elif missing is not None:
                said = f"`{missing[1]}` is missing"
            found.append(([*_written(rest, place, indexes), *named], said + _allowed(settings_type, place, reason)))
        if not place:
            break
        last = place[-1]
        if isinstance(container, list):
            indexes.setdefault(id(container), list(range(len(container)))).pop(cast("int", last))
            container.pop(cast("int", last))
        elif isinstance(container, dict) and last in container:
            del container[last]
            taken.add(id(container))
        else:
            break
    return found


def path_of(place: Place) -> str:
    """Return a place as it is written behind `$`: `.pool.max`, `.hosts[1]`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)


def _understood(settings_type: type[Any], block: object, text: str) -> tuple[Place, str]:
    """Return where an error of msgspec is, and what it says."""
    found = _AT.fullmatch(text)
    if found is None:
        return [], text
    reason, path = str(found[1]), str(found[3])
    place: Place = []
    for step in _STEP.finditer(path):
        if step[1] is not None:
            place.append(step[1])
        elif step[2] != "...":
            place.append(int(step[2]))
        else:
            key = _guilty(settings_type, block, place, text)
            if key is None:
                break
            place.append(key)
    return place, reason


def _guilty(settings_type: type[Any], block: object, place: Place, text: str) -> str | None:
    """Return which key of a mapping an error is about: of mappings with any keys msgspec says `[...]` only."""
    keys = list(cast("dict[str, Any]", _follow(block, place)[1] or {}))
    for key in keys:
        alone = copy.deepcopy(block)
        mapping = cast("dict[str, Any]", _follow(alone, place)[1])
        for other in keys:
            if other != key:
                del mapping[other]
        try:
            msgspec.convert(alone, settings_type)
        except msgspec.ValidationError as error:
            if str(error) == text:
                return key
    return None


def _follow(value: Any, place: Place) -> tuple[Any, Any]:
    """Return the container of a place and what stands there; `None` where there is nothing."""
    container: Any = None
    for step in place:
        container, value = value, _item(value, step)
    return container, value


def _item(container: Any, step: str | int) -> Any:
    if isinstance(container, dict):
        return container.get(step)
    if isinstance(container, list) and isinstance(step, int) and step < len(container):
        return container[step]
    return None


def _written(block: Any, place: Place, indexes: dict[int, list[int]]) -> Place:
    """Return a place of what is left as it was in the whole block."""
    written: Place = []
    for step in place:
        written.append(indexes[id(block)][step] if isinstance(step, int) and id(block) in indexes else step)
        block = _item(block, step)
    return written


def _named(mapping: dict[str, Any], reason: str) -> Place:
    """Return the keys that a settings class names itself: `raise ValueError("pool.max: must be even")`."""
    found = _NAMED.match(reason)
    if found is None:
        return []
    place: Place = list(found[1].split("."))
    value: Any = mapping
    for step in place:
        if not isinstance(value, dict) or step not in value:
            return []
        value = value[step]
    return place


# --- what is allowed -----------------------------------------------------------------------------------------


def _types(settings_type: type[Any], place: Place) -> list[inspect.Type]:
    """Return what may stand at a place."""
    found = [inspect.type_info(settings_type)]
    for step in place:
        inner: list[inspect.Type] = []
        for each in _alternatives(found):
            if isinstance(each, inspect.StructType):
                inner += [field.type for field in each.fields if field.encode_name == step]
            elif isinstance(each, inspect.DictType):
                inner.append(each.value_type)
            elif isinstance(each, inspect.CollectionType):
                inner.append(each.item_type)
        found = inner
    return _alternatives(found)


def _alternatives(types: list[inspect.Type]) -> list[inspect.Type]:
    flat: list[inspect.Type] = []
    for each in types:
        if isinstance(each, inspect.Metadata):
            flat += _alternatives([each.type])
        elif isinstance(each, inspect.UnionType):
            flat += _alternatives(list(each.types))
        else:
            flat.append(each)
    return flat


def _fields(settings_type: type[Any], place: Place) -> list[str]:
    structs = [each for each in _types(settings_type, place) if isinstance(each, inspect.StructType)]
    return [field.encode_name for each in structs for field in each.fields]


def _allowed(settings_type: type[Any], place: Place, reason: str) -> str:
    if not reason.startswith("Invalid enum value"):
        return ""
    literals = [each for each in _types(settings_type, place) if isinstance(each, inspect.LiteralType)]
    return "; allowed: " + ", ".join(str(value) for each in literals for value in each.values) if literals else ""
