"""Every error of one file, reported together and in the order of its lines.

A reader of a file adds each error and goes on with the rest; `check` raises them.
"""

from __future__ import annotations

from typing import Any

from linkly.errors import ConfigError

NOWHERE = 1_000_000_000
"""Line number by which an error without a line is sorted: behind all others."""


class Problems:
    """Errors found so far."""

    def __init__(self) -> None:
        self._found: list[ConfigError] = []
        self._unset: list[ConfigError] = []

    def add(self, error: ConfigError) -> None:
        """Add an error, or each of those that one error reports together."""
        self._found.append(error)

    def add_unset(self, error: ConfigError) -> None:
        """Add the error that a placeholder has no value; other errors about the same path are left out."""
        self._unset.append(error)

    def check(self) -> None:
        """Report what was added.

        Raises:
            ConfigError: There are errors: one line of the message, and one row of `details["problems"]`, for each.
        """
        if not (self._found or self._unset):
            return
        unset = [row for error in self._unset for row in problems_of(error)]
        places = [row.get("path") for row in unset]
        rows = unset + [row for error in self._found for row in problems_of(error) if row.get("path") not in places]
        rows = [row for index, row in enumerate(rows) if row not in rows[:index]]
        rows.sort(key=lambda row: row.get("line") or NOWHERE)
        message = "\n".join(row["message"] for row in rows)
        raise ConfigError(message, details={"problems": rows}) from [*self._unset, *self._found][0]


def problems_of(error: ConfigError) -> list[dict[str, Any]]:
    """Return what an error is about: `message`, and `file`, `line` and `path` where they are known."""
    found: list[dict[str, Any]] | None = error.details.get("problems")
    return found or [{"message": error.message}]
