"""Counting clicks: at once, by a call that nobody waits for, or by a job of the queue worker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import msgspec

from linkly import Bus, Void, function
from linkly.errors import LinklyError
from linkly.queue import current_job
from linkly_workers._scripts import Unavailable
from linkly_workers.link.outcome import Counted
from linkly_workers.link.shapes import RecordClick, Recorded
from linkly_workers.link.stores.store import Click, LinkStore
from linkly_workers.link.times import Now, given_time

Count: TypeAlias = Literal["before_redirect", "in_background", "queued"]


class Clicks:
    """The part of the link worker that counts clicks in the store."""

    _bus: Bus
    _store: LinkStore
    _spelled: Callable[[str], str]
    _now: Now
    _queue: str

    def open(self, bus: Bus, store: LinkStore, spelled: Callable[[str], str], now: Now, queue: str) -> None:
        """Count in a store from now on; jobs that count are in `queue`."""
        self._bus, self._store, self._spelled, self._now, self._queue = bus, store, spelled, now, queue

    @function("link::record_click")
    async def record_click(self, request: RecordClick) -> Recorded:
        """Count a click, once for each click_id; answered when it is on disk."""
        return _recorded(await self.count(request))

    @function("link::count_queued", metadata={"internal": True})
    async def count_queued(self, request: RecordClick) -> Recorded:
        """Count the click of a job, once however often the job runs.

        It was redirected when it was accepted, so what the link's limits say now does not matter.
        """
        click_id = current_job().id if request.click_id is None else request.click_id
        click = msgspec.structs.replace(self._click(request), click_id=click_id, accepted=True)
        return _recorded(await self._store.count(click, self._now()))

    def count(self, request: RecordClick) -> Awaitable[Counted]:
        """Count a click, once for each of its ids; answered when it is on disk.

        Raises:
            InvalidArguments: `clicked_at` lies outside the years 1 to 9999.
        """
        return self._store.count(self._click(request), self._now())

    async def count_in_background(self, request: RecordClick) -> None:
        """Have a click counted by a call of its own, which nobody waits for."""
        await self._bus.trigger("link::record_click", request, action=Void())

    async def count_from_queue(self, request: RecordClick) -> None:
        """Have a click of now counted by a job; it is on disk when this returns.

        Raises:
            Unavailable: The queue does not take it: its database is away, or it is full. Nothing was accepted.
            LinklyError: There is no such queue, or nobody knows whether it has taken it (`outcome_unknown`).
        """
        clicked_at = datetime.fromtimestamp(self._bus.clock.time(), UTC)
        click = msgspec.structs.replace(request, clicked_at=clicked_at)
        # No key of the queue's: who asks again has other headers, and the click's own id outlives the queue's window.
        job = {"queue": self._queue, "function_id": "link::count_queued", "payload": click}
        try:
            await self._bus.trigger("queue::enqueue", job)
        except LinklyError as error:
            if error.code == Unavailable.code or error.details.get("retryable"):
                raise Unavailable(f"the click was not accepted: {error.message}") from error
            raise

    def _click(self, request: RecordClick) -> Click:
        return Click(
            code=self._spelled(request.code),
            click_id=request.click_id,
            clicked_at=self._now() if request.clicked_at is None else given_time(request.clicked_at, "clicked_at"),
            visitor=request.visitor,
            referrer=request.referrer,
            bot=request.bot,
        )


def _recorded(counted: Counted) -> Recorded:
    outcome = counted.outcome
    return Recorded(recorded=True) if outcome.is_counted else Recorded(recorded=False, reason=outcome.value)
