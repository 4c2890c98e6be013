"""Counts clicks in a database: clicks that wait share one transaction, and each is counted exactly.

The transaction of many is an UPDATE of the counters and an INSERT of the rows (script `count_many`), by which a click
costs a third of what a transaction of its own does. It takes clicks that nobody else knows by an id, of links without a
limit. What it does not count (no such link, its time is over, it has `max_clicks`) it leaves alone, and if it fails it
has counted nothing; each such click is then decided by itself, by the exact script `count`, so that no click fails
another. Where nobody can know whether the transaction happened, no click is tried again; nor where no statement has
failed but the database (another program has locked it, the disk is full), and then nobody in the line waits any longer.

On a server others may have locked a link. Both scripts pass over it (SKIP LOCKED), and its clicks are tried again with
the next transactions, for as long as `patience.py` says. So nobody waits for it but they.

One transaction is under way at a time; what comes meanwhile gathers for the next, which waits a moment for
those who have just been answered (`_gathered`). Callers take turns in the line.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import asdict

from linkly.context import current_invocation
from linkly.errors import InvalidPayload, LinklyError, OutcomeUnknown, Overloaded
from linkly.invocation import trace_of
from linkly_workers._line import SHARED_FROM, FairLine
from linkly_workers._scripts import ROWS, Scripts, not_committed
from linkly_workers.link.outcome import Counted, Outcome, repetition, why_not
from linkly_workers.link.shapes import LinkDetails
from linkly_workers.link.stores.sql.patience import FIRST_PAUSE_S, Held, Turns, Waiting, stayed_locked
from linkly_workers.link.stores.store import Click

AT_ONCE = ROWS[-1]
"""Clicks that share a transaction at most."""

QUIET_TURNS = 16
"""Turns of the loop, 1.6 us each when nothing happens, that a transaction waits for one more click. Those who have just
been answered over HTTP ask again within 2 to 6."""

GATHERING_S = 0.005
"""It waits no longer than this, even if a click comes now and then: where other work takes 5 ms of each turn, 16 turns
are 80 ms. 64 connections have asked again after 3."""

_current_invocation = current_invocation.get
_REFUSED = (InvalidPayload.code, "INVALID_PARAM", Overloaded.code)
"""Nothing was written, and each click by itself may be: one has a text that is none (half of a surrogate pair), or too
many writes wait in the name of the link worker, in which the transaction is made."""


class Counting:
    """Counts the clicks of one database."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self._line: FairLine[Waiting] = FairLine()
        self._held = Held()
        self._turns = Turns()
        self._running: asyncio.Task[None] | None = None
        self._expected = 0

    async def count(self, click: Click, now: str) -> Counted:
        """Count a click: see `LinkStore.count`.

        Raises:
            Overloaded: Too many clicks of this caller wait; it is not counted.
            Unavailable: Somebody else has locked its link; it is not counted.
            LinklyError: What the database says; `HandlerFailed` if it did not commit.
        """
        if click.click_id is None:
            line = self._line
            told: asyncio.Future[Counted | None] = asyncio.get_running_loop().create_future()
            invocation = _current_invocation()
            caller = None if invocation is None else invocation.origin
            if line.size >= SHARED_FROM:
                line.check(caller, "their clicks to be counted")
            line.append(caller, Waiting(click, now, told, invocation))
            self._start()
            counted = await told
            if counted is not None:
                return counted
        return await self._exactly(click, now)

    async def close(self) -> None:
        """Wait until nobody waits any more."""
        while self._running is not None or self._held:
            if self._running is not None:
                await asyncio.wait([self._running])
            else:
                await asyncio.sleep(FIRST_PAUSE_S)

    def _start(self) -> None:
        if self._running is None:
            # It begins at the end of this turn of the loop, when all have come that the turn brings.
            self._running = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        line, held, loop = self._line, self._held, asyncio.get_running_loop()
        try:
            while True:
                await self._gather()
                again = held.due(loop.time(), max(AT_ONCE // 2, AT_ONCE - line.size)) if held else []
                batch = self._next(AT_ONCE - len(again))
                expected, batch = len(batch), again + batch
                if not batch:
                    held.tidy()
                    break
                await self._count_many(batch)
                self._expected = min(AT_ONCE, expected + line.size)
        finally:
            self._running = None
            if held:
                loop.call_at(held.try_at, self._start)

    async def _gather(self) -> None:
        """Wait for those who have just been answered: most of them ask again at once.

        Without the wait those who come while the others are in a transaction keep one of their own for ever. Seen with
        64 connections: 63 and 1 by turns, and the transaction of the one costs as much as 45 more clicks in the other.
        """
        # Not the time of a clock that is passed in: what it bounds is work of this loop, which moves no test's clock.
        line, now, quiet = self._line, asyncio.get_running_loop().time, 0
        over = now() + GATHERING_S
        while 0 < (came := line.size) < self._expected and quiet < QUIET_TURNS and now() < over:
            await asyncio.sleep(0)
            quiet = 0 if line.size > came else quiet + 1

    def _next(self, most: int) -> list[Waiting]:
        line, batch = self._line, list[Waiting]()
        while line.rotation and len(batch) < most:
            waiting = line.popleft()
            if not waiting.told.done():  # its caller has gone
                batch.append(waiting)
        return batch

    async def _count_many(self, batch: list[Waiting]) -> None:
        """Count what can be counted together, and tell everybody, errors as well."""
        current_invocation.set(trace_of(batch[0].invocation))  # the click that waits longest
        try:
            counted = await self._transaction(batch)
            if counted is None:
                _tell(batch, None)
                return
            rest = list[Waiting]()
            for waiting in batch:
                found = counted.get(waiting.click.code)
                if found is None:
                    rest.append(waiting)
                elif not waiting.told.done():
                    waiting.told.set_result(found)
            if self._held:
                self._held.free(counted)
            if rest:
                batch = rest
                await self._decide(rest)
        except BaseException as error:
            for waiting in batch:
                if not waiting.told.done():
                    waiting.told.set_exception(error)
            if not isinstance(error, Exception):
                raise
        finally:
            if self._held:
                self._held.tidy()

    async def _decide(self, uncounted: list[Waiting]) -> None:
        """Tell what becomes of clicks that a transaction has left alone; hold those of a locked link.

        Most of them are for no link: nothing is written before that is known.
        """
        if not self._scripts.are_shared:
            for waiting in uncounted:
                outcome, link = await self._look(waiting.click, waiting.now)
                _tell([waiting], None if outcome is None else Counted(outcome, link))
            return
        by_code: dict[str, list[Waiting]] = {}
        for waiting in uncounted:
            by_code.setdefault(waiting.click.code, []).append(waiting)
        found = {row["code"]: row for row in await self._scripts.query("find_many", {"link": list(by_code)})}
        for code, clicks in by_code.items():
            row = found.get(code)
            link = None if row is None else msgspec.convert(row, LinkDetails)
            # By the server's clock, which decides.
            outcome = Outcome.NOT_FOUND if row is None or link is None else why_not(link, row["now"])
            if outcome is not None:
                _tell(clicks, Counted(outcome, link))
            elif link is not None and link.max_clicks is not None:
                _tell(clicks, None)
            else:
                for waiting in self._held.hold(code, clicks, asyncio.get_running_loop().time()):
                    if not waiting.told.done():
                        waiting.told.set_exception(stayed_locked(code))

    async def _transaction(self, batch: list[Waiting]) -> dict[str, Counted] | None:
        """Count clicks in one transaction; return by code what was counted, `None` if one of them made it fail.

        If the database made it fail, those in the line are put into the batch: the error is theirs as well.

        Raises:
            LinklyError: Nobody knows whether it happened, or it is of no use to try again.
        """
        clicks = [waiting.click for waiting in batch]
        times = sorted(Counter([click.code for click in clicks]).items())
        values: dict[str, Any] = {
            "link": [code for code, _ in times],
            "times": [count for _, count in times],
            "now": max([waiting.now for waiting in batch]),
            "code": [click.code for click in clicks],
            "clicked_at": [click.clicked_at for click in clicks],
            "visitor": [click.visitor for click in clicks],
            "referrer": [click.referrer for click in clicks],
            "bot": [int(click.bot) for click in clicks],
        }
        try:
            answer = await self._scripts.run(await self._scripts.script("count_many", values))
        except LinklyError as error:
            if error.code in _REFUSED:
                return None
            raise
        if not answer["committed"]:
            if answer.get("failed_index") is None:
                # Batch by batch, each would wait for the lock's time again.
                batch += self._next(self._line.size) + self._held.all()
                raise not_committed(answer)
            return None
        # One statement answers the links, if there are any: which one, differs.
        links = (LinkDetails(*row) for result in answer["results"] for row in result["rows"])
        return {link.code: Counted(Outcome.COUNTED, link) for link in links}

    async def _exactly(self, click: Click, now: str) -> Counted:
        attempt = partial(self._alone, click, now)
        if self._scripts.are_shared:
            return await self._turns.decide(click.code, attempt)
        counted = await attempt()
        assert counted is not None
        return counted

    async def _alone(self, click: Click, now: str) -> Counted | None:
        """Count a click by itself; `None`: somebody else has locked its link."""
        count = await self._scripts.script(
            "count", {**asdict(click), "bot": int(click.bot), "accepted": int(click.accepted), "now": now}
        )
        try:
            answer = await self._scripts.run(count)
        except LinklyError as error:
            if error.code != OutcomeUnknown.code or click.click_id is None:
                raise
            answer = await self._scripts.run(count)  # by its id it is known if it was counted
        if answer["committed"]:
            for result in answer["results"]:
                if rows := result["rows"]:
                    return Counted(Outcome.COUNTED, LinkDetails(*rows[0]))
        elif click.click_id is None or answer.get("failed_index") is None:
            raise not_committed(answer)
        outcome, link = await self._look(click, now)
        if outcome is None:
            if not answer["committed"]:  # it did not fail because it was counted at the same time
                raise not_committed(answer)
            if self._scripts.are_shared:
                return None
        # Its limits may have been raised since: when it was to be counted, it had no click left.
        return Counted(outcome or Outcome.EXHAUSTED, link)

    async def _look(self, click: Click, now: str) -> tuple[Outcome | None, LinkDetails | None]:
        """Return what becomes of a click that was not counted, `None` if it would be counted now, and its link."""
        rows = await self._scripts.query("uncounted", {"code": click.code, "click_id": click.click_id, "now": now})
        if not rows:
            return Outcome.NOT_FOUND, None
        link, counted_at = msgspec.convert(rows[0], LinkDetails), rows[0]["counted_at"]
        now = rows[0]["now"]  # by the clock that decides: a server's is its own
        if counted_at is not None:
            return repetition(link, counted_at, now), link
        return (None if click.accepted else why_not(link, now)), link


def _tell(clicks: list[Waiting], counted: Counted | None) -> None:
    for waiting in clicks:
        if not waiting.told.done():
            waiting.told.set_result(counted)
