"""Links and clicks in memory, for as long as the process lives."""

from __future__ import annotations

import secrets
from collections import Counter

import msgspec

from linkly_workers.link.outcome import Counted, Outcome, repetition, why_not
from linkly_workers.link.shapes import DayCount, LinkDetails, Mismatch, ReferrerCount, Stats, Verification
from linkly_workers.link.stores.store import (
    MISMATCH_LIMIT,
    REFERRER_LIMIT,
    Changes,
    Click,
    Idempotency,
    Made,
    NewLink,
    Position,
    code_taken,
    key_reused,
)


class MemoryStore:
    """`LinkStore` in dictionaries. No method suspends, so each is atomic."""

    is_shared = False

    def __init__(self) -> None:
        self._links: dict[str, LinkDetails] = {}
        self._clicks: dict[str, dict[str | int, Click]] = {}  # by id, or by number for who has none
        self._keys: dict[str, tuple[str, NewLink]] = {}
        self._key_of: dict[str, str] = {}  # by code, of links that were made with a key
        self._secret = secrets.token_bytes(32)

    async def open(self) -> None:  # noqa: D102
        pass

    async def close(self) -> None:  # noqa: D102
        pass

    async def secret(self) -> bytes:  # noqa: D102
        return self._secret

    async def insert(self, link: NewLink, idempotency: Idempotency | None = None) -> Made:  # noqa: D102
        if idempotency is not None:
            known = await self.made_with(idempotency)
            if known is not None:
                return Made(known, repeated=True)
        if not self._put(link):
            raise code_taken(link.code)
        if idempotency is not None:
            self._keys[idempotency.key] = (idempotency.request, link)
            self._key_of[link.code] = idempotency.key
        return Made(link, repeated=False)

    async def made_with(self, idempotency: Idempotency) -> NewLink | None:  # noqa: D102
        self._forget_keys(idempotency.forget_before)
        known = self._keys.get(idempotency.key)
        if known is None:
            return None
        if known[0] != idempotency.request:
            raise key_reused(idempotency.key)
        return known[1]

    async def codes_with_capitals(self) -> list[str]:  # noqa: D102
        capitals = [code for code in self._links if code != code.lower()]
        return capitals + sorted({code.lower() for code in capitals} & self._links.keys())

    async def insert_many(self, links: list[NewLink]) -> list[bool]:  # noqa: D102
        return [self._put(link) for link in links]

    async def find(self, code: str) -> LinkDetails | None:  # noqa: D102
        found = self._links.get(code)
        return None if found is None else msgspec.structs.replace(found)

    async def update(self, code: str, changes: Changes) -> LinkDetails | None:  # noqa: D102
        link = self._links.get(code)
        if link is None:
            return None
        for name, value in msgspec.structs.asdict(changes).items():
            if value is not msgspec.UNSET:
                setattr(link, name, value)
        return msgspec.structs.replace(link)

    async def delete(self, code: str) -> bool:  # noqa: D102
        self._clicks.pop(code, None)
        key = self._key_of.pop(code, None)
        if key is not None:
            del self._keys[key]
        return self._links.pop(code, None) is not None

    async def listing(self, after: Position | None, limit: int) -> list[LinkDetails]:  # noqa: D102
        ordered = sorted(self._links.values(), key=lambda link: (link.created_at, link.code), reverse=True)
        rest = [link for link in ordered if after is None or (link.created_at, link.code) < after]
        return [msgspec.structs.replace(link) for link in rest[:limit]]

    async def count(self, click: Click, now: str) -> Counted:  # noqa: D102
        link = self._links.get(click.code)
        if link is None:
            return Counted(Outcome.NOT_FOUND)
        rows = self._clicks.setdefault(click.code, {})
        counted = None if click.click_id is None else rows.get(click.click_id)
        if counted is not None:
            outcome = repetition(link, counted.clicked_at, now)
        else:
            outcome = (None if click.accepted else why_not(link, now)) or Outcome.COUNTED
        if outcome is Outcome.COUNTED:
            rows[len(rows) if click.click_id is None else click.click_id] = click
            link.clicks += 1
        return Counted(outcome, msgspec.structs.replace(link))

    async def stats(self, code: str, since_day: str) -> Stats | None:  # noqa: D102
        if code not in self._links:
            return None
        rows = list(self._clicks.get(code, {}).values())
        people = [click for click in rows if not click.bot]
        days = Counter(click.clicked_at[:10] for click in people)
        hosts = Counter(click.referrer for click in people)
        busiest = sorted(hosts.items(), key=lambda item: (-item[1], item[0] or ""))[:REFERRER_LIMIT]
        return Stats(
            code=code,
            total=len(people),
            unique=len({click.visitor for click in people} - {None}),
            bots=len(rows) - len(people),
            by_day=[DayCount(day, count) for day, count in sorted(days.items()) if day >= since_day],
            by_referrer=[ReferrerCount(host, count) for host, count in busiest],
        )

    async def verify(self) -> Verification:  # noqa: D102
        rows = {code: len(clicks) for code, clicks in self._clicks.items()}
        different = [
            Mismatch(code, link.clicks, rows.get(code, 0))
            for code, link in sorted(self._links.items())
            if link.clicks != rows.get(code, 0)
        ]
        return Verification(
            ok=not different,
            links=len(self._links),
            counted=sum(link.clicks for link in self._links.values()),
            rows=sum(rows.values()),
            mismatches=different[:MISMATCH_LIMIT],
        )

    def _put(self, link: NewLink) -> bool:
        if link.code in self._links:
            return False
        self._links[link.code] = LinkDetails(link.code, link.url, link.created_at, 0, link.expires_at, link.max_clicks)
        return True

    def _forget_keys(self, before: str) -> None:
        # In order of creation: the old ones stand first.
        while self._keys:
            key, (_, link) = next(iter(self._keys.items()))
            if link.created_at >= before:
                return
            del self._keys[key], self._key_of[link.code]
