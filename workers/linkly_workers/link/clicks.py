"""Counting clicks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from linkly import Bus, Void, function
from linkly_workers.link.outcome import Counted
from linkly_workers.link.shapes import RecordClick, Recorded
from linkly_workers.link.stores.store import Click, LinkStore
from linkly_workers.link.times import Now, given_time


class Clicks:
    """The part of the link worker that counts clicks in the store."""

    _bus: Bus
    _store: LinkStore
    _spelled: Callable[[str], str]
    _now: Now

    def open(self, bus: Bus, store: LinkStore, spelled: Callable[[str], str], now: Now) -> None:
        """Count in a store from now on."""
        self._bus, self._store, self._spelled, self._now = bus, store, spelled, now

    @function("link::record_click")
    async def record_click(self, request: RecordClick) -> Recorded:
        """Count a click, once for each click_id; answered when it is on disk."""
        outcome = (await self.count(request)).outcome
        if outcome.is_counted:
            return Recorded(recorded=True)
        return Recorded(recorded=False, reason=outcome.value)

    def count(self, request: RecordClick) -> Awaitable[Counted]:
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
        return self._store.count(click, now)

    async def count_in_background(self, request: RecordClick) -> None:
        """Have a click counted by a call of its own, which nobody waits for."""
        await self._bus.trigger("link::record_click", request, action=Void())
