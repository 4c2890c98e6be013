"""Prepared statements: each keeps its time to live, whatever becomes of its caller.

An owner, which is a worker, may have `OWNERS_LIMIT` of them. When there are `STATEMENTS_LIMIT` in all, whoever has the
most loses the oldest of his for the next one: nobody can keep others from preparing any.
"""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from linkly.errors import Overloaded
from linkly_workers.database.backend import Database
from linkly_workers.database.errors import StatementNotFound

LONGEST_TTL_S = 86_400
STATEMENTS_LIMIT = 10_000
OWNERS_LIMIT = 1000


class Prepared(msgspec.Struct, eq=False):
    """One statement; `expires` is a monotonic time."""

    id: str
    owner: str
    database: Database[Any]
    sql: str
    ttl_s: float
    expires: float


class PreparedStatements:
    """Statements by handle."""

    def __init__(self) -> None:
        self._statements: dict[str, Prepared] = {}
        self._owners: dict[str, dict[str, Prepared]] = {}

    def add(self, owner: str, database: Database[Any], sql: str, ttl_s: float, now: float) -> Prepared:
        """Keep a statement.

        Raises:
            Overloaded: The owner has too many.
        """
        if len(self._owners.get(owner, ())) >= OWNERS_LIMIT:
            self._expire(now)
            if len(self._owners.get(owner, ())) >= OWNERS_LIMIT:
                raise Overloaded(
                    f"this worker has {OWNERS_LIMIT} prepared statements that have not expired; prepare each text "
                    "once, or for a shorter time (`ttl_seconds`)"
                )
        if len(self._statements) >= STATEMENTS_LIMIT:
            self._expire(now)
            if len(self._statements) >= STATEMENTS_LIMIT:
                self._remove(next(iter(max(self._owners.values(), key=len).values())))
        ttl_s = min(ttl_s, LONGEST_TTL_S)
        prepared = Prepared(str(uuid.uuid4()), owner, database, sql, ttl_s, now + ttl_s)
        self._statements[prepared.id] = prepared
        self._owners.setdefault(owner, {})[prepared.id] = prepared
        return prepared

    def find(self, handle_id: str, now: float) -> Prepared:
        """Return a statement.

        Raises:
            StatementNotFound: The handle is unknown or has expired.
        """
        prepared = self._statements.get(handle_id)
        if prepared is not None and prepared.expires > now:
            return prepared
        if prepared is not None:
            self._remove(prepared)
        raise StatementNotFound(
            f"statement `{handle_id}` is unknown or has expired; prepare it again", details={"handle_id": handle_id}
        )

    def _expire(self, now: float) -> None:
        for prepared in [each for each in self._statements.values() if each.expires <= now]:
            self._remove(prepared)

    def _remove(self, prepared: Prepared) -> None:
        del self._statements[prepared.id]
        owned = self._owners[prepared.owner]
        del owned[prepared.id]
        if not owned:
            del self._owners[prepared.owner]
