"""Links and clicks in a database, over `database::*`: durable, counted in SQL.

A click is one transaction: a row in `clicks`, and `clicks = clicks + 1` on the row in `links` if that row is new. The
conditions (the link is there, its time is not over, it has clicks left, this click is not counted yet) stand in the
INSERT, so that whatever happens at the same time, they hold for exactly the rows that are written.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec.structs import asdict

from linkly.errors import ConfigError, HandlerFailed
from linkly_workers.link.outcome import Counted, Outcome, repetition, why_not
from linkly_workers.link.shapes import LinkDetails, Stats, Verification
from linkly_workers.link.stores.sql.dialect import Dialect, dialect
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

ORIGIN = "link"
"""What the link workers of one bus call themselves as writers: they take care of the cache, others do not."""


class SqlStore:
    """`LinkStore` on a database of the `database` worker."""

    def __init__(self, trigger: Callable[[str, Any], Awaitable[Any]], db: str) -> None:
        self._trigger = trigger
        self._db = db
        self._scripts: Dialect | None = None

    async def open(self) -> None:  # noqa: D102
        # Asked again each time: after a change of the config another kind of database may have this name.
        scripts = self._scripts = await self._dialect()
        await self._transaction(await self._script("tables", {}))
        columns = {row["name"] for row in await self._query("columns", {})}
        missing = [name for name in scripts if "." in name and name not in columns]
        await self._transaction([each for name in (*missing, "indexes") for each in await self._script(name, {})])

    async def secret(self) -> bytes:  # noqa: D102
        await self._transaction(await self._script("keep_secret", {"secret": secrets.token_hex(32)}))
        rows = await self._query("secret", {})
        return bytes.fromhex(rows[0]["value"])

    async def insert(self, link: NewLink, idempotency: Idempotency | None = None) -> Made:  # noqa: D102
        values = asdict(link)
        if idempotency is None:
            if not (await self._execute("insert", values))["affected_rows"]:
                raise code_taken(link.code)
            return Made(link, repeated=False)
        answer = await self._try_transaction(await self._script("insert_with_key", values | asdict(idempotency)))
        if answer["committed"]:
            return Made(link, repeated=False)
        # What the transaction forgot came back with its rollback.
        known = await self.made_with(idempotency)
        if known is not None:
            return Made(known, repeated=True)
        if await self.find(link.code) is not None:
            raise code_taken(link.code)
        raise _not_committed(answer)

    async def made_with(self, idempotency: Idempotency) -> NewLink | None:  # noqa: D102
        known = await self._query("made_with_key", asdict(idempotency))
        if not known:
            return None
        if known[0]["request"] != idempotency.request:
            raise key_reused(idempotency.key)
        return msgspec.convert(known[0], NewLink)

    async def codes_with_capitals(self) -> list[str]:  # noqa: D102
        found: list[str] = []
        after = ""
        while rows := await self._query("codes_with_capitals", {"after": after}):
            after = rows[-1]["code"]
            for row in rows:
                found.append(row["code"])
                if row["has_twin"]:
                    found.append(row["code"].lower())
        return found

    async def insert_many(self, links: list[NewLink]) -> list[bool]:  # noqa: D102
        results = await self._transaction(
            [each for link in links for each in await self._script("insert", asdict(link))]
        )
        return [result["affected_rows"] == 1 for result in results]

    async def find(self, code: str) -> LinkDetails | None:  # noqa: D102
        rows = await self._query("find", {"code": code})
        return msgspec.convert(rows[0], LinkDetails) if rows else None

    async def update(self, code: str, changes: Changes) -> LinkDetails | None:  # noqa: D102
        given = {name: value for name, value in asdict(changes).items() if value is not msgspec.UNSET}
        if not given:
            return await self.find(code)
        values = {"code": code, "url": None, "expires_at": None, "max_clicks": None, **given}
        kept = {f"keep_{name}": name not in given for name in values}
        rows = (await self._execute("update", values | kept))["returned_rows"]
        return msgspec.convert(rows[0], LinkDetails) if rows else None

    async def delete(self, code: str) -> bool:  # noqa: D102
        results = await self._transaction(await self._script("delete", {"code": code}))
        return bool(results[0]["affected_rows"])

    async def listing(self, after: Position | None, limit: int) -> list[LinkDetails]:  # noqa: D102
        if after is None:
            rows = await self._query("newest", {"limit": limit})
        else:
            rows = await self._query("older", {"created_at": after[0], "code": after[1], "limit": limit})
        return msgspec.convert(rows, list[LinkDetails])

    async def count(self, click: Click, now: str) -> Counted:  # noqa: D102
        values = {**asdict(click), "bot": int(click.bot), "now": now}
        results = await self._transaction(await self._script("count", values))
        if results[0]["affected_rows"] == 1:
            return Counted(Outcome.COUNTED)
        rows = await self._query("uncounted", values)
        if not rows:
            return Counted(Outcome.NOT_FOUND)
        link, counted_at = msgspec.convert(rows[0], LinkDetails), rows[0]["counted_at"]
        if counted_at is not None:
            return Counted(repetition(link, counted_at, now), link)
        # Its limits may have been raised since: when it was to be counted, it had no click left.
        return Counted(why_not(link, now) or Outcome.EXHAUSTED, link)

    async def stats(self, code: str, since_day: str) -> Stats | None:  # noqa: D102
        values = {"code": code, "since_day": since_day, "referrer_limit": REFERRER_LIMIT}
        rows = await self._query("stats", values)
        if not rows:
            return None
        row = rows[0]
        figures = {"code": code, "total": row["total"], "unique": row["uniques"], "bots": row["bots"]}
        lists = {name: msgspec.json.decode(row[name]) for name in ("by_day", "by_referrer")}
        return msgspec.convert({**figures, **lists}, Stats)

    async def verify(self) -> Verification:  # noqa: D102
        row = (await self._query("verify", {"mismatch_limit": MISMATCH_LIMIT}))[0]
        mismatches = msgspec.json.decode(row["mismatches"])
        return msgspec.convert({**row, "ok": not mismatches, "mismatches": mismatches}, Verification)

    async def _query(self, script: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        [statement] = await self._script(script, values)
        answer = await self._trigger("database::query", {"db": self._db, **statement})
        rows: list[dict[str, Any]] = answer["rows"]
        return rows

    async def _execute(self, script: str, values: dict[str, Any]) -> dict[str, Any]:
        [statement] = await self._script(script, values)
        payload = {"db": self._db, **statement, "returning": ["*"], "origin": ORIGIN}
        answer: dict[str, Any] = await self._trigger("database::execute", payload)
        return answer

    async def _transaction(self, statements: list[dict[str, Any]]) -> list[dict[str, Any]]:
        answer = await self._try_transaction(statements)
        if not answer["committed"]:
            raise _not_committed(answer)
        results: list[dict[str, Any]] = answer["results"]
        return results

    async def _try_transaction(self, statements: list[dict[str, Any]]) -> dict[str, Any]:
        payload = {"db": self._db, "statements": statements, "origin": ORIGIN}
        answer: dict[str, Any] = await self._trigger("database::transaction", payload)
        return answer

    async def _script(self, name: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        if self._scripts is None:  # a call from before `open`: the tables may be those of an earlier run
            self._scripts = await self._dialect()
        return [statement.using(values) for statement in self._scripts[name]]

    async def _dialect(self) -> Dialect:
        databases = (await self._trigger("database::listDatabases", {}))["databases"]
        drivers = {database["name"]: database["driver"] for database in databases}
        if self._db not in drivers:
            raise ConfigError(f"link: there is no database `{self._db}`; configured: {', '.join(drivers)}")
        return dialect(drivers[self._db])


def _not_committed(answer: dict[str, Any]) -> HandlerFailed:
    error = answer.get("error") or {}
    return HandlerFailed(f"the database did not commit: {error.get('message', 'no reason given')}")
