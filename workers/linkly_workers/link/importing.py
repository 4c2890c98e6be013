"""Importing many links at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from linkly import ChannelReader, function
from linkly.channel import ChannelRef
from linkly.errors import LinklyError
from linkly_workers.link.csv_file import csv_rows
from linkly_workers.link.new_links import NewLinks
from linkly_workers.link.shapes import Import, Imported, ImportLink, ImportProblem
from linkly_workers.link.stores.store import LinkStore, NewLink
from linkly_workers.link.times import Now, check_future

BATCH = 500
"""Links that are inserted in one transaction."""

PROBLEM_LIMIT = 100


class Imports:
    """The part of the link worker that imports links in batches."""

    _store: LinkStore
    _new_links: NewLinks
    _now: Now
    _open_reader: Callable[[ChannelRef], Awaitable[ChannelReader]]

    def open(
        self,
        store: LinkStore,
        new_links: NewLinks,
        now: Now,
        open_reader: Callable[[ChannelRef], Awaitable[ChannelReader]],
    ) -> None:
        """Import into a store from now on."""
        self._store, self._new_links, self._now, self._open_reader = store, new_links, now, open_reader

    @function("link::import")
    async def import_links(self, request: Import) -> Imported:
        """Import links, from a list or as CSV from a channel. What cannot be imported is skipped and named."""
        result = Imported(0, 0, [])
        batch: list[tuple[int, NewLink]] = []
        index = -1
        async for row in self._rows(request, result.ignored_columns.append):
            index += 1
            try:
                if isinstance(row, LinklyError):
                    raise row
                link = self._new_links.asked(msgspec.convert(row, ImportLink))
                check_future(link.expires_at, self._now())
                batch.append((index, link))
            except (LinklyError, msgspec.ValidationError) as error:
                _skip(result, index, error.message if isinstance(error, LinklyError) else str(error))
            if len(batch) == BATCH:
                await self._keep(batch, result)
        await self._keep(batch, result)
        result.problems.sort(key=lambda problem: problem.index)
        return result

    async def _rows(self, request: Import, ignore: Callable[[str], object]) -> AsyncIterator[Any]:
        for row in request.links:
            yield row
        if request.reader is not None:
            reader = await self._open_reader(request.reader)
            try:
                async for row in csv_rows(reader, ignore):
                    yield row
            finally:
                await reader.close()

    async def _keep(self, batch: list[tuple[int, NewLink]], result: Imported) -> None:
        links = [link if link.code else self._new_links.with_code(link) for _, link in batch]
        inserted = await self._store.insert_many(links) if batch else []
        for (index, link), done in zip(batch, inserted, strict=True):
            if not done and link.code:
                _skip(result, index, f"code `{link.code}` is taken")
                continue
            if not done:
                await self._new_links.keep(link)
            result.imported += 1
        batch.clear()


def _skip(result: Imported, index: int, reason: str) -> None:
    result.skipped += 1
    if len(result.problems) < PROBLEM_LIMIT:
        result.problems.append(ImportProblem(index, reason))
