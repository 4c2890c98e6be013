"""What a copy will do: which tables, in which order, and what makes those that are missing. It writes nothing."""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter
from typing import Any

import msgspec

from linkly_workers.database import copy_progress
from linkly_workers.database.backend import Database
from linkly_workers.database.copy_pair import Pair, count, rows
from linkly_workers.database.copy_progress import Progress
from linkly_workers.database.copy_side import CopyTable
from linkly_workers.database.errors import CopyError
from linkly_workers.database.shapes import Copy

OWN = frozenset((copy_progress.TABLE, "linkly_migrations", "linkly_changes", "linkly_readers"))
"""Tables of linkly's, which are not copied."""

_CHECK = re.compile(r"\bCHECK\s*\(", re.IGNORECASE)


class Work(msgspec.Struct):
    """A table to copy: as it is, as it is or will be in the target, and what makes it there if it is not."""

    table: CopyTable
    target: CopyTable
    making: list[str]
    progress: Progress


async def plan(pair: Pair, request: Copy) -> tuple[list[Work], list[str]]:
    """Return the tables in the order in which they are written, and what is left out.

    Raises:
        CopyError: There is no such table, none can be the first, or what the target has of one does not fit.
    """
    names, left_out = await _names(pair.source, request.tables)
    there = {name for name, kind in await pair.target.tables() if kind == "table"}
    known = await copy_progress.known(pair) if copy_progress.TABLE in there else {}
    works: list[Work] = []
    for table in _in_order([await pair.reading.table(name) for name in names]):
        making: list[str] = []
        if table.name in there:
            target = await pair.writing.table(table.name)
            _check_columns(table, target, pair.target.name)
        else:
            target, same_kind = table, pair.source.driver == pair.target.driver
            if not same_kind:
                await pair.reading.decide(table)
                target = _of_another_kind(table)
            making = await pair.writing.make(target, same_kind)
            left_out += [f"{table.name}: {each}" for each in target.left_out]
        progress = None if making else known.get(table.name)
        if progress is None:
            if table.name in there and not request.replace:
                await _check_empty(pair, target)
            progress = Progress(None, 0, await count(pair.source, pair.reading, table.name), planned=False)
        works.append(Work(table, target, making, progress))
    return works, left_out


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
            f"`{source.name}` has no table `{missing[0]}` that can be copied: database::listTables tells what it has; "
            "views and tables of other schemas are not copied",
            details={"table": missing[0]},
        )
    return names, left_out


def _in_order(tables: list[CopyTable]) -> list[CopyTable]:
    """Return tables so that each comes behind those that it refers to."""
    by_name = {table.name: table for table in tables}
    folded = {name.lower(): name for name in by_name}  # a key may write a name in another case
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


async def _check_empty(pair: Pair, target: CopyTable) -> None:
    if not await rows(pair.target, f"SELECT 1 FROM {pair.writing.quoted(target.name)} LIMIT 1"):  # noqa: S608 - a name, quoted
        return
    way = (
        "with `replace` (--replace) rows with the same primary key get the values that are copied"
        if target.primary_key
        else "it has no primary key by which rows could be replaced, so empty it first"
    )
    raise CopyError(
        f"table `{target.name}` of `{pair.target.name}` has rows that do not come from `{pair.source.name}`; {way}",
        details={"table": target.name},
    )
