"""The text of a config.yaml -> where its worker entries stand and what they say.

Positions are offsets into the text as it is written: variables (`${NAME:default}`) are masked by letters of the same
length for them. They may be set in the engine's environment only: in the values, one that is not set in this one's is
kept as it is written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import yaml

from linkly.errors import ConfigError
from linkly.plain_words import kind
from linkly_engine.yaml.placeholders import PATTERN
from linkly_engine.yaml.tree import Tree

LISTS = ("workers", "modules")
"""Top-level keys that list workers; `modules` is the older spelling."""


@dataclass(frozen=True)
class Entry:
    """One worker entry.

    Attributes:
        value: What it says, variables replaced.
        start: Its dash; in a flow list its first character.
        end: Behind its last character that is no comment.
        parts: For each of its keys, where the value stands (start, end).
        gap: Columns between the dash and the first key; 2 in a flow list.
    """

    value: dict[str, Any]
    start: int
    end: int
    parts: dict[str, tuple[int, int]]
    gap: int = 2


@dataclass(frozen=True)
class Listing:
    """One list of entries.

    Attributes:
        key: `workers` or `modules`.
        key_end: Behind the key.
        start: Where the value begins.
        end: Behind the value.
        flow: Written as `[...]`.
        column: Of the dashes; for an empty list: where they would stand.
    """

    key: str
    key_end: int
    start: int
    end: int
    flow: bool
    column: int
    entries: list[Entry] = field(default_factory=list[Entry])


@dataclass(frozen=True)
class Layout:
    """A text that was understood.

    Attributes:
        text: As written.
        file: Its name in messages.
        value: The whole document as plain data; `None` when it says nothing.
        flow: The document itself is written as `{...}`.
        lists: The lists it has, in their order.
    """

    text: str
    file: str
    value: dict[str, Any] | None
    flow: bool
    lists: list[Listing]

    @property
    def entries(self) -> list[Entry]:
        """All entries, in the order in which the engine reads them."""
        ordered = sorted(self.lists, key=lambda listing: LISTS.index(listing.key))
        return [entry for listing in ordered for entry in listing.entries]

    @property
    def line_end(self) -> str:
        """How its lines end."""
        return "\r\n" if "\r\n" in self.text else "\n"


def read(text: str, file: str) -> Layout:
    """Find the worker entries of a text.

    Raises:
        ConfigError: It is not valid YAML, no mapping, or has a list of workers that is none.
    """
    tree = Tree(text, file, variables=os.environ, keep_missing=True)
    value = tree.value
    if value is not None and not isinstance(value, dict):
        raise tree.error("$", f"expected a mapping with `workers:`, got {kind(value)}")
    document = cast("dict[str, Any] | None", value)
    masked = PATTERN.sub(lambda found: re.sub(r"[^\r\n]", "x", found[0]), text)
    try:
        top = _compose(masked)
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: variables are part of its structure; edit it by hand: {error}") from error
    if top is None or not isinstance(top, yaml.MappingNode):
        return Layout(text=text, file=file, value=document, flow=False, lists=[])
    dashes = [
        token.start_mark.index
        for token in yaml.scan(masked, Loader=yaml.SafeLoader)
        if isinstance(token, yaml.BlockEntryToken)
    ]
    lists: list[Listing] = []
    for key, node in top.value:
        if key.value in LISTS:
            said = (document or {}).get(key.value)
            if said is not None and not isinstance(said, list):
                raise tree.error(f"$.{key.value}", f"expected a list of workers, got {kind(said)}")
            lists.append(_listing(masked, tree, key, node, said, dashes))
    return Layout(text=text, file=file, value=document, flow=bool(top.flow_style), lists=lists)


def missing_variables(text: str, variables: Mapping[str, str]) -> set[str]:
    """Return the variables that have no default and are not set."""
    found: list[tuple[str, str | None]] = [(match[1], match[2]) for match in PATTERN.finditer(text)]
    return {name for name, default in found if default is None and name not in variables}


class _Composer(yaml.SafeLoader):
    """Makes nodes whose aliases stand where they are written, not where their anchor is."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event: Any = cast("Any", self).get_event()
            return yaml.ScalarNode("alias", event.anchor, event.start_mark, event.end_mark)
        return super().compose_node(parent, index)


def _compose(text: str) -> yaml.Node | None:
    loader = _Composer(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _listing(
    text: str, tree: Tree, key: yaml.Node, node: yaml.Node, values: list[Any] | None, dashes: list[int]
) -> Listing:
    where = f"$.{key.value}"
    key_end = key.end_mark.index
    listed = node if isinstance(node, yaml.SequenceNode) else None
    start, end = node.start_mark.index, _end(text, node)
    if listed is None and (values is not None or node.tag == "alias"):
        raise tree.error(where, "the list is not written here; edit it by hand")
    flow = listed is not None and bool(listed.flow_style)
    column = key.start_mark.column + 2
    entries: list[Entry] = []
    if listed is not None:
        if len(listed.value) != len(values or []):
            raise tree.error(where, "variables are part of the list; edit it by hand")
        for index, (part, value) in enumerate(zip(listed.value, values or [], strict=True)):
            if not isinstance(value, dict):
                raise tree.error(f"{where}[{index}]", f"expected a mapping such as `- name: state`, got {kind(value)}")
            after = entries[-1].end if entries else key_end
            entries.append(_entry(text, part, cast("dict[str, Any]", value), flow, [d for d in dashes if d >= after]))
        if entries and not flow:
            column = entries[0].start - (text.rfind("\n", 0, entries[0].start) + 1)
    return Listing(
        key=key.value,
        key_end=key_end,
        start=start,
        end=end,
        flow=flow,
        column=column,
        entries=entries,
    )


def _entry(text: str, node: yaml.Node, value: dict[str, Any], flow: bool, dashes: list[int]) -> Entry:
    parts: dict[str, tuple[int, int]] = {}
    if isinstance(node, yaml.MappingNode):
        parts = {str(key.value): (part.start_mark.index, _end(text, part)) for key, part in node.value}
    start = node.start_mark.index
    if flow:
        return Entry(value=value, start=start, end=_end(text, node), parts=parts)
    dash = dashes[0]  # the first behind the entry before: entries of one list stand one below the other
    same_line = "\n" not in text[dash:start]
    gap = start - dash if same_line and isinstance(node, yaml.MappingNode) and not node.flow_style else 2
    return Entry(value=value, start=dash, end=max(_end(text, node), dash + 1), parts=parts, gap=gap)


def _end(text: str, node: yaml.Node) -> int:
    """Return where a node's own text ends; the parser's mark of a block stands behind the comments below it."""
    if isinstance(node, (yaml.SequenceNode, yaml.MappingNode)) and not node.flow_style:
        last: Any = node.value[-1]  # a block has at least one member
        return _end(text, last[1]) if isinstance(last, tuple) else _end(text, last)
    end = int(node.end_mark.index)
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        written = text[node.start_mark.index : end]
        header = written.split("\n", 1)[0].split("#", 1)[0]
        if "+" not in header:  # with it, the empty lines at its end belong to the text
            end = node.start_mark.index + len(written.rstrip())
        else:
            end = node.start_mark.index + len(written.rstrip(" "))
            end -= 1 if text[:end].endswith("\n") else 0
    return end
