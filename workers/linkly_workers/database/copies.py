"""`database::copy`: the tables of one database, with their rows, into another one, which may be of another kind.

`copy_plan` says what there is to do, `copy_rows` does it, `copy_progress` knows how far it is; a `copy_side` speaks for
each of the two databases. At the end the numbers of rows are compared.
"""

from __future__ import annotations

import hashlib
from typing import Any

from linkly import function
from linkly.clock import Clock
from linkly_workers.database import copy_progress
from linkly_workers.database.backend import Database
from linkly_workers.database.copy_pair import TIMEOUT_MS, Pair, count, make
from linkly_workers.database.copy_plan import Work, plan
from linkly_workers.database.copy_rows import page
from linkly_workers.database.copy_side import CopySide
from linkly_workers.database.databases import Databases
from linkly_workers.database.errors import CopyError, InvalidParam
from linkly_workers.database.shapes import CopiedTable, Copy, CopyResult


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
        pair = await self._pair(request)
        works, left_out = await plan(pair, request)
        if not request.dry_run:
            await copy_progress.make_table(pair)
            for work in works:
                if work.making:
                    await copy_progress.forget(pair, work.table.name)
                    await make(pair, work.making)
            new = {work.table.name: work.progress.total for work in works if not work.progress.planned}
            await copy_progress.begin(pair, new)
            end = None if request.for_ms is None else self.clock.monotonic() + request.for_ms / 1000
            for work in works:
                while await page(pair, work, request.replace):
                    if end is not None and self.clock.monotonic() >= end:
                        return _answer(request, works, left_out, complete=False)
            await _finish(pair, works)
        return _answer(request, works, left_out, complete=not request.dry_run)

    async def _pair(self, request: Copy) -> Pair:
        source, target = self._databases.find(request.source), self._databases.find(request.target)
        reading, writing = _side(source), _side(target)
        place = await reading.place()
        if source is target or place == await writing.place():
            raise InvalidParam(
                f"`{source.name}` and `{target.name}` are one database; say two with `from` and `to`",
                details={"reason": "one database"},
            )
        return Pair(source, target, reading, writing, hashlib.sha256(place.encode()).hexdigest())


def _side(database: Database[Any]) -> CopySide:
    side = database.copy_side
    if side is None:
        raise InvalidParam(
            f"`{database.name}` is of a kind that this version cannot copy: {database.driver}",
            details={"reason": "unsupported"},
        )
    return side


async def _finish(pair: Pair, works: list[Work]) -> None:
    """Set what counts behind what was copied, and compare the numbers of rows.

    Raises:
        CopyError: They differ; the next call copies these tables from their beginning.
    """
    for work in works:
        for text in pair.writing.count_on(work.target):
            await pair.target.query(pair.target.statement(text), [], TIMEOUT_MS)
    different: dict[str, list[int]] = {}
    for work in works:
        ours = await count(pair.source, pair.reading, work.table.name)
        theirs = await count(pair.target, pair.writing, work.table.name)
        work.progress.total = ours
        if ours != theirs:
            different[work.table.name] = [ours, theirs]
            await copy_progress.forget(pair, work.table.name)
    if different:
        told = ", ".join(f"`{name}` has {ours} rows, and {theirs} there" for name, (ours, theirs) in different.items())
        raise CopyError(
            f"{told}: rows were added or removed meanwhile, or `{pair.target.name}` had some of its own. Copy again "
            "with `replace` (--replace) while nobody writes",
            details={"different": different},
        )


def _answer(request: Copy, works: list[Work], left_out: list[str], *, complete: bool) -> CopyResult:
    tables = [
        CopiedTable(work.table.name, work.progress.total, work.progress.copied, made=bool(work.making))
        for work in works
    ]
    statements = [text for work in works for text in work.making] if request.dry_run else []
    return CopyResult(tables, complete, left_out, statements)
