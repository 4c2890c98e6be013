"""Counting clicks."""

from __future__ import annotations

from collections.abc import Callable

from linkly import Bus, Void
from linkly_workers.link.outcome import Counted
from linkly_workers.link.shapes import RecordClick
from linkly_workers.link.stores.store import Click, LinkStore
from linkly_workers.link.times import Now, given_time


class Clicks:
    """Counts clicks in the store."""

    def __init__(self, bus: Bus, store: LinkStore, spelled: Callable[[str], str], now: Now) -> None:
        self._bus = bus
        self._store = store
        self._spelled = spelled
        self._now = now

    async def count(self, request: RecordClick) -> Counted:
        """Count a click, once for each of its ids; answered when it is on disk.

        Raises:
            InvalidArguments: `clicked_at` lies outside the years 1 to 9999.
        """
        now = self._now()
        click = Click(
            code=self._spelled(request.code),
            click_id=request.click_id,
            clicked_at=now if request.clicked_at is None else given_time(request.clicked_at, "clicked_at"),
            visitor=request.visitor,
            referrer=request.referrer,
            bot=request.bot,
        )
        return await self._store.count(click, now)

    async def count_in_background(self, request: RecordClick) -> None:
        """Have a click counted by a call of its own, which nobody waits for."""
        await self._bus.trigger("link::record_click", request, action=Void())
