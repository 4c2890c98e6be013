"""The two databases of a copy, and what is asked of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from linkly_workers.database.backend import Database
from linkly_workers.database.copy_side import CopySide

TIMEOUT_MS = 3_600_000
"""Of one statement; a copy as a whole ends with the call."""


class Pair(msgspec.Struct):
    """The two databases of a copy, and how the target calls the source."""

    source: Database[Any]
    target: Database[Any]
    reading: CopySide
    writing: CopySide
    mark: str


async def make(pair: Pair, texts: Sequence[str]) -> None:
    """Run what makes tables in the target, in one transaction if the target can."""
    if not pair.writing.commits_tables:
        await run(pair.target, [(text, []) for text in texts])
        return
    for text in texts:
        await pair.target.execute(pair.target.statement(text), [], TIMEOUT_MS)


async def run(database: Database[Any], texts: Sequence[tuple[str, list[Any]]]) -> None:
    """Run statements in one transaction."""
    await database.transaction([(database.statement(text), values) for text, values in texts], TIMEOUT_MS)


async def rows(database: Database[Any], sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a statement that reads."""
    return (await database.read_only(database.statement(sql), list(values), TIMEOUT_MS)).rows


async def count(database: Database[Any], side: CopySide, table: str) -> int:
    """Return how many rows a table has."""
    ((found,),) = await rows(database, f"SELECT count(*) FROM {side.quoted(table)}")  # noqa: S608 - a name, quoted
    return int(found)
