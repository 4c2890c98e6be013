"""Answers of `database::atomic` by idempotency key, kept in the database whose changes they answer.

An answer is a row of the same commit. Its key is unique, so of two calls with one key one is committed; the other one
finds the row. Rows go after `WINDOW_S`; they are looked for while new ones come, once in `SWEEP_S`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from linkly.atomic import AtomicResult, KeyReused, Operation
from linkly.bus import Bus
from linkly.errors import LinklyError
from linkly.invocation import Json
from linkly_workers._scripts import Keeper, Scripts

WINDOW_S = 24 * 3600.0
SWEEP_S = 60.0

ANSWERS = Keeper("database", "answers", "linkly_workers.database.answers", "no idempotency_key")


class _Row(msgspec.Struct):
    operations: bytes
    answer: bytes


class Remembered:
    """The answers in one database."""

    def __init__(self, bus: Bus, db: str) -> None:
        self._clock = bus.clock
        self._scripts = Scripts(bus.trigger, db, ANSWERS)
        self._is_open = False
        self._opening = asyncio.Lock()
        self._swept_at = self._clock.monotonic()

    async def open(self) -> None:
        """Make the table, at the first key.

        Raises:
            ConfigError: There are no scripts for this kind of database.
            LinklyError: It cannot be made.
        """
        if not self._is_open:
            async with self._opening:
                if not self._is_open:
                    await self._scripts.migrate()
                    self._is_open = True

    async def keeping(self, key: str, digest: bytes) -> tuple[str, list[Any]]:
        """Return the statement that keeps an answer, and its values but for the last one: the answer."""
        values = {"key": _blob(key.encode()), "operations": _blob(digest), "at": self._now_ms(), "answer": None}
        [statement] = await self._scripts.script("keep", values)
        return statement["sql"], statement["params"][:-1]

    async def find(self, key: str, digest: bytes) -> AtomicResult | None:
        """Return the answer that a key has, `None` if it has none.

        Raises:
            KeyReused: It has one, to other operations.
        """
        found = await self._scripts.query("find", {"key": _blob(key.encode())})
        if not found:
            return None
        row = msgspec.convert(found[0], _Row)
        if row.operations != digest:
            raise KeyReused(
                f"the idempotency key `{key}` belongs to other operations, which were committed; use a key for one "
                "call and its repetitions only",
                details={"idempotency_key": key},
            )
        return AtomicResult(msgspec.json.decode(row.answer, type=list[Json]), repeated=True)

    async def sweep(self) -> None:
        """Forget what is older than the window, if that was not done a moment ago."""
        now = self._clock.monotonic()
        if now - self._swept_at >= SWEEP_S:
            self._swept_at = now
            with contextlib.suppress(LinklyError):  # the next one does it
                await self._scripts.execute("forget", {"at": self._now_ms() - int(WINDOW_S * 1000)})

    def _now_ms(self) -> int:
        return int(self._clock.time() * 1000)


def digest_of(operations: Sequence[Operation]) -> bytes:
    """Return what operations are known by: equal for those that mean the same JSON."""
    plain = msgspec.json.decode(msgspec.json.encode(operations))
    return hashlib.sha256(msgspec.json.encode(plain, order="deterministic")).digest()


def _blob(value: bytes) -> dict[str, str]:
    return {"$blob": base64.b64encode(value).decode()}
