"""YAML scalars: what a word without quotes means, with the type that is wanted and without.

Where no type is wanted, the rules of YAML 1.2 hold: `no`, `on`, `0755`, `12:30` and `2026-01-01` are
text. A setting that is text gets what was written, `1.10` included; one that is a number or true/false takes every
spelling that cannot be misread (`yes`, `1_000`; not `0755`, which is 493 to YAML 1.1).
"""

from __future__ import annotations

import re
from typing import Any

import yaml

BOOL = "tag:yaml.org,2002:bool"
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class Loader(yaml.SafeLoader):
    """Reads YAML with the core schema of YAML 1.2 (10.3.2)."""


Loader.yaml_implicit_resolvers = {"<": yaml.SafeLoader.yaml_implicit_resolvers["<"]}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]{0,99})|0o[0-7]{1,99}|0x[0-9a-fA-F]{1,99}", "-+0123456789"),
    (
        "float",
        r"[-+]?((0|[1-9][0-9]*)?\.[0-9]+|(0|[1-9][0-9]*)\.)([eE][-+]?[0-9]+)?|[-+]?(0|[1-9][0-9]*)[eE][-+]?[0-9]+"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})\\Z"), list(_first))


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = node.value
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


Loader.add_constructor("tag:yaml.org,2002:int", _int)
Loader.add_constructor("tag:yaml.org,2002:float", _float)


def tag_of(loader: yaml.SafeLoader, text: str) -> str:
    """Return the type that a loader gives to a word without quotes."""
    untyped: Any = loader
    return str(untyped.resolve(yaml.ScalarNode, text, (True, False)))


class Written:
    """A scalar as it stands in the file.

    Attributes:
        text: Without quotes, placeholders filled in.
        plain: It may be of another type than text: it has no quotes, or they surround one placeholder.
    """

    __slots__ = ("plain", "text")

    def __init__(self, text: str, *, plain: bool) -> None:
        self.text = text
        self.plain = plain

    def as_number_or_bool(self) -> Any:
        """Return the number or boolean that it spells, for a setting of that type; else its text."""
        if not self.plain:
            return self.text
        if tag_of(yaml.SafeLoader(""), self.text) == BOOL:
            return self.text.lower() in ("yes", "true", "on")
        text = self.text.replace("_", "")
        loader = Loader("")
        tag = tag_of(loader, text)
        return loader.construct_object(yaml.ScalarNode(tag, text)) if tag in NUMBERS else self.text
