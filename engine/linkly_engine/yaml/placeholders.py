"""`${NAME}` and `${NAME:default}` in a YAML text: masked while the YAML is read, filled in afterwards.

A value is filled into the one scalar where it stands, so that no value can change the structure of the file, whatever
its text. Comments are ignored.

* `${NAME:default}`: a variable that is set wins, also when it is empty (docs/workers.md#configyaml).
* `${NAME:-default}`: as in a shell; one that is empty counts as not set.

A placeholder ends on its line: `${` without `}` on the same line is text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

PATTERN = re.compile(r"\$\{([^:}\r\n]+)(?::([^}\r\n]*))?\}")
"""Name, and the default behind its colon."""

_TOKEN = re.compile("\ue000([0-9]{1,9})\ue001")
"""Characters for private use: YAML takes them for letters, also in a flow mapping."""


class Placeholder(msgspec.Struct, frozen=True):
    """One placeholder.

    Attributes:
        written: As it stands in the text.
        name: Of the variable.
        default: Behind the colon; `None`: there is none.
        line: Where it stands, from 1.
    """

    written: str
    name: str
    default: str | None
    line: int

    def value(self, variables: Mapping[str, str]) -> str | None:
        """Return its value; `None` if neither a variable nor a default gives one."""
        if self.default is not None and self.default.startswith("-"):
            return variables.get(self.name) or self.default[1:]
        return variables.get(self.name, self.default)


class Masked:
    """A text whose placeholders are masked.

    Args:
        text: As written.
        variables: What placeholders stand for; `None`: the text has none.
        keep_missing: A placeholder without a value is kept as it is written.

    Attributes:
        text: What YAML reads.
    """

    def __init__(self, text: str, variables: Mapping[str, str] | None, *, keep_missing: bool = False) -> None:
        self._variables = variables
        self._keep_missing = keep_missing
        self._found: list[Placeholder] = []
        self.text = text if variables is None else PATTERN.sub(self._mask, text)

    def _mask(self, match: re.Match[str]) -> str:
        line = match.string.count("\n", 0, match.start()) + 1
        self._found.append(Placeholder(match[0], match[1], match[2], line))
        return f"\ue000{len(self._found) - 1}\ue001"

    def holds(self, scalar: str) -> bool:
        """Return whether a scalar of the masked text holds placeholders."""
        return bool(self._found) and _TOKEN.search(scalar) is not None

    def is_one(self, scalar: str) -> bool:
        """Return whether a scalar of the masked text is one placeholder and nothing else."""
        return bool(self._found) and _TOKEN.fullmatch(scalar) is not None

    def fill(self, scalar: str) -> tuple[str, list[Placeholder]]:
        """Return a scalar of the masked text with the values filled in, and the placeholders that have none."""
        missing: list[Placeholder] = []

        def text_of(token: re.Match[str]) -> str:
            number = int(token[1])
            if number >= len(self._found):  # the file itself has these characters
                return token[0]
            placeholder = self._found[number]
            value = placeholder.value(self._variables or {})
            if value is not None:
                return value
            if not self._keep_missing:
                missing.append(placeholder)
            return placeholder.written

        return _TOKEN.sub(text_of, scalar), missing
