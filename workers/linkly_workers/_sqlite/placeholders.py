"""Values of a list, for statements whose placeholders are numbered (`?2`) or named (`:name`, `@name`, `$1`).

SQLite numbers every placeholder, so a list fits any statement. Python's sqlite3 disagrees from one version to the next:
3.12 warns at each run (up to 3.12.3 for `?2` too), 3.14 refuses names. All of them take a mapping, if every placeholder
has a name. It knows text and values, no connection.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

LARGEST_NUMBER = 250_000
"""The most that any build of SQLite allows, as distributions set it."""

_IN_NAME = r"[\w$\u0080-\U0010ffff]"

TOKENS = re.compile(
    r"""('[^']*'|"[^"]*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?(?:\*/|\Z)|[\w\u0080-\U0010ffff]""" + _IN_NAME + r"*)"
    r"|\?[0-9]*|[:@$#](?:" + _IN_NAME + r"|::)+(?:\([^\s)]*\))?",
    re.DOTALL,
)
"""What is no placeholder although it may look so from inside (group 1), and placeholders."""

_PERHAPS = re.compile(r"\?[0-9]|[:@$#]" + _IN_NAME)


class Named(msgspec.Struct, frozen=True):
    """How a statement gets its values by name.

    Attributes:
        text: The statement, where every placeholder has a name.
        places: Name without its first character -> place of its value in the list.
        count: How many values belong to the statement.
    """

    text: str
    places: tuple[tuple[str, int], ...]
    count: int

    def values(self, parameters: Sequence[Any]) -> dict[str, Any]:
        """Return the values of a list by name.

        Raises:
            sqlite3.ProgrammingError: There are too few values, or too many.
        """
        if len(parameters) != self.count:
            raise sqlite3.ProgrammingError(
                f"Incorrect number of bindings supplied. The current statement uses {self.count}, "
                f"and there are {len(parameters)} supplied."
            )
        return {name: parameters[place] for name, place in self.places}


def named_in(sql: str) -> Named | None:
    """Return how values are given by name; `None`: every placeholder is `?`, or only SQLite can say what is wrong."""
    if _PERHAPS.search(sql) is None:
        return None
    numbers: dict[str, int] = {}
    names: dict[int, str] = {}
    found: list[tuple[int, int, int]] = []
    last = 0
    for token in TOKENS.finditer(sql):
        if token[1] is not None:
            continue
        text = token[0]
        # Python refuses to read a number of thousands of digits.
        number = numbers.get(text) or (int(text[1:20]) if text[0] == "?" and text != "?" else last + 1)
        if not 0 < number <= LARGEST_NUMBER:
            return None
        last = max(last, number)
        found.append((token.start(), token.end(), number))
        if text != "?":
            numbers[text] = number
            names.setdefault(number, text[1:])
    if not names:
        return None
    if len(set(names.values())) == last:
        return Named(sql, tuple((names[number], number - 1) for number in range(1, last + 1)), last)
    # `?` between others, a number left out, or `:a` beside `@a`: to SQLite `?1`, `?2`, ... mean the same.
    used = {number: place for place, number in enumerate(sorted({number for _, _, number in found}), 1)}
    parts: list[str] = []
    end = 0
    for start, stop, number in found:
        parts += (sql[end:start], f"?{used[number]}")
        end = stop
    parts.append(sql[end:])
    return Named("".join(parts), tuple((str(place), number - 1) for number, place in used.items()), last)
