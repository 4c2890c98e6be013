"""Runs a worker's scripts on one database, over `database::*`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from linkly.errors import ConfigError, FunctionNotFound, HandlerFailed, LinklyError
from linkly_workers._scripts.dialect import ALONE, COMMITTING, Dialect, dialect

DEFAULT_TIMEOUT_MS = 30_000
AN_HOUR_MS = 3_600_000
"""For what has to look at every click; the deadline of whoever asks ends it before."""

ATTEMPTS = 6
"""How often a call is made that the database does not carry out because of others: after a deadlock, for example."""

REPEATING_S = 1.0
"""No attempt begins later than this after the first one: a database that is away has been waited for already."""

PAUSE_S = 0.005
"""Before the second attempt; each later one is twice as long, and a part of it is chance."""


class Unavailable(LinklyError):
    """The database is away or busy: nothing was written, and the same may succeed a little later."""

    code = "UNAVAILABLE"


class Trigger(Protocol):
    """`Bus.trigger`."""

    def __call__(self, function_id: str, payload: Any, /, *, timeout_s: float | None = ...) -> Awaitable[Any]:
        """Call a function."""
        ...


class Keeper(msgspec.Struct, frozen=True):
    """Who keeps something in a database.

    Attributes:
        worker: Its name; it also says by `database::row-changed` who has written.
        keeps: What it keeps, in the plural.
        package: Where its scripts are.
        otherwise: What to write into its config to do without a database.
        isolation: What its transactions have at least, `None`: what the database gives.
    """

    worker: str
    keeps: str
    package: str
    otherwise: str
    isolation: str | None = None


class Scripts:
    """The scripts for one database of the `database` worker."""

    def __init__(self, trigger: Trigger, db: str, keeper: Keeper) -> None:
        self._trigger = trigger
        self._db = db
        self._keeper = keeper
        self._dialect: Dialect | None = None
        self._driver = ""
        self._collation = ""

    @property
    def are_shared(self) -> bool:
        """Whether other engines may write to the database as well; known from `migrate` on."""
        return self._driver not in ALONE

    async def migrate(self) -> None:
        """Make the tables, add what those of an older version lack, make the indexes.

        Asks again what kind of database it is: after a change of the config another kind may have this name. Takes as
        long as it takes, because an index over 10^7 clicks needs a minute. Each step is a transaction that begins with
        `lock`, where there is such a script, and locks one table: engines that start and count meanwhile wait for it.
        On the kinds of `COMMITTING` each statement is one.

        Raises:
            ConfigError: There is no such database, or no scripts for its kind.
        """
        known = self._dialect = await self._find_dialect()
        if "collation" in known:
            self._collation = (await self.query("collation", {}))[0]["collation"]
        there = await self._there()
        if "tables" not in there:
            await self._step(known, "tables")
            there = await self._there()
        for name in [name for name in known if "." in name and name not in there]:
            try:
                await self._step(known, name)
            except LinklyError:
                if name not in await self._there():  # else an engine that starts at the same time was first
                    raise
        if "indexes" in known:
            await self._step(known, "indexes")

    async def query(
        self, script: str, values: dict[str, Any], timeout_ms: int = DEFAULT_TIMEOUT_MS
    ) -> list[dict[str, Any]]:
        """Run a script of one statement that reads; return its rows."""
        [statement] = await self.script(script, values)
        answer = await self._call("database::query", statement, timeout_ms)
        rows: list[dict[str, Any]] = answer["rows"]
        return rows

    async def execute(self, script: str, values: dict[str, Any]) -> dict[str, Any]:
        """Run a script of one statement that writes; return what `database::execute` answers."""
        [statement] = await self.script(script, values)
        return await self._call("database::execute", {**statement, "returning": ["*"], "origin": self._keeper.worker})

    async def transaction(self, script: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        """Run a script in one transaction; return the result of each statement.

        Raises:
            HandlerFailed, Unavailable: The database did not commit; nothing was written.
        """
        return await self._committed(await self.script(script, values))

    async def run(
        self,
        statements: Sequence[dict[str, Any]],
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> dict[str, Any]:
        """Run statements in one transaction; return what `database::transaction` answers."""
        keeper = self._keeper
        payload = {"statements": statements, "isolation": keeper.isolation, "origin": keeper.worker}
        return await self._call("database::transaction", payload, timeout_ms)

    async def atomic(self, operations: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Run statements, and functions that take part, in one transaction; return what each is answered.

        Raises:
            LinklyError: As `database::atomic`; nothing was written, but for `outcome_unknown`.
        """
        payload = {"operations": operations, "origin": self._keeper.worker}
        results: list[Any] = (await self._call("database::atomic", payload))["results"]
        return results

    async def script(self, name: str, values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the statements of a script with their values."""
        if self._dialect is None:  # a call from before `migrate`: the tables may be those of an earlier run
            self._dialect = await self._find_dialect()
        return [statement.using(values or {}) for statement in self._dialect[name]]

    async def _there(self) -> set[str]:
        return {row["name"] for row in await self.query("columns", {})}

    async def _step(self, known: Dialect, name: str) -> None:
        statements = [statement.using({}) for statement in (*known.get("lock", ()), *known[name])]
        for each in statements:
            each["sql"] = each["sql"].replace("{collation}", self._collation)
        if self._driver not in COMMITTING:
            await self._committed(statements, AN_HOUR_MS)
            return
        for each in statements:
            await self._call("database::execute", each, AN_HOUR_MS)

    async def _call(
        self, function_id: str, payload: dict[str, Any], timeout_ms: int = DEFAULT_TIMEOUT_MS
    ) -> dict[str, Any]:
        """Call a function of the database worker, again where others have kept the database from carrying it out.

        Raises:
            Unavailable: They did so each time, or it is away; nothing was written.
        """
        payload = {"db": self._db, "timeout_ms": timeout_ms, "integers": "number", **payload}
        now = asyncio.get_running_loop().time
        over, pause_s = now() + REPEATING_S, PAUSE_S
        for left in reversed(range(ATTEMPTS)):
            try:
                answer: dict[str, Any] = await self._trigger(function_id, payload, timeout_s=timeout_ms / 1000)
            except LinklyError as error:
                if not error.details.get("retryable") and error.code != "POOL_TIMEOUT":
                    raise
                if not left or now() > over:
                    raise Unavailable(f"it may be tried again: {error.message}", details={"db": self._db}) from error
            else:
                failure = answer.get("error")  # of a transaction that did not commit
                if not left or not failure or not failure.get("retryable") or now() > over:
                    return answer
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))
            pause_s *= 2
        raise AssertionError("the last attempt has an end")

    async def _committed(
        self, statements: Sequence[dict[str, Any]], timeout_ms: int = DEFAULT_TIMEOUT_MS
    ) -> list[dict[str, Any]]:
        answer = await self.run(statements, timeout_ms)
        if not answer["committed"]:
            raise not_committed(answer)
        results: list[dict[str, Any]] = answer["results"]
        return results

    async def _find_dialect(self) -> Dialect:
        keeper = self._keeper
        try:
            databases = (await self._trigger("database::listDatabases", {}))["databases"]
        except LinklyError as error:
            if error.code != FunctionNotFound.code:
                raise
            raise ConfigError(
                f"{keeper.worker} keeps its {keeper.keeps} in database `{self._db}`, and no worker serves databases; "
                "add the worker `database` to config.yaml, or set "
                f"`{keeper.otherwise}` in the config of {keeper.worker}"
            ) from error
        drivers = {database["name"]: database["driver"] for database in databases}
        if self._db not in drivers:
            raise ConfigError(f"{keeper.worker}: there is no database `{self._db}`; configured: {', '.join(drivers)}")
        self._driver = drivers[self._db]
        try:
            return dialect(keeper.package, self._driver)
        except ConfigError as error:
            raise ConfigError(f"{keeper.keeps} cannot be kept in database `{self._db}`: {error.message}") from error


def not_committed(answer: dict[str, Any]) -> LinklyError:
    """Return the error for a transaction of which nothing was written."""
    error = answer.get("error") or {}
    text = f"the database did not commit: {error.get('message', 'no reason given')}"
    return Unavailable(text) if error.get("retryable") else HandlerFailed(text)
