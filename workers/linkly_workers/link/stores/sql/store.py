"""Links and clicks in a database, over `database::*`: durable, counted in SQL (`counting.py`)."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable
from typing import Any

import msgspec
from msgspec.structs import asdict

from linkly.atomic import ExpectationFailed
from linkly.errors import LinklyError
from linkly_workers._scripts import AN_HOUR_MS, Keeper, Scripts, Trigger, not_committed
from linkly_workers.link.outcome import Counted
from linkly_workers.link.shapes import Link, LinkDetails, Stats, Verification
from linkly_workers.link.stores.sql.counting import Counting
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

LINKS = Keeper("link", "links", "linkly_workers.link.stores.sql", "store: memory", "read_committed")
"""Also what the link workers of one bus call themselves as writers: they take care of the cache, others do not.

At its isolation a link is locked and then looked at as it is, not as it was when the transaction began; and MariaDB
locks no gaps between keys, in which new ones are to be put. On PostgreSQL it costs nothing, on MySQL a round trip.
"""

REFUSED = "DRIVER_ERROR"
"""What a database says that refuses a taken code, where INSERT cannot say what to do then."""

AGAIN = (False, True)
"""A refused code may be free when it is looked up: its link was deleted meanwhile. Then it is inserted again."""


class SqlStore:
    """`LinkStore` on a database of the `database` worker."""

    def __init__(self, trigger: Trigger, db: str, *, publishes: bool = False) -> None:
        self._scripts = Scripts(trigger, db, LINKS)
        self._publishes = publishes
        self._counting = Counting(self._scripts)

    @property
    def is_shared(self) -> bool:  # noqa: D102
        return self._scripts.are_shared

    async def open(self) -> None:  # noqa: D102
        await self._scripts.migrate()

    async def close(self) -> None:  # noqa: D102
        await self._counting.close()

    async def secret(self) -> bytes:  # noqa: D102
        await self._scripts.transaction("keep_secret", {"secret": secrets.token_hex(32)})
        rows = await self._scripts.query("secret", {})
        return bytes.fromhex(rows[0]["value"])

    async def insert(self, link: NewLink, idempotency: Idempotency | None = None) -> Made:  # noqa: D102
        values = asdict(link)
        if idempotency is None:
            if not await self._insert(link):
                raise code_taken(link.code)
            return Made(link, repeated=False)
        insert = await self._scripts.script("insert_with_key", values | asdict(idempotency))
        answer = await (self._run_and_publish(insert, link) if self._publishes else self._scripts.run(insert))
        if answer["committed"]:
            return Made(link, repeated=False)
        # What the transaction forgot came back with its rollback.
        known = await self.made_with(idempotency)
        if known is not None:
            return Made(known, repeated=True)
        if await self.find(link.code) is not None:
            raise code_taken(link.code)
        raise not_committed(answer)

    async def made_with(self, idempotency: Idempotency) -> NewLink | None:  # noqa: D102
        known = await self._scripts.query("made_with_key", asdict(idempotency))
        if not known:
            return None
        if known[0]["request"] != idempotency.request:
            raise key_reused(idempotency.key)
        return msgspec.convert(known[0], NewLink)

    async def codes_with_capitals(self) -> list[str]:  # noqa: D102
        found: list[str] = []
        after = ""
        while rows := await self._scripts.query("codes_with_capitals", {"after": after}):
            after = rows[-1]["code"]
            for row in rows:
                found.append(row["code"])
                if row["has_twin"]:
                    found.append(row["code"].lower())
        return found

    async def insert_many(self, links: list[NewLink]) -> list[bool]:  # noqa: D102
        if self._publishes:  # of one statement for all nobody knows in advance which links it makes
            return [await self._insert(link) for link in links]
        # In one order, so that two imports never wait for each other; of equal codes the first one wins.
        places = sorted(range(len(links)), key=lambda place: links[place].code)
        inserts = [each for place in places for each in await self._scripts.script("insert", asdict(links[place]))]
        for is_last in AGAIN:
            answer = await self._scripts.run(inserts)
            if answer["committed"]:
                results = answer["results"]
                inserted = dict(zip(places, (result["affected_rows"] == 1 for result in results), strict=True))
                return [inserted[place] for place in range(len(links))]
            failed = answer.get("failed_index")
            if failed is not None and await self._is_taken(links[places[failed]].code, links):
                return [await self._insert(link) for link in links]  # where a taken code fails the others
            if is_last:
                raise not_committed(answer)
        raise AssertionError("the last attempt has an end")

    async def _is_taken(self, code: str, among: list[NewLink]) -> bool:
        return sum(link.code == code for link in among) > 1 or await self.find(code) is not None

    async def _insert(self, link: NewLink) -> bool:
        """Insert a link; return whether its code was free."""
        for is_last in AGAIN:
            try:
                if self._publishes:
                    [insert] = await self._scripts.script("insert", asdict(link))
                    await self._scripts.atomic([{**insert, "expect_rows": 1}, _created(link)])
                    return True
                return bool((await self._scripts.execute("insert", asdict(link)))["affected_rows"])
            except LinklyError as error:
                if error.code == ExpectationFailed.code:
                    return False
                if error.code != REFUSED:
                    raise
                if await self.find(link.code) is not None:
                    return False
                if is_last:
                    raise
        raise AssertionError("the last attempt has an end")

    async def find(self, code: str) -> LinkDetails | None:  # noqa: D102
        rows = await self._scripts.query("find", {"code": code})
        return msgspec.convert(rows[0], LinkDetails) if rows else None

    async def update(self, code: str, changes: Changes) -> LinkDetails | None:  # noqa: D102
        given = {name: value for name, value in asdict(changes).items() if value is not msgspec.UNSET}
        if not given:
            return await self.find(code)
        values = {"code": code, "url": None, "expires_at": None, "max_clicks": None, **given}
        kept = {f"keep_{name}": name not in given for name in values}
        if self._publishes:
            return await self._update_and_publish(code, given, await self._scripts.script("update", values | kept))
        rows = (await self._scripts.transaction("update", values | kept))[-1]["rows"]
        return LinkDetails(*rows[0]) if rows else None

    async def _update_and_publish(
        self, code: str, given: dict[str, Any], update: list[dict[str, Any]]
    ) -> LinkDetails | None:
        """Change a link and publish what it is then: it is read before, again if others were first."""
        while (link := await self.find(code)) is not None:
            [unchanged] = await self._scripts.script("unchanged", asdict(link))
            link = msgspec.structs.replace(link, **given)
            event = _event("link.updated", link)
            try:
                results = await self._scripts.atomic([{**unchanged, "expect_rows": 1}, *update, event])
            except LinklyError as error:
                if error.code != ExpectationFailed.code:
                    raise
                continue  # somebody was first, so there is progress
            return LinkDetails(*results[-2]["rows"][0])
        return None

    async def _run_and_publish(self, insert: list[dict[str, Any]], link: NewLink) -> dict[str, Any]:
        """Run the statements that insert a link as `Scripts.run`, and publish it."""
        try:
            await self._scripts.atomic([*insert, _created(link)])
        except LinklyError as error:
            if error.code != REFUSED:
                raise
            return {"committed": False, "error": {"message": error.message}}
        return {"committed": True}

    async def delete(self, code: str) -> bool:  # noqa: D102
        _, link, _ = await self._scripts.transaction("delete", {"code": code})
        return bool(link["affected_rows"])

    async def listing(self, after: Position | None, limit: int) -> list[LinkDetails]:  # noqa: D102
        if after is None:
            rows = await self._scripts.query("newest", {"limit": limit})
        else:
            rows = await self._scripts.query("older", {"created_at": after[0], "code": after[1], "limit": limit})
        return msgspec.convert(rows, list[LinkDetails])

    def count(self, click: Click, now: str) -> Awaitable[Counted]:  # noqa: D102
        return self._counting.count(click, now)

    async def stats(self, code: str, since_day: str) -> Stats | None:  # noqa: D102
        values = {"code": code, "since_day": since_day, "referrer_limit": REFERRER_LIMIT}
        rows = await self._scripts.query("stats", values)
        if not rows:
            return None
        row = rows[0]
        figures = {"code": code, "total": row["total"], "unique": row["uniques"], "bots": row["bots"]}
        lists = {name: msgspec.json.decode(row[name]) for name in ("by_day", "by_referrer")}
        return msgspec.convert({**figures, **lists}, Stats)

    async def verify(self) -> Verification:  # noqa: D102
        row = (await self._scripts.query("verify", {"mismatch_limit": MISMATCH_LIMIT}, AN_HOUR_MS))[0]
        mismatches = msgspec.json.decode(row["mismatches"])
        return msgspec.convert({**row, "ok": not mismatches, "mismatches": mismatches}, Verification)


def _created(link: NewLink) -> dict[str, Any]:
    return _event("link.created", link)


def _event(topic: str, link: NewLink | LinkDetails) -> dict[str, Any]:
    """Return the operation that publishes what has become of a link."""
    data = Link(link.code, link.url, link.expires_at, link.max_clicks)
    return {"function_id": "iii::durable::publish", "payload": {"topic": topic, "data": data}}
