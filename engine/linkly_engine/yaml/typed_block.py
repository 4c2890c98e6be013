"""A `config:` block with the types of its settings: text as it was written, numbers and booleans in every spelling.

YAML gives a word without quotes a type by its form; the settings know the type that is meant. A value of another type
is read again from the file; one that does not fit stays as it is, and the check of the settings refuses it.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import inspect

from linkly.errors import ConfigError
from linkly.schema import Settings, read_settings
from linkly_engine.yaml.problems import Problems, problems_of
from linkly_engine.yaml.tree import Tree

_NUMBERS = (inspect.IntType, inspect.FloatType, inspect.BoolType)


def typed_block(block: Any, settings: type[msgspec.Struct], tree: Tree, place: str) -> Any:
    """Return a block, which stands at `place` in a tree, with scalars of the types that its settings have."""
    return None if block is None else _typed(block, inspect.type_info(settings), tree, place)


def checked_block(block: Any, settings: type[Settings], tree: Tree, place: str, problems: Problems) -> Any:
    """Return a block as its settings, `None` if it does not fit; `problems` gets what is wrong with it."""
    try:
        return read_settings(settings, typed_block(block, settings, tree, place), "")
    except ConfigError as error:
        for problem in problems_of(error):
            problems.add(tree.error(f"{place}{problem['key']}", problem["reason"]))
        return None


def _typed(value: Any, wanted: inspect.Type, tree: Tree, place: str) -> Any:
    wanted = _bare(wanted)
    choices = tuple(map(_bare, wanted.types)) if isinstance(wanted, inspect.UnionType) else (wanted,)
    if isinstance(value, dict):
        fields: dict[Any, Any] = value
        return {key: _member(key, each, choices, tree, f"{place}.{key}") for key, each in fields.items()}
    if isinstance(value, list):
        items = next((each.item_type for each in choices if isinstance(each, inspect.ListType)), None)
        listed: list[Any] = value
        return [
            each if items is None else _typed(each, items, tree, f"{place}[{index}]")
            for index, each in enumerate(listed)
        ]
    return _scalar(value, choices, tree, place)


def _bare(wanted: inspect.Type) -> inspect.Type:
    """Return a type without its description."""
    while isinstance(wanted, inspect.Metadata):
        wanted = wanted.type
    return wanted


def _member(key: Any, value: Any, choices: tuple[inspect.Type, ...], tree: Tree, place: str) -> Any:
    for choice in choices:
        if isinstance(choice, inspect.StructType):
            for field in choice.fields:
                if field.encode_name == key:
                    return _typed(value, field.type, tree, place)
        elif isinstance(choice, inspect.DictType):
            return _typed(value, choice.value_type, tree, place)
    return value


def _scalar(value: Any, choices: tuple[inspect.Type, ...], tree: Tree, place: str) -> Any:
    written = tree.written(place)
    if written is None or any(isinstance(each, inspect.AnyType) for each in choices):
        return value
    text = any(isinstance(each, (inspect.StrType, inspect.LiteralType)) for each in choices)
    number = any(isinstance(each, _NUMBERS) for each in choices)
    if value is None and any(isinstance(each, inspect.NoneType) for each in choices):
        return value
    if text and not number and not isinstance(value, str):
        return written.text
    if number and not text and isinstance(value, str):
        return written.as_number_or_bool()
    return value
