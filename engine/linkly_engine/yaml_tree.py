"""YAML that knows on which line each path stands, so that an error can say `file:line: $.workers[2].config.port`.

Shared by config.yaml and worker manifests. It knows text only: neither what the keys mean nor where the text is from.
"""

from __future__ import annotations

from typing import Any

import yaml

from linkly.errors import ConfigError


class Tree:
    """Parsed YAML that knows on which line each path stands.

    Attributes:
        value: Plain data; `None` for an empty document.

    Raises:
        ConfigError: From the constructor: the text is not valid YAML, a key stands twice, an alias contains itself.
    """

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._lines: dict[str, int] = {}
        try:
            loader = yaml.SafeLoader(text)
            try:
                node = loader.get_single_node()
                if node is not None:
                    self._walk(node, "$", set())
                self.value: Any = None if node is None else loader.construct_document(node)
            finally:
                loader.dispose()
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark is not None else ""
            reason = getattr(error, "problem", None) or str(error)
            raise ConfigError(f"{file}{line}: not valid YAML: {reason}") from error
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise ConfigError(f"{file}: not valid YAML: {error}") from error

    def _walk(self, node: yaml.Node, path: str, above: set[int]) -> None:
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


def kind(value: object) -> str:
    """Name what was found where something else was expected."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    return f"{type(value).__name__} {value!r}"
