"""YAML that knows on which line each path stands, so that an error can say `file:line: $.workers[2].config.port`.

Shared by config.yaml and worker manifests. It knows text only: neither what the keys mean nor where the text is from.
"""

from __future__ import annotations

from typing import Any

import yaml

from linkly.errors import ConfigError
from linkly_engine.problems import Problems

VALUES_LIMIT = 100_000
"""Keys and values of a file, its aliases written out: nine lines of nine aliases each are 400 million."""

CHARACTERS_LIMIT = 10_000_000
"""Of all of them together."""

_MERGE = "tag:yaml.org,2002:merge"


class Tree:
    """Parsed YAML that knows on which line each path stands.

    Args:
        text: YAML.
        file: Its name in error messages.
        problems: Where errors are noted that leave the rest readable; default: they are raised.

    Attributes:
        value: Plain data; `None` for an empty document.

    Raises:
        ConfigError: From the constructor: the text is not valid YAML, a key stands twice, an alias contains itself,
            aliases make it larger than `VALUES_LIMIT` and `CHARACTERS_LIMIT`.
    """

    def __init__(self, text: str, file: str, problems: Problems | None = None) -> None:
        self._file = file
        self._lines: dict[str, int] = {}
        self._values = 0
        self._characters = 0
        self._problems = Problems() if problems is None else problems
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
            line = None if mark is None else mark.line + 1
            reason = getattr(error, "problem", None) or str(error)
            raise self._error(f"not valid YAML: {reason}", line) from error
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise self._error(f"not valid YAML: {error}", None) from error
        if problems is None:
            self._problems.check()

    def _walk(self, node: yaml.Node, path: str, above: set[int]) -> None:
        """Note lines, as if every alias were written out: what is too much for that is too much for everybody."""
        self._lines.setdefault(path, node.start_mark.line + 1)
        self._count(node)
        if id(node) in above:
            raise self.error(path, "an alias contains itself")
        inside = above | {id(node)}
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            merged: list[yaml.Node] = []
            for key, child in node.value:
                name = str(key.value)
                self._count(key)
                if name in keys:
                    self._problems.add(
                        self.error(f"{path}.{name}", "this key stands here twice", key.start_mark.line + 1)
                    )
                    continue
                keys.add(name)
                if key.tag == _MERGE:
                    merged += child.value if isinstance(child, yaml.SequenceNode) else [child]
                    continue
                self._lines.setdefault(f"{path}.{name}", key.start_mark.line + 1)
                self._walk(child, f"{path}.{name}", inside)
            for child in merged:  # behind the keys of its own, which count
                self._walk(child, path, inside)
        elif isinstance(node, yaml.SequenceNode):
            for index, child in enumerate(node.value):
                self._walk(child, f"{path}[{index}]", inside)

    def _count(self, node: yaml.Node) -> None:
        self._values += 1
        if isinstance(node, yaml.ScalarNode):
            self._characters += len(node.value)
        if self._values > VALUES_LIMIT or self._characters > CHARACTERS_LIMIT:
            raise self._error(
                f"with its aliases (`*name`) written out this is more than {VALUES_LIMIT:,} keys and values or "
                f"{CHARACTERS_LIMIT:,} characters; use fewer aliases of aliases",
                node.start_mark.line + 1,
            )

    def has(self, path: str) -> bool:
        """Tell whether something is written at `path`."""
        return path in self._lines

    def line(self, path: str) -> int | None:
        """Return the line of a path, else of what contains it."""
        while path not in self._lines:
            shorter = path[: max(path.rfind("."), path.rfind("["), 0)]
            if not shorter:
                return None
            path = shorter
        return self._lines[path]

    def where(self, path: str) -> str:
        """Return `file:line: path`."""
        line = self.line(path)
        return f"{self._file}:{line}: {path}" if line is not None else f"{self._file}: {path}"

    def error(self, path: str, reason: str, line: int | None = None) -> ConfigError:
        """Make the error for what stands at `path`."""
        return self._error(reason, self.line(path) if line is None else line, path)

    def _error(self, reason: str, line: int | None, path: str | None = None) -> ConfigError:
        parts = [self._file if line is None else f"{self._file}:{line}", *([] if path is None else [path]), reason]
        message = ": ".join(parts)
        problem = {"file": self._file, "line": line, "path": path, "message": message}
        return ConfigError(message, details={"problems": [problem]})


def kind(value: object) -> str:
    """Name what was found where something else was expected."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    return f"{type(value).__name__} {value!r}"
