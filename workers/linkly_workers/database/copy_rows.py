"""The rows of one table, from one database to the other: pages in the order of its key, each a transaction.

A table whose rows nothing tells apart is one transaction.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from linkly_workers.database.backend import Result, Transaction
from linkly_workers.database.commits import commit
from linkly_workers.database.copy_pair import TIMEOUT_MS, Pair
from linkly_workers.database.copy_plan import Work
from linkly_workers.database.copy_progress import AT_ONCE, move
from linkly_workers.database.copy_side import CopyColumn
from linkly_workers.database.errors import CopyError, DriverError, InvalidParam, ResultTooLarge
from linkly_workers.database.values import check_parameters

PAGE_ROWS = 500
MOST_VALUES = 30_000
"""Values of one INSERT; the least that a kind of database takes is 32766."""


async def page(pair: Pair, work: Work, replace: bool) -> bool:
    """Copy the next rows of a table in one transaction; return whether there may be more.

    Raises:
        CopyError: A value does not fit, or somebody else copies the table as well.
        DriverError: One of the databases refused a statement.
    """
    table, progress = work.table, work.progress
    if not table.order:
        if progress.position is None:
            await _all_at_once(pair, work)
        return False
    columns = _columns(work)
    most = max(1, min(PAGE_ROWS, MOST_VALUES // len(columns)))
    rows = await _read(pair, work, [column for column, _ in columns], most)
    if not rows:
        return False
    keys = len(table.order)
    position = _as_text(list(rows[-1][:keys]))
    values = [row[keys:] for row in rows]
    transaction = await pair.target.begin(str(uuid.uuid4()), None)
    async with _written(transaction):
        await _insert(pair, work, transaction, [column for _, column in columns], values, replace)
        await move(pair, table.name, progress, transaction, position, len(rows))
    progress.position, progress.copied = position, progress.copied + len(rows)
    return len(rows) == most


async def _read(pair: Pair, work: Work, columns: list[CopyColumn], most: int) -> list[tuple[Any, ...]]:
    table = work.table
    order = ", ".join(table.order)
    after = check_parameters(work.progress.position) if work.progress.position is not None else []
    where = f" WHERE ({order}) > ({', '.join('?' * len(after))})" if after else ""
    shown = ", ".join([*table.order, *map(pair.reading.reading, columns)])
    while True:
        sql = f"SELECT {shown} FROM {pair.reading.quoted(table.name)}{where} ORDER BY {order} LIMIT {most}"  # noqa: S608
        try:
            result = await pair.source.read_only(pair.source.statement(sql), after, TIMEOUT_MS)
        except ResultTooLarge:
            if most == 1:
                raise
            most //= 2
            continue
        return result.readable(as_bytes=True)


async def _all_at_once(pair: Pair, work: Work) -> None:
    columns = _columns(work)
    shown = ", ".join(pair.reading.reading(column) for column, _ in columns)
    statement = pair.source.statement(f"SELECT {shown} FROM {pair.reading.quoted(work.table.name)}")  # noqa: S608
    most = max(1, MOST_VALUES // len(columns))
    transaction = await pair.target.begin(str(uuid.uuid4()), None)
    copied = 0

    async def take(result: Result) -> None:
        nonlocal copied
        rows = result.readable(as_bytes=True)
        for start in range(0, len(rows), most):
            part = rows[start : start + most]
            await _insert(pair, work, transaction, [column for _, column in columns], part, False, copied)
            copied += len(part)

    async with _written(transaction):
        await pair.source.stream(statement, [], TIMEOUT_MS, take)
        await move(pair, work.table.name, work.progress, transaction, AT_ONCE, copied)
    work.progress.position, work.progress.copied = AT_ONCE, copied


def _columns(work: Work) -> list[tuple[CopyColumn, CopyColumn]]:
    """Return the columns that are copied: as they are read, and as they are written."""
    theirs = {column.name: column for column in work.target.written}
    return [(column, theirs[column.name]) for column in work.table.columns if column.name in theirs]


async def _insert(
    pair: Pair,
    work: Work,
    transaction: Transaction[Any],
    columns: list[CopyColumn],
    rows: Sequence[Sequence[Any]],
    replace: bool,
    before: int | None = None,
) -> None:
    values = [_value(value, column) for row in rows for value, column in zip(row, columns, strict=True)]
    statement = pair.target.statement(pair.writing.insert(work.target, columns, len(rows), replace))
    if any(value != value for value in values) and pair.writing.loses_nan:
        raise CopyError(
            f"table `{work.table.name}` has NaN, which `{pair.target.name}` would take for NULL",
            details={"table": work.table.name},
        )
    counting = next((at for at, column in enumerate(columns) if column.counts), None)
    if counting is not None and pair.writing.numbers_zero and 0 in values[counting :: len(columns)]:
        raise CopyError(
            f"table `{work.table.name}`: `{pair.target.name}` takes 0 in column `{columns[counting].name}` for none",
            details={"table": work.table.name, "column": columns[counting].name},
        )
    try:
        await transaction.execute(statement, values)
    except InvalidParam as error:
        index = error.details.get("index")
        if not isinstance(index, int):
            raise
        row, at = divmod(index, len(columns))
        number = (work.progress.copied if before is None else before) + row + 1
        name, why = columns[at].name, error.details.get("reason")
        raise CopyError(
            f"table `{work.table.name}`, row {number}, column `{name}`: {why}",
            details={"table": work.table.name, "column": name, "row": number},
        ) from error
    except DriverError as error:
        names = {key["table"].lower() for key in work.target.foreign_keys}
        if work.target.name.lower() not in names or "foreign key" not in error.message.lower():
            raise
        raise CopyError(
            f"table `{work.table.name}`: rows refer to rows of the same table that come later; make the table in "
            f"`{pair.target.name}` without that foreign key, copy again, and add the key then: {error.message}",
            details={"table": work.table.name},
        ) from error


@asynccontextmanager
async def _written(transaction: Transaction[Any]) -> AsyncIterator[None]:
    """Commit a transaction at the end of the block, or roll it back; neither is given up half way."""
    try:
        yield
    except BaseException:
        await asyncio.shield(transaction.roll_back("because a copy failed"))
        raise
    await commit(transaction, lambda: None)


def _as_text(key: list[Any]) -> str:
    return msgspec.json.encode([{"$blob": value} if isinstance(value, bytes) else value for value in key]).decode()


def _value(value: Any, column: CopyColumn) -> Any:
    """Return a value as a parameter: lists and objects are JSON, integers beyond 64 bits text."""
    if column.spelled and not isinstance(value, (str, list, dict, type(None))):
        return msgspec.json.encode(value).decode()
    if type(value) is int and column.kind == "number" and not -(2**63) <= value < 2**63:
        return str(value)
    return msgspec.json.encode(_spelled(value)).decode() if isinstance(value, (list, dict)) else value


def _spelled(value: Any) -> Any:
    if isinstance(value, list):
        return [_spelled(item) for item in value]
    return f"\\x{value.hex()}" if isinstance(value, bytes) else value
