"""Values of a list, for statements whose placeholders are numbered (`?2`, `$2`) or named (`:name`, `@name`).

Python's sqlite3 disagrees on lists from one version to the next: 3.12 warns at each run (up to 3.12.3 for `?2` too),
3.14 refuses names. All of them take a mapping, if every placeholder has a name. It knows text and values, no
connection.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from linkly_workers._sql.parameters import parameters_of
from linkly_workers._sql.tokens import SQLITE

_PERHAPS = re.compile(r"\?[0-9]|[:@$#][\w$\u0080-\U0010ffff]")


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
    """Return how values are given by name; `None`: every placeholder is `?`.

    Raises:
        UnclearPlaceholders: It mixes styles, or leaves out a number.
    """
    if _PERHAPS.search(sql) is None:
        return None
    found = parameters_of(sql, SQLITE)
    if found.style is None or found.style == "order":
        return None
    spelled = {sql[start:end]: number for start, end, number in found.placeholders}
    names = {spelling[1:]: number - 1 for spelling, number in spelled.items()}
    marks = {spelling[0] for spelling in spelled}
    # SQLite gives `$2` the next number and `?2` its own, so the two cannot stand together.
    if len(names) == len(spelled) == found.count and ("?" not in marks or len(marks) == 1):
        return Named(sql, tuple(names.items()), found.count)  # the columns keep the names that the caller gave them
    return Named(found.text, tuple((str(number), number - 1) for number in range(1, found.count + 1)), found.count)
