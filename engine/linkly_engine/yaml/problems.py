"""Every error of one file, told at once and in the order of its lines.

Whoever reads a file notes what is wrong and goes on with the rest; `check` ends it. It knows errors, no file.
"""

from __future__ import annotations

from typing import Any

from linkly.errors import ConfigError

NOWHERE = 1_000_000_000
"""Where an error without a line stands: behind all others."""


class Problems:
    """Errors found so far."""

    def __init__(self) -> None:
        self._found: list[ConfigError] = []
        self._unset: list[ConfigError] = []

    def __bool__(self) -> bool:
        return bool(self._found or self._unset)

    def add(self, error: ConfigError) -> None:
        """Note an error, or each of those that one tells together."""
        self._found.append(error)

    def add_unset(self, error: ConfigError) -> None:
        """Note that what stands somewhere has no value: nothing else that is noted about that path is told."""
        self._unset.append(error)

    def check(self) -> None:
        """End it.

        Raises:
            ConfigError: Something was noted: one line of the message, and one of `details["problems"]`, for each.
        """
        if not self:
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
