"""Removes what has been kept long enough: jobs some time after their end, dead letters, idempotency keys.

Works on queues in which something has ended, and where the oldest job has become old enough; a hundred jobs in each
transaction. Nothing is written while there is nothing to remove. Dead letters are discarded first, so they can be
looked up for a while longer.

Jobs whose functions nobody serves are dead after a long time. Each engine notes now and then which functions it can
reach, so one that none has reached for so long is absent on all of them; the time in which no engine ran does not
count as long as one runs for less than `GRACE_S`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any

import msgspec

from linkly.clock import Clock, time_limit
from linkly.errors import LinklyError
from linkly_workers.queue.jobs import Lane, Reason, State, error_text, unpack_head
from linkly_workers.queue.queues import Queues
from linkly_workers.queue.records import json_list
from linkly_workers.queue.settings import QueueSettings
from linkly_workers.queue.store import MOST_ROWS, QueueStore

log = logging.getLogger("linkly.queue")

PAUSE_S = 5.0
"""At least so long between two rounds."""

AT_A_TIME = 100
"""Jobs that are removed in one transaction: those that begin and end meanwhile wait for it, 2 to 3 ms."""

GRACE_S = 3600.0
"""So long after the start no job is dead because its function is absent: its worker may come yet."""

ENDED = (State.DONE, State.CANCELLED, State.DISCARDED, State.EXPIRED)
FOREVER = 1 << 62


class Retention:
    """Removes what a store has kept long enough.

    Args:
        store: Where the jobs are.
        queues: Their settings.
        clock: For pauses.
        absent_ms: After so long without its function a job is dead.
    """

    def __init__(self, store: QueueStore, queues: Queues, clock: Clock, absent_ms: int) -> None:
        self._store = store
        self._queues = queues
        self._clock = clock
        self._absent_ms = absent_ms
        self._changed = asyncio.Event()
        self._dirty: set[int] = set()
        self._due: dict[int, int] = {}
        self._keys_due = 0
        self._look_at = 0
        self._may_give_up_at = 0

    def ended(self, queue: int, _state: State, _positions: Sequence[int]) -> None:
        """Note that jobs of a queue have ended."""
        self._dirty.add(queue)
        self._changed.set()

    async def serve(self) -> None:
        """Serve until this is cancelled."""
        self._may_give_up_at = self._store.now() + min(int(GRACE_S * 1000), self._absent_ms)
        self._dirty.update(row.id for row in await self._rows())
        while True:
            try:
                await self._round()
            except Exception as error:
                if not isinstance(error, LinklyError):
                    log.exception("removing old jobs has failed, it is tried again")
                else:
                    log.warning("old jobs cannot be removed now, it is tried again: %s", error)
            await self._clock.sleep(PAUSE_S)
            await self._wait()

    async def _rows(self) -> list[Any]:
        while True:
            try:
                return list(await self._store.queues())
            except LinklyError:
                await self._clock.sleep(PAUSE_S)

    async def _wait(self) -> None:
        """Return when something has ended, or is old enough."""
        while not self._dirty:
            at = min([self._look_at, self._keys_due, *self._due.values()])
            wait_s = (at - self._store.now()) / 1000
            if wait_s <= 0:
                return
            self._changed.clear()
            with suppress(TimeoutError):
                async with time_limit(self._clock, wait_s):
                    await self._changed.wait()

    async def _round(self) -> None:
        now = self._store.now()
        for queue in self._dirty | {number for number, at in self._due.items() if at <= now}:
            self._dirty.discard(queue)
            self._due.pop(queue, None)
            try:
                await self._clean(queue, now)
            except BaseException:
                self._dirty.add(queue)
                raise
        if self._keys_due <= now:
            await self._forget_keys(now)
        if self._look_at <= now:
            await self._look_for_absent(now)

    async def _clean(self, queue: int, now: int) -> None:
        served = self._queues.served(queue)
        settings = QueueSettings() if served is None else served.settings
        due: list[int] = []
        for state in ENDED:
            due += await self._forget(queue, state, now, settings)
        due += await self._discard(queue, now, settings)
        if due:
            self._due[queue] = min(due)

    async def _forget(self, queue: int, state: State, now: int, settings: QueueSettings) -> list[int]:
        """Remove jobs of one state; return when the oldest that is left has to go."""
        mine = {"queue": queue, "state": int(state)}
        oldest = await self._oldest(mine)
        if oldest is None:
            return []
        cut = (now - settings.keep_done_ms, FOREVER)
        if boundary := await self._store.scripts.query("kept", {**mine, "keep": settings.keep_done}):
            cut = max(cut, (boundary[0]["finished_at"], boundary[0]["position"]))
        if (oldest, 0) < cut:
            values = {**mine, "at": cut[0], "position": cut[1], "most": AT_A_TIME}
            await self._by_pieces("forget", values)
            oldest = await self._oldest(mine)
        return [] if oldest is None else [oldest + settings.keep_done_ms]

    async def _by_pieces(self, script: str, values: dict[str, int]) -> None:
        """Remove piece by piece; in between as long as one takes belongs to the jobs that run."""
        # Not the time of a clock that is passed in: what it bounds is the work of this loop.
        began = perf_counter()
        while (await self._store.scripts.execute(script, values))["affected_rows"] == AT_A_TIME:
            await asyncio.sleep(perf_counter() - began)
            began = perf_counter()

    async def _discard(self, queue: int, now: int, settings: QueueSettings) -> list[int]:
        """Discard dead letters; return when the oldest that is left has to go."""
        values = {"queue": queue, "at": now - settings.keep_dead_ms, "most": MOST_ROWS}
        while rows := await self._store.scripts.query("outlived", values):
            discarded = await self._store.discard(queue, [row["position"] for row in rows], ())
            self._queues.endings.tell(queue, State.DISCARDED, discarded)
        oldest = await self._oldest({"queue": queue, "state": int(State.DEAD)})
        return [] if oldest is None else [oldest + settings.keep_dead_ms]

    async def _oldest(self, values: dict[str, int]) -> int | None:
        [row] = await self._store.scripts.query("oldest", values)
        at: int | None = row["at"]
        return at

    async def _forget_keys(self, now: int) -> None:
        [row] = await self._store.scripts.query("oldest_key", {})
        if row["at"] is not None and row["at"] <= now:
            values = {"now": now, "most": AT_A_TIME}
            await self._by_pieces("forget_keys", values)
            [row] = await self._store.scripts.query("oldest_key", {})
        # A key that is used from now on expires later than that.
        self._keys_due = now + 60_000 if row["at"] is None else max(row["at"], now + 60_000)

    # --- absent functions ----------------------------------------------------------------------------------

    async def _look_for_absent(self, now: int) -> None:
        """Note which functions are served, and give up jobs of those that have been absent for too long."""
        every_ms = min(self._absent_ms // 4 + 1, 3_600_000)
        lanes = await self._store.lanes()
        served = [lane.id for lane in lanes if self._queues.functions.serve(lane)]
        unknown = [lane.id for lane in lanes if not self._queues.functions.serve(lane)]
        for ids, before in ((served, now - self._absent_ms // 4), (unknown, 0)):
            if ids:
                await self._store.scripts.execute("served", {"now": now, "before": before, "lanes": json_list(ids)})
        if now >= self._may_give_up_at:
            # What is served is noted so often only, so it may have been a quarter later.
            values = {"before": now - self._absent_ms - self._absent_ms // 4}
            for lane in msgspec.convert(await self._store.scripts.query("absent_lanes", values), list[Lane]):
                if lane.function_id and not self._queues.functions.serve(lane):
                    await self._give_up(lane, now)
        self._look_at = now + every_ms

    async def _give_up(self, lane: Lane, now: int) -> None:
        error = error_text(
            {
                "code": "no_function",
                "message": f"nobody has served `{lane.function_id}` for {self._absent_ms} ms (`absent_retention_ms`)",
            }
        )
        after = 0
        values = {"lane": lane.id, "most": MOST_ROWS}
        while rows := await self._store.scripts.query("absent", {**values, "after": after}):
            after = rows[-1]["position"]
            heads = [unpack_head(msgspec.convert(row["head"], bytes)) for row in rows]
            old = [row for row, head in zip(rows, heads, strict=True) if head.enqueued_at <= now - self._absent_ms]
            if old:
                groups = {row["message_group"] for row in old}
                positions = [row["position"] for row in old]
                dead = await self._store.give_up(lane.queue, positions, groups, Reason.NO_FUNCTION, error)
                self._queues.endings.tell(lane.queue, State.DEAD, dead)
