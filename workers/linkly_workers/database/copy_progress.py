"""How far a copy is: `linkly_copies`, a table of the target.

It is written in the transaction of the rows that it counts, so whatever ends a copy, the next call goes on behind what
is there.
"""

from __future__ import annotations

from typing import Any

import msgspec

from linkly_workers.database.backend import Transaction
from linkly_workers.database.copy_pair import TIMEOUT_MS, Pair, make, rows, run
from linkly_workers.database.errors import CopyError, DriverError

TABLE = "linkly_copies"
AT_ONCE = "[]"
"""The position of a table that was copied at once."""

_CREATE = """CREATE TABLE IF NOT EXISTS linkly_copies (
    source VARCHAR(64) NOT NULL,
    table_name VARCHAR(255) NOT NULL,
    position TEXT,
    copied BIGINT NOT NULL,
    total BIGINT NOT NULL,
    PRIMARY KEY (source, table_name)
)"""
_KNOWN = "SELECT table_name, position, copied, total FROM linkly_copies WHERE source = ?"
_BEGUN = """
INSERT INTO linkly_copies (source, table_name, copied, total) VALUES (?, ?, 0, ?)"""
_MOVED = "UPDATE linkly_copies SET position = ?, copied = ? WHERE source = ? AND table_name = ? AND copied = ?"
_FORGET = "DELETE FROM linkly_copies WHERE source = ? AND table_name = ?"


class Progress(msgspec.Struct):
    """How far a table is.

    Attributes:
        position: The key of its last row as JSON; an empty list for a table that was copied at once.
        copied: Rows that are there.
        total: Rows that there were to copy.
        planned: The target knows of it.
    """

    position: str | None
    copied: int
    total: int
    planned: bool = True


async def make_table(pair: Pair) -> None:
    """Make `linkly_copies` in the target, if it is not there."""
    await make(pair, [_CREATE])


async def known(pair: Pair) -> dict[str, Progress]:
    """Return how far each table of the source is, as the target knows; `linkly_copies` is there."""
    found = await rows(pair.target, _KNOWN, pair.mark)
    return {name: Progress(position, int(copied), int(total)) for name, position, copied, total in found}


async def begin(pair: Pair, totals: dict[str, int]) -> None:
    """Note the tables that will be copied, and how many rows each has.

    Raises:
        CopyError: One is noted already.
    """
    try:
        await run(pair.target, [(_BEGUN, [pair.mark, name, total]) for name, total in totals.items()])
    except DriverError as error:
        raise CopyError(f"somebody else may be copying at the same time: {error.message}; wait for its end") from error


async def forget(pair: Pair, table: str) -> None:
    """Forget how far a table is."""
    await pair.target.execute(pair.target.statement(_FORGET), [pair.mark, table], TIMEOUT_MS)


async def move(
    pair: Pair, table: str, progress: Progress, transaction: Transaction[Any], position: str, rows: int
) -> None:
    """Note, in the transaction that wrote them, how many rows more a table has.

    Raises:
        CopyError: Somebody else has moved it meanwhile.
    """
    values: list[Any] = [position, progress.copied + rows, pair.mark, table, progress.copied]
    moved = await transaction.execute(pair.target.statement(_MOVED), values)
    if moved.affected_rows != 1:
        raise CopyError(
            f"somebody else copies table `{table}` at the same time; wait for its end", details={"table": table}
        )
