"""What one statement did on a server, and what its rows count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from linkly_workers.database.backend import Op
from linkly_workers.database.errors import ResultTooLarge

ROW_BYTES, VALUE_BYTES = 64, 16
"""What a row and a value count in a result besides the length of texts and bytes."""


class Result(msgspec.Struct):
    """What one statement did: see `backend.Result`."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    affected_rows: int
    last_insert_id: int | str | None
    types: Sequence[str]
    change: tuple[Op, str | None] | None = None
    big_integers: Sequence[int] = ()

    def readable(self, *, as_bytes: bool) -> list[tuple[Any, ...]]:
        """Return the rows: the server has no text that is not UTF-8."""
        return self.rows


def size_of(rows: list[tuple[Any, ...]]) -> int:
    """Return about the memory that rows take, in bytes."""
    return sum(
        ROW_BYTES + sum(VALUE_BYTES + (len(value) if isinstance(value, (str, bytes)) else 0) for value in row)
        for row in rows
    )


def returned_id(columns: list[str], rows: list[tuple[Any, ...]]) -> int | str | None:
    """Return what an INSERT returned for the last row as `id`; `None` if it returned none."""
    if "id" not in columns or not rows:
        return None
    found = rows[-1][columns.index("id")]
    return found if isinstance(found, (int, str)) else None


def too_large(driver: str, limit: int) -> ResultTooLarge:
    """Return the error for rows of more than `limit` bytes."""
    return ResultTooLarge(
        f"the result is larger than max_result_bytes: {limit}; ask for fewer rows or columns (LIMIT), "
        "or raise the setting `max_result_bytes` of the database worker",
        details={"driver": driver, "max_result_bytes": limit},
    )
