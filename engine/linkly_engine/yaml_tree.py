"""YAML that knows on which line each path stands, so that an error can say `file:line: $.workers[2].config.port`.

Shared by config.yaml and worker manifests. It knows text only: neither what the keys mean nor where the text is from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from linkly.errors import ConfigError
from linkly_engine.placeholders import Masked, Missing
from linkly_engine.scalars import Loader, Written, tag_of


class Tree:
    """Parsed YAML that knows on which line each path stands, and how each scalar was written.

    Args:
        text: YAML.
        file: Its name in error messages.
        variables: For `${NAME:default}` in its scalars; default: there are no placeholders.
        keep_missing: A placeholder without a value stands for itself.

    Attributes:
        value: Plain data; `None` for an empty document.

    Raises:
        ConfigError: From the constructor: the text is not valid YAML, a key stands twice, an alias contains itself.
    """

    def __init__(
        self, text: str, file: str, *, variables: Mapping[str, str] | None = None, keep_missing: bool = False
    ) -> None:
        self._file = file
        self._lines: dict[str, int] = {}
        self._written: dict[str, Written] = {}
        masked = Masked(text, variables, keep_missing=keep_missing)
        try:
            loader = Loader(masked.text)
            try:
                node = loader.get_single_node()
                self._one_placeholder = _fill(node, masked, loader)
                if node is not None:
                    self._walk(node, "$", set())
                self.value: Any = None if node is None else loader.construct_document(node)
            finally:
                loader.dispose()
        except Missing as error:
            raise ConfigError(f"{file}:{error.line}: {error}") from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark is not None else ""
            reason = getattr(error, "problem", None) or str(error)
            raise ConfigError(f"{file}{line}: not valid YAML: {reason}") from error
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise ConfigError(f"{file}: not valid YAML: {error}") from error

    def written(self, path: str) -> Written | None:
        """Return the scalar at `path` as it was written; `None`: there is none."""
        return self._written.get(path)

    def text(self, path: str, value: Any) -> Any:
        """Return a value that is to be text: what was written, where YAML gave it another type by its looks."""
        written = self._written.get(path)
        return value if value is None or written is None else written.text

    def number(self, path: str, value: Any) -> Any:
        """Return a value that is to be a number, also in quotes if these surround one placeholder."""
        written = self._written.get(path)
        return written.as_number_or_bool() if written is not None and isinstance(value, str) else value

    def _walk(self, node: yaml.Node, path: str, above: set[int]) -> None:
        if isinstance(node, yaml.ScalarNode):
            plain = node.style is None or id(node) in self._one_placeholder
            self._written.setdefault(path, Written(node.value, plain=plain))
        self._lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in above:
            raise ConfigError(f"{self.where(path)}: an alias contains itself")
        inside = above | {id(node)}
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, child in node.value:
                name = str(key.value)
                self._lines.setdefault(f"{path}.{name}", key.start_mark.line + 1)
                if name in keys:
                    raise self.error(f"{path}.{name}", "this key stands here twice", key.start_mark.line + 1)
                keys.add(name)
                self._walk(child, f"{path}.{name}", inside)
        elif isinstance(node, yaml.SequenceNode):
            for index, child in enumerate(node.value):
                self._walk(child, f"{path}[{index}]", inside)

    def where(self, path: str) -> str:
        """Return `file:line: path`."""
        line = self._lines.get(path)
        return f"{self._file}:{line}: {path}" if line is not None else f"{self._file}: {path}"

    def error(self, path: str, reason: str, line: int | None = None) -> ConfigError:
        """Make the error for what stands at `path`."""
        where = self.where(path) if line is None else f"{self._file}:{line}: {path}"
        return ConfigError(f"{where}: {reason}")


def _fill(top: yaml.Node | None, masked: Masked, loader: Loader) -> set[int]:
    """Fill placeholders in; return the scalars (their `id`) that are one placeholder and nothing else."""
    found: set[int] = set()
    seen: set[int] = set()
    left: list[yaml.Node] = [] if top is None else [top]
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            left += [each for pair in node.value for each in pair]
        elif isinstance(node, yaml.SequenceNode):
            left += node.value
        elif isinstance(node, yaml.ScalarNode) and masked.holds(node.value):
            if masked.is_one(node.value):
                found.add(id(node))
            node.value = masked.fill(node.value)
            if node.style is None:
                node.tag = tag_of(loader, node.value)
    return found


def kind(value: object) -> str:
    """Name what was found where something else was expected."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    return f"{type(value).__name__} {value!r}"
