"""`database::copy`: the tables of one database, with their rows, into another one, which may be of another kind.

Rows are read in pages, in the order of their key, and written in one transaction together with how far that is
(`linkly_copies`, a table of the target): whatever ends a copy, the next call goes on behind what is there. A table
whose rows nothing tells apart is one transaction.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from graphlib import CycleError, TopologicalSorter
from typing import Any

import msgspec

from linkly import function
from linkly.clock import Clock
from linkly_workers.database.backend import Database, Result, Transaction
from linkly_workers.database.copy_side import CopyColumn, CopySide, CopyTable
from linkly_workers.database.databases import Databases
from linkly_workers.database.errors import CopyError, DriverError, InvalidParam, ResultTooLarge
from linkly_workers.database.shapes import CopiedTable, Copy, CopyResult
from linkly_workers.database.values import check_parameters

PAGE_ROWS = 500
MOST_VALUES = 30_000
"""Values of one INSERT; the least that a kind of database takes is 32766."""

TIMEOUT_MS = 3_600_000
OWN = frozenset(("linkly_copies", "linkly_migrations"))
"""What a database has had is no table of its users'."""

_CREATE = """CREATE TABLE IF NOT EXISTS linkly_copies (
    source VARCHAR(64) NOT NULL,
    table_name VARCHAR(255) NOT NULL,
    position TEXT,
    copied BIGINT NOT NULL,
    total BIGINT NOT NULL,
    PRIMARY KEY (source, table_name)
)"""
_CHECK = re.compile(r"\bCHECK\s*\(", re.IGNORECASE)
_STATES = "SELECT table_name, position, copied, total FROM linkly_copies WHERE source = ?"
_PLANNED = """
INSERT INTO linkly_copies (source, table_name, copied, total) VALUES (?, ?, 0, ?)"""
_MOVED = "UPDATE linkly_copies SET position = ?, copied = ? WHERE source = ? AND table_name = ? AND copied = ?"
_AT_ONCE = "[]"
_FORGET = "DELETE FROM linkly_copies WHERE source = ? AND table_name = ?"


class _State(msgspec.Struct):
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


class _Work(msgspec.Struct):
    """A table to copy: as it is, as it is or will be in the target, and what makes it there if it is not."""

    table: CopyTable
    target: CopyTable
    making: list[str]
    state: _State


class _Sides(msgspec.Struct):
    """The two databases of a copy, and how the target calls the source."""

    source: Database[Any]
    target: Database[Any]
    reading: CopySide
    writing: CopySide
    mark: str


class Copies:
    """Brings tables from one database to another one."""

    clock: Clock

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    @function("database::copy")
    async def copy(self, request: Copy) -> CopyResult:
        """Copy tables with their rows into another database, in the order of their foreign keys; may be called again.

        Raises:
            CopyError: A table of the target has other columns, or rows of its own; a value does not fit; afterwards
                there are more or fewer rows than in the source.
            DriverError: One of the databases refused a statement.
            UnknownDatabase: There is no such database.
        """
        sides = await self._sides(request)
        works, left_out = await self._plan(sides, request)
        if not request.dry_run:
            await _make(sides, [_CREATE])
            for work in works:
                if work.making:
                    await _run(sides.target, [(_FORGET, [sides.mark, work.table.name])])
                    await _make(sides, work.making)
            new = [work for work in works if not work.state.planned]
            try:
                await _run(sides.target, [(_PLANNED, [sides.mark, each.table.name, each.state.total]) for each in new])
            except DriverError as error:
                raise CopyError(f"somebody else may be copying at the same time: {error.message}") from error
            end = None if request.for_ms is None else self.clock.monotonic() + request.for_ms / 1000
            for work in works:
                while await _page(sides, work, request.replace):
                    if end is not None and self.clock.monotonic() >= end:
                        return _answer(request, works, left_out, complete=False)
            await _finish(sides, works)
        return _answer(request, works, left_out, complete=not request.dry_run)

    async def _sides(self, request: Copy) -> _Sides:
        source, target = self._databases.find(request.source), self._databases.find(request.target)
        reading, writing = _side(source), _side(target)
        place = await reading.place()
        if source is target or place == await writing.place():
            raise InvalidParam(
                f"`{source.name}` and `{target.name}` are one database; say two with `from` and `to`",
                details={"reason": "one database"},
            )
        return _Sides(source, target, reading, writing, hashlib.sha256(place.encode()).hexdigest())

    async def _plan(self, sides: _Sides, request: Copy) -> tuple[list[_Work], list[str]]:
        """Return the tables in the order in which they are written, and what is left out."""
        names, left_out = await _names(sides.source, request.tables)
        there = {name for name, kind in await sides.target.tables() if kind == "table"}
        states: dict[str, _State] = {}
        if "linkly_copies" in there:
            found = await _rows(sides.target, _STATES, sides.mark)
            states = {name: _State(position, int(copied), int(total)) for name, position, copied, total in found}
        works: list[_Work] = []
        for table in _in_order([await sides.reading.table(name) for name in names]):
            making: list[str] = []
            if table.name in there:
                target = await sides.writing.table(table.name)
                _check_columns(table, target, sides.target.name)
            else:
                target, same_kind = table, sides.source.driver == sides.target.driver
                if not same_kind:
                    await sides.reading.decide(table)
                    target = _of_another_kind(table)
                making = await sides.writing.make(target, same_kind)
                left_out += [f"{table.name}: {each}" for each in target.left_out]
            state = None if making else states.get(table.name)
            if state is None:
                if table.name in there and not request.replace:
                    await _check_empty(sides, target)
                state = _State(None, 0, await _count(sides.source, sides.reading, table.name), planned=False)
            works.append(_Work(table, target, making, state))
        return works, left_out


def _side(database: Database[Any]) -> CopySide:
    side = database.copy_side
    if side is None:
        raise InvalidParam(
            f"`{database.name}` is of a kind that this version cannot copy: {database.driver}",
            details={"reason": "unsupported"},
        )
    return side


async def _names(source: Database[Any], asked: list[str] | None) -> tuple[list[str], list[str]]:
    names: list[str] = []
    left_out: list[str] = []
    for name, kind in await source.tables():
        if name in OWN or (asked is not None and name not in asked):
            continue
        if kind == "table" and "." not in name:
            names.append(name)
        else:
            left_out.append(f"{name}: {'it is in another schema' if kind == 'table' else f'it is a {kind}'}")
    missing = [name for name in asked or () if name not in names]
    if missing:
        raise CopyError(
            f"`{source.name}` has no table `{missing[0]}` that can be copied", details={"table": missing[0]}
        )
    return names, left_out


def _in_order(tables: list[CopyTable]) -> list[CopyTable]:
    """Return tables so that each comes behind those that it refers to."""
    by_name = {table.name: table for table in tables}
    folded = {name.lower(): name for name in by_name}  # SQLite's keys may write a name in another case
    needs: dict[str, set[str]] = {}
    for name, table in by_name.items():
        theirs = [key["table"] for key in table.foreign_keys]
        needs[name] = {each if each in by_name else folded.get(each.lower(), name) for each in theirs} - {name}
    try:
        return [by_name[name] for name in TopologicalSorter(needs).static_order()]
    except CycleError as error:
        circle = ", ".join(f"`{name}`" for name in error.args[1])
        raise CopyError(
            f"these tables refer to one another, so none can be copied first: {circle}; make them in the target "
            "without these foreign keys, copy one after the other (`tables`), and add the keys then"
        ) from error


def _of_another_kind(table: CopyTable) -> CopyTable:
    """Return a table for another kind of database, which neither computes its columns nor checks them."""
    generated = [column.name for column in table.columns if column.generated]
    left_out = [f"what computes column `{name}`, whose values are copied" for name in generated]
    if any(_CHECK.search(text) for text in table.texts):
        left_out.append("CHECK constraints")
    columns = [
        msgspec.structs.replace(column, generated=False, default=None) if column.generated else column
        for column in table.columns
    ]
    return msgspec.structs.replace(table, columns=columns, left_out=[*table.left_out, *left_out])


def _check_columns(table: CopyTable, target: CopyTable, db: str) -> None:
    theirs = {column.name: column for column in target.columns}
    for column in table.written:
        if column.name not in theirs or theirs[column.name].generated:
            raise CopyError(
                f"table `{table.name}` of `{db}` has no column `{column.name}` that can be written",
                details={"table": table.name, "column": column.name},
            )
    ours = {column.name for column in table.columns}
    for column in target.written:
        if column.name not in ours and not (column.nullable or column.default is not None or column.counts):
            raise CopyError(
                f"table `{table.name}` of `{db}` wants a value for column `{column.name}`, which the other has not",
                details={"table": table.name, "column": column.name},
            )


async def _check_empty(sides: _Sides, target: CopyTable) -> None:
    if not await _rows(sides.target, f"SELECT 1 FROM {sides.writing.quoted(target.name)} LIMIT 1"):  # noqa: S608 - a name, quoted
        return
    way = (
        "with `replace` (--replace) rows with the same primary key get the values that are copied"
        if target.primary_key
        else "it has no primary key by which rows could be replaced, so empty it first"
    )
    raise CopyError(
        f"table `{target.name}` of `{sides.target.name}` has rows that do not come from `{sides.source.name}`; {way}",
        details={"table": target.name},
    )


# --- rows ---------------------------------------------------------------------------------------------------


async def _page(sides: _Sides, work: _Work, replace: bool) -> bool:
    """Copy the next rows of a table; return whether there may be more."""
    table, state = work.table, work.state
    if not table.order:
        if state.position is None:
            await _all_at_once(sides, work)
        return False
    columns = _columns(work)
    most = max(1, min(PAGE_ROWS, MOST_VALUES // len(columns)))
    rows = await _read(sides, work, [column for column, _ in columns], most)
    if not rows:
        return False
    keys = len(table.order)
    position = _as_text(list(rows[-1][:keys]))
    values = [row[keys:] for row in rows]
    transaction = await sides.target.begin(str(uuid.uuid4()), None)
    async with _written(transaction):
        await _insert(sides, work, transaction, [column for _, column in columns], values, replace)
        await _move(sides, work, transaction, position, len(rows))
    state.position, state.copied = position, state.copied + len(rows)
    return len(rows) == most


async def _read(sides: _Sides, work: _Work, columns: list[CopyColumn], most: int) -> list[tuple[Any, ...]]:
    table = work.table
    order = ", ".join(table.order)
    after = check_parameters(work.state.position) if work.state.position is not None else []
    where = f" WHERE ({order}) > ({', '.join('?' * len(after))})" if after else ""
    shown = ", ".join([*table.order, *map(sides.reading.reading, columns)])
    while True:
        sql = f"SELECT {shown} FROM {sides.reading.quoted(table.name)}{where} ORDER BY {order} LIMIT {most}"  # noqa: S608
        try:
            result = await sides.source.read_only(sides.source.statement(sql), after, TIMEOUT_MS)
        except ResultTooLarge:
            if most == 1:
                raise
            most //= 2
            continue
        return result.readable(as_bytes=True)


async def _all_at_once(sides: _Sides, work: _Work) -> None:
    columns = _columns(work)
    shown = ", ".join(sides.reading.reading(column) for column, _ in columns)
    statement = sides.source.statement(f"SELECT {shown} FROM {sides.reading.quoted(work.table.name)}")  # noqa: S608
    most = max(1, MOST_VALUES // len(columns))
    transaction = await sides.target.begin(str(uuid.uuid4()), None)
    copied = 0

    async def take(result: Result) -> None:
        nonlocal copied
        rows = result.readable(as_bytes=True)
        for start in range(0, len(rows), most):
            part = rows[start : start + most]
            await _insert(sides, work, transaction, [column for _, column in columns], part, False, copied)
            copied += len(part)

    async with _written(transaction):
        await sides.source.stream(statement, [], TIMEOUT_MS, take)
        await _move(sides, work, transaction, _AT_ONCE, copied)
    work.state.position, work.state.copied = _AT_ONCE, copied


def _columns(work: _Work) -> list[tuple[CopyColumn, CopyColumn]]:
    """Return the columns that are copied: as they are read, and as they are written."""
    theirs = {column.name: column for column in work.target.written}
    return [(column, theirs[column.name]) for column in work.table.columns if column.name in theirs]


async def _insert(
    sides: _Sides,
    work: _Work,
    transaction: Transaction[Any],
    columns: list[CopyColumn],
    rows: Sequence[Sequence[Any]],
    replace: bool,
    before: int | None = None,
) -> None:
    values = [_value(value, column) for row in rows for value, column in zip(row, columns, strict=True)]
    statement = sides.target.statement(sides.writing.insert(work.target, columns, len(rows), replace))
    if any(value != value for value in values) and sides.writing.loses_nan:
        raise CopyError(
            f"table `{work.table.name}` has NaN, which `{sides.target.name}` would take for NULL",
            details={"table": work.table.name},
        )
    counting = next((at for at, column in enumerate(columns) if column.counts), None)
    if counting is not None and sides.writing.numbers_zero and 0 in values[counting :: len(columns)]:
        raise CopyError(
            f"table `{work.table.name}`: `{sides.target.name}` takes 0 in column `{columns[counting].name}` for none",
            details={"table": work.table.name, "column": columns[counting].name},
        )
    try:
        await transaction.execute(statement, values)
    except InvalidParam as error:
        index = error.details.get("index")
        if not isinstance(index, int):
            raise
        row, at = divmod(index, len(columns))
        number = (work.state.copied if before is None else before) + row + 1
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
            f"`{sides.target.name}` without that foreign key, copy again, and add the key then: {error.message}",
            details={"table": work.table.name},
        ) from error


async def _move(sides: _Sides, work: _Work, transaction: Transaction[Any], position: str, rows: int) -> None:
    """Note how far a table is; nobody else may have moved it meanwhile."""
    state, name, copied = work.state, work.table.name, work.state.copied + rows
    values: list[Any] = [position, copied, sides.mark, name, state.copied]
    moved = await transaction.execute(sides.target.statement(_MOVED), values)
    if moved.affected_rows != 1:
        raise CopyError(f"somebody else copies table `{name}` at the same time", details={"table": name})


@asynccontextmanager
async def _written(transaction: Transaction[Any]) -> AsyncIterator[None]:
    """Commit a transaction at the end of the block, or roll it back; neither is given up half way."""
    try:
        yield
    except BaseException:
        await asyncio.shield(transaction.roll_back("because a copy failed"))
        raise
    commit = asyncio.get_running_loop().create_task(transaction.commit(lambda: None), name="commit of a copy")
    try:
        await asyncio.shield(commit)
    except asyncio.CancelledError:
        await asyncio.wait([commit])
        raise


# --- the end ------------------------------------------------------------------------------------------------


async def _finish(sides: _Sides, works: list[_Work]) -> None:
    """Set what counts behind what was copied, and compare the numbers of rows."""
    for work in works:
        for text in sides.writing.count_on(work.target):
            await sides.target.query(sides.target.statement(text), [], TIMEOUT_MS)
    different: dict[str, list[int]] = {}
    for work in works:
        ours = await _count(sides.source, sides.reading, work.table.name)
        theirs = await _count(sides.target, sides.writing, work.table.name)
        work.state.total = ours
        if ours != theirs:
            different[work.table.name] = [ours, theirs]
            await sides.target.execute(sides.target.statement(_FORGET), [sides.mark, work.table.name], TIMEOUT_MS)
    if different:
        told = ", ".join(f"`{name}` has {ours} rows, and {theirs} there" for name, (ours, theirs) in different.items())
        raise CopyError(
            f"{told}: rows were added or removed meanwhile, or `{sides.target.name}` had some of its own. Copy again "
            "with `replace` (--replace) while nobody writes",
            details={"different": different},
        )


def _answer(request: Copy, works: list[_Work], left_out: list[str], *, complete: bool) -> CopyResult:
    tables = [
        CopiedTable(work.table.name, work.state.total, work.state.copied, made=bool(work.making)) for work in works
    ]
    statements = [text for work in works for text in work.making] if request.dry_run else []
    return CopyResult(tables, complete, left_out, statements)


async def _make(sides: _Sides, texts: Sequence[str]) -> None:
    if not sides.writing.commits_tables:
        await _run(sides.target, [(text, []) for text in texts])
        return
    for text in texts:
        await sides.target.execute(sides.target.statement(text), [], TIMEOUT_MS)


async def _run(database: Database[Any], texts: Sequence[tuple[str, list[Any]]]) -> None:
    await database.transaction([(database.statement(text), values) for text, values in texts], TIMEOUT_MS)


async def _rows(database: Database[Any], sql: str, *values: Any) -> list[tuple[Any, ...]]:
    return (await database.read_only(database.statement(sql), list(values), TIMEOUT_MS)).rows


async def _count(database: Database[Any], side: CopySide, table: str) -> int:
    ((found,),) = await _rows(database, f"SELECT count(*) FROM {side.quoted(table)}")  # noqa: S608 - a name, quoted
    return int(found)


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
