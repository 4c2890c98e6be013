"""Links and clicks in a database, over `database::*`: durable, counted in SQL.

A click is one transaction: a row in `clicks`, and `clicks = clicks + 1` on the row in `links` if that row is new. The
conditions (the link is there, its time is not over, it has clicks left, this click is not counted yet) stand in the
INSERT, so that whatever happens at the same time, they hold for exactly the rows that are written.
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from linkly import Bus
from linkly.errors import HandlerFailed
from linkly_workers.link.shapes import LinkDetails, Stats, Verification
from linkly_workers.link.store import (
    MISMATCH_LIMIT,
    REFERRER_LIMIT,
    Changes,
    Click,
    Idempotency,
    Made,
    NewLink,
    Outcome,
    Position,
    code_taken,
    is_expired,
    judge_repetition,
    key_reused,
)

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS links (code TEXT PRIMARY KEY, url TEXT NOT NULL, created_at TEXT NOT NULL, "
    "clicks INTEGER NOT NULL DEFAULT 0, expires_at TEXT, max_clicks INTEGER)",
    "CREATE TABLE IF NOT EXISTS clicks (id INTEGER PRIMARY KEY AUTOINCREMENT, code TEXT NOT NULL, "
    "clicked_at TEXT NOT NULL, click_id TEXT, visitor TEXT, referrer TEXT, bot INTEGER NOT NULL DEFAULT 0)",
    "CREATE TABLE IF NOT EXISTS link_keys (idempotency_key TEXT PRIMARY KEY, request TEXT NOT NULL, "
    "code TEXT NOT NULL, url TEXT NOT NULL, created_at TEXT NOT NULL, expires_at TEXT, max_clicks INTEGER)",
    "CREATE TABLE IF NOT EXISTS link_settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
)

COLUMNS = {
    "links": {"clicks": "INTEGER NOT NULL DEFAULT 0", "expires_at": "TEXT", "max_clicks": "INTEGER"},
    "clicks": {
        "click_id": "TEXT",
        "visitor": "TEXT",
        "referrer": "TEXT",
        "bot": "INTEGER NOT NULL DEFAULT 0",
    },
}
"""Columns that tables of the first tutorial, or of an older version, do not have."""

INDEXES = (
    "CREATE UNIQUE INDEX IF NOT EXISTS clicks_by_click_id ON clicks (code, click_id)",
    "CREATE INDEX IF NOT EXISTS links_by_age ON links (created_at, code)",
    "CREATE INDEX IF NOT EXISTS link_keys_by_age ON link_keys (created_at)",
    "CREATE INDEX IF NOT EXISTS link_keys_by_code ON link_keys (code)",
    "DROP INDEX IF EXISTS clicks_by_code",  # of an older version; each index costs every click
)

ORIGIN = "link"
"""What the link workers of one bus call themselves as writers: they take care of the cache, others do not."""

LINK = "code, url, created_at, clicks, expires_at, max_clicks"

INSERT_LINK = "INSERT INTO links (code, url, created_at, expires_at, max_clicks) VALUES (?, ?, ?, ?, ?)"

INSERT_CLICK = (
    "INSERT INTO clicks (code, clicked_at, click_id, visitor, referrer, bot) "
    "SELECT code, ?, ?, ?, ?, ? FROM links WHERE code = ? AND (expires_at IS NULL OR expires_at > ?) "
    "AND (max_clicks IS NULL OR clicks < max_clicks) ON CONFLICT (code, click_id) DO NOTHING"
)
COUNT_CLICK = "UPDATE links SET clicks = clicks + 1 WHERE code = ? AND changes() = 1"

WHY_NOT_COUNTED = (
    "SELECT expires_at, max_clicks, (SELECT clicked_at FROM clicks WHERE code = ? AND click_id = ?) AS counted_at "
    "FROM links WHERE code = ?"
)

# By pages, because an answer has a limit and links have none.
CAPITALS = (
    "SELECT code, EXISTS (SELECT 1 FROM links AS other WHERE other.code = lower(links.code)) AS has_twin "
    "FROM links WHERE code <> lower(code) AND code > ? ORDER BY code LIMIT 10000"
)

# One statement each, so that all figures are of one moment.
STATS = (
    "WITH people AS MATERIALIZED (SELECT clicked_at, visitor, referrer FROM clicks WHERE code = ? AND bot = 0) "
    "SELECT (SELECT COUNT(*) FROM people) AS total, (SELECT COUNT(DISTINCT visitor) FROM people) AS uniques, "
    "(SELECT COUNT(*) FROM clicks WHERE code = ? AND bot <> 0) AS bots, "
    "(SELECT json_group_array(json_object('day', day, 'clicks', n)) FROM (SELECT substr(clicked_at, 1, 10) AS day, "
    "COUNT(*) AS n FROM people GROUP BY day HAVING day >= ? ORDER BY day)) AS by_day, "
    "(SELECT json_group_array(json_object('referrer', referrer, 'clicks', n)) FROM (SELECT referrer, COUNT(*) AS n "
    f"FROM people GROUP BY referrer ORDER BY n DESC, referrer LIMIT {REFERRER_LIMIT})) AS by_referrer "
    "FROM links WHERE code = ?"
)
VERIFY = (
    "WITH counted AS MATERIALIZED (SELECT code, COUNT(*) AS n FROM clicks GROUP BY code), different AS ("
    "SELECT links.code AS code, links.clicks AS counter, COALESCE(n, 0) AS n FROM links LEFT JOIN counted USING (code) "
    "WHERE links.clicks <> COALESCE(n, 0) UNION ALL "
    "SELECT code, NULL, n FROM counted WHERE code NOT IN (SELECT code FROM links)) "
    "SELECT (SELECT COUNT(*) FROM links) AS links, (SELECT COALESCE(SUM(clicks), 0) FROM links) AS counted, "
    "(SELECT COUNT(*) FROM clicks) AS rows, (SELECT json_group_array(json_object('code', code, 'counter', counter, "
    f"'rows', n)) FROM (SELECT * FROM different ORDER BY code LIMIT {MISMATCH_LIMIT})) AS mismatches"
)


class DatabaseStore:
    """`LinkStore` on a database of the `database` worker.

    Args:
        bus: Where that worker is.
        db: Name of the database.
    """

    def __init__(self, bus: Bus, db: str) -> None:
        self._bus = bus
        self._db = db

    async def open(self) -> None:  # noqa: D102
        await self._transaction([(statement, []) for statement in SCHEMA])
        changes: list[tuple[str, list[Any]]] = []
        for table, columns in COLUMNS.items():
            rows = await self._query(f"SELECT name FROM pragma_table_info('{table}')", [])
            known = {row["name"] for row in rows}
            for column, kind in columns.items():
                if column not in known:
                    changes.append((f"ALTER TABLE {table} ADD COLUMN {column} {kind}", []))
                    if column == "clicks":
                        sql = "UPDATE links SET clicks = (SELECT COUNT(*) FROM clicks WHERE clicks.code = links.code)"
                        changes.append((sql, []))
        await self._transaction([*changes, *((statement, []) for statement in INDEXES)])

    async def secret(self) -> bytes:  # noqa: D102
        sql = "INSERT INTO link_settings (name, value) VALUES ('visitor_secret', ?) ON CONFLICT (name) DO NOTHING"
        await self._transaction([(sql, [secrets.token_hex(32)])])
        rows = await self._query("SELECT value FROM link_settings WHERE name = 'visitor_secret'", [])
        return bytes.fromhex(rows[0]["value"])

    async def insert(self, link: NewLink, idempotency: Idempotency | None = None) -> Made:  # noqa: D102
        values = [link.code, link.url, link.created_at, link.expires_at, link.max_clicks]
        if idempotency is None:
            payload = {
                "db": self._db,
                "sql": f"{INSERT_LINK} ON CONFLICT (code) DO NOTHING",
                "params": values,
                "origin": ORIGIN,
            }
            answer = await self._bus.trigger("database::execute", payload)
            if not answer["affected_rows"]:
                raise code_taken(link.code)
            return Made(link, repeated=False)
        insert_key = (
            "INSERT INTO link_keys (code, url, created_at, expires_at, max_clicks, idempotency_key, request) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)"
        )
        answer = await self._try_transaction(
            [
                ("DELETE FROM link_keys WHERE created_at < ?", [idempotency.forget_before]),
                (insert_key, [*values, idempotency.key, idempotency.request]),
                (INSERT_LINK, values),
            ]
        )
        if answer["committed"]:
            return Made(link, repeated=False)
        return await self._repeated(link, idempotency, answer)

    async def _repeated(self, link: NewLink, idempotency: Idempotency, answer: dict[str, Any]) -> Made:
        # What the transaction forgot came back with its rollback.
        known = await self.made_with(idempotency)
        if known is not None:
            return Made(known, repeated=True)
        if await self.find(link.code) is not None:
            raise code_taken(link.code)
        raise _not_committed(answer)

    async def made_with(self, idempotency: Idempotency) -> NewLink | None:  # noqa: D102
        sql = "SELECT * FROM link_keys WHERE idempotency_key = ? AND created_at >= ?"
        known = await self._query(sql, [idempotency.key, idempotency.forget_before])
        if not known:
            return None
        if known[0]["request"] != idempotency.request:
            raise key_reused(idempotency.key)
        return msgspec.convert(known[0], NewLink)

    async def codes_with_capitals(self) -> list[str]:  # noqa: D102
        found: list[str] = []
        after = ""
        while rows := await self._query(CAPITALS, [after]):
            after = rows[-1]["code"]
            for row in rows:
                found.append(row["code"])
                if row["has_twin"]:
                    found.append(row["code"].lower())
        return found

    async def insert_many(self, links: list[NewLink]) -> list[bool]:  # noqa: D102
        sql = f"{INSERT_LINK} ON CONFLICT (code) DO NOTHING"
        results = await self._transaction(
            [(sql, [each.code, each.url, each.created_at, each.expires_at, each.max_clicks]) for each in links]
        )
        return [result["affected_rows"] == 1 for result in results]

    async def find(self, code: str) -> LinkDetails | None:  # noqa: D102
        rows = await self._query(f"SELECT {LINK} FROM links WHERE code = ?", [code])
        return msgspec.convert(rows[0], LinkDetails) if rows else None

    async def update(self, code: str, changes: Changes) -> LinkDetails | None:  # noqa: D102
        given = {name: value for name, value in msgspec.structs.asdict(changes).items() if value is not msgspec.UNSET}
        if not given:
            return await self.find(code)
        columns = ", ".join(f"{name} = ?" for name in given)
        payload = {
            "db": self._db,
            "sql": f"UPDATE links SET {columns} WHERE code = ? RETURNING {LINK}",
            "params": [*given.values(), code],
            "returning": ["*"],
            "origin": ORIGIN,
        }
        rows = (await self._bus.trigger("database::execute", payload))["returned_rows"]
        return msgspec.convert(rows[0], LinkDetails) if rows else None

    async def delete(self, code: str) -> bool:  # noqa: D102
        tables = ("links", "clicks", "link_keys")
        results = await self._transaction([(f"DELETE FROM {table} WHERE code = ?", [code]) for table in tables])
        return bool(results[0]["affected_rows"])

    async def page(self, after: Position | None, limit: int) -> list[LinkDetails]:  # noqa: D102
        where = "" if after is None else "WHERE (created_at, code) < (?, ?) "
        sql = f"SELECT {LINK} FROM links {where}ORDER BY created_at DESC, code DESC LIMIT ?"
        return msgspec.convert(await self._query(sql, [*(after or ()), limit]), list[LinkDetails])

    async def count(self, click: Click, now: str) -> Outcome:  # noqa: D102
        values = [click.clicked_at, click.click_id, click.visitor, click.referrer, int(click.bot), click.code, now]
        results = await self._transaction([(INSERT_CLICK, values), (COUNT_CLICK, [click.code])])
        if results[0]["affected_rows"] == 1:
            return Outcome.COUNTED
        rows = await self._query(WHY_NOT_COUNTED, [click.code, click.click_id, click.code])
        if not rows:
            return Outcome.NOT_FOUND
        link = rows[0]
        if link["counted_at"] is not None:
            return judge_repetition(link["counted_at"], link["expires_at"], link["max_clicks"], now)
        return Outcome.EXPIRED if is_expired(link["expires_at"], now) else Outcome.EXHAUSTED

    async def stats(self, code: str, since_day: str) -> Stats | None:  # noqa: D102
        rows = await self._query(STATS, [code, code, since_day, code])
        if not rows:
            return None
        row = rows[0]
        figures = {"code": code, "total": row["total"], "unique": row["uniques"], "bots": row["bots"]}
        lists = {name: msgspec.json.decode(row[name]) for name in ("by_day", "by_referrer")}
        return msgspec.convert({**figures, **lists}, Stats)

    async def verify(self) -> Verification:  # noqa: D102
        row = (await self._query(VERIFY, []))[0]
        mismatches = msgspec.json.decode(row["mismatches"])
        return msgspec.convert({**row, "ok": not mismatches, "mismatches": mismatches}, Verification)

    async def _query(self, sql: str, params: list[Any]) -> list[dict[str, Any]]:
        answer = await self._bus.trigger("database::query", {"db": self._db, "sql": sql, "params": params})
        rows: list[dict[str, Any]] = answer["rows"]
        return rows

    async def _transaction(self, statements: list[tuple[str, list[Any]]]) -> list[dict[str, Any]]:
        answer = await self._try_transaction(statements)
        if not answer["committed"]:
            raise _not_committed(answer)
        results: list[dict[str, Any]] = answer["results"]
        return results

    async def _try_transaction(self, statements: list[tuple[str, list[Any]]]) -> dict[str, Any]:
        payload = {
            "db": self._db,
            "statements": [{"sql": sql, "params": params} for sql, params in statements],
            "origin": ORIGIN,
        }
        answer: dict[str, Any] = await self._bus.trigger("database::transaction", payload)
        return answer


def _not_committed(answer: dict[str, Any]) -> HandlerFailed:
    error = answer.get("error") or {}
    return HandlerFailed(f"the database did not commit: {error.get('message', 'no reason given')}")
