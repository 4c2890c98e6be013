"""YAML with the line of each path, so that an error can say `file:line: $.workers[2].config.port`.

Shared by config.yaml and worker manifests. It knows neither the meaning of the keys nor the origin of the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from linkly.errors import ConfigError
from linkly_engine.yaml.placeholders import Masked, Placeholder
from linkly_engine.yaml.problems import Problems
from linkly_engine.yaml.scalars import Loader, Written, tag_of

VALUES_LIMIT = 100_000
"""Keys and values of a file, its aliases written out: nine lines of nine aliases each are 400 million."""

CHARACTERS_LIMIT = 10_000_000
"""Characters of all keys and values together."""

_HINTS = {
    "found character '\\t'": "YAML is indented with spaces, not with tabs",
    "expected <block end>": "is this line indented as its neighbours are, and is everything closed above it?",
    "mapping values are not allowed": "a text with `: ` in it needs quotes; is the line before indented less?",
    "could not find expected ':'": "a key needs `: ` behind it",
}
"""What to do about what PyYAML says in its own terms."""

_MERGE = "tag:yaml.org,2002:merge"


class Tree:
    """Parsed YAML that knows on which line each path stands, and how each scalar was written.

    Args:
        text: YAML.
        file: Its name in error messages.
        problems: Where errors are noted that leave the rest readable; default: they are raised.
        variables: For `${NAME:default}` in its scalars; default: there are no placeholders.
        keep_missing: A placeholder without a value stands for itself.

    Attributes:
        value: Plain data; `None` for an empty document.

    Raises:
        ConfigError: From the constructor: the text is not valid YAML, a key stands twice, an alias contains itself,
            aliases make it larger than `VALUES_LIMIT` and `CHARACTERS_LIMIT`.
    """

    def __init__(
        self,
        text: str,
        file: str,
        problems: Problems | None = None,
        *,
        variables: Mapping[str, str] | None = None,
        keep_missing: bool = False,
    ) -> None:
        self._file = file
        self._lines: dict[str, int] = {}
        self._written: dict[str, Written] = {}
        self._values = 0
        self._characters = 0
        self._problems = Problems() if problems is None else problems
        self._one_placeholder: set[int] = set()
        self._unset: dict[int, list[Placeholder]] = {}
        masked = Masked(text, variables, keep_missing=keep_missing)
        try:
            loader = Loader(masked.text)
            try:
                node = loader.get_single_node()
                self._fill(node, masked, loader)
                if node is not None:
                    self._walk(node, "$", set())
                self.value: Any = None if node is None else loader.construct_document(node)
            finally:
                loader.dispose()
        except yaml.YAMLError as error:
            reason, line = _reason_and_line(error, masked.text)
            raise self._error(f"not valid YAML: {reason}", line) from error
        except RecursionError as error:
            raise self._error("lists and mappings stand too deep in each other", None) from error
        except (ValueError, TypeError, OverflowError) as error:
            raise self._error(f"not valid YAML: {error}", None) from error
        if problems is None:
            self._problems.check()

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
        """Note the line of each path, with every alias written out."""
        if isinstance(node, yaml.ScalarNode):
            plain = node.style is None or id(node) in self._one_placeholder
            self._written.setdefault(path, Written(node.value, plain=plain))
        self._lines.setdefault(path, node.start_mark.line + 1)
        self._note_unset(node, path)
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
                self._note_unset(key, f"{path}.{name}")
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
            for child in merged:  # after the mapping's own keys, which win
                self._walk(child, path, inside)
        elif isinstance(node, yaml.SequenceNode):
            for index, child in enumerate(node.value):
                self._walk(child, f"{path}[{index}]", inside)

    def _fill(self, top: yaml.Node | None, masked: Masked, loader: Loader) -> None:
        """Fill placeholders in; note which scalars are one placeholder, and which hold one without a value."""
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
                    self._one_placeholder.add(id(node))
                node.value, unset = masked.fill(node.value)
                if unset:
                    self._unset[id(node)] = unset
                if node.style is None:
                    node.tag = tag_of(loader, node.value)

    def _note_unset(self, node: yaml.Node, path: str) -> None:
        for each in self._unset.pop(id(node), ()):
            name = each.name
            reason = f"environment variable {name} is not set; set it, or write ${{{name}:default}}"
            self._problems.add_unset(self.error(path, reason, each.line))

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
        """Return whether something is written at `path`."""
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


def _reason_and_line(error: yaml.YAMLError, text: str) -> tuple[str, int | None]:
    """Return why PyYAML refuses a text, and the line."""
    if isinstance(error, yaml.reader.ReaderError):
        return f"unacceptable character #x{error.character:04x}", text.count("\n", 0, error.position) + 1
    mark = getattr(error, "problem_mark", None)
    reason = str(getattr(error, "problem", None) or error)
    if reason.startswith("but "):
        reason = f"{getattr(error, 'context', '')}, {reason}"
    reason += next((f"; {hint}" for start, hint in _HINTS.items() if reason.startswith(start)), "")
    return reason, None if mark is None else mark.line + 1
