"""The store in a database of the `database` worker; several engines may share one.

Nothing is kept in memory: a read asks the database, so it sees the writes of every engine that were answered.

Writes that wait share a read, which gets the values and their versions, and a transaction, which writes over exactly
these versions: a thousand increments of one key are one row. What another engine has written meanwhile is left alone,
and its writes are computed again on top of that, in the next batch. So no lock is held while a change is computed, and
an engine that hangs or is killed keeps no other from writing. Of those that race for a key, one wins every time.

A version is a random number: a key that was deleted and set again has another one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from linkly.atomic import inside
from linkly.context import current_invocation
from linkly.errors import (
    CallTimeout,
    ConfigError,
    ConnectionLost,
    HandlerFailed,
    InvocationStopped,
    LinklyError,
    OutcomeUnknown,
    Overloaded,
)
from linkly.invocation import trace_of
from linkly_workers._scripts import ROWS, Keeper, Scripts, Trigger, Unavailable
from linkly_workers.state.errors import StoreError
from linkly_workers.state.stores.database.batch import TOO_LARGE, Batch, Found, asked_for, blob, name_blob, name_of
from linkly_workers.state.stores.store import Change, Outcome, Place, Written
from linkly_workers.state.stores.waiting import Waiting, Write

VALUES = Keeper("state", "values", "linkly_workers.state.stores.database", "adapter: {name: kv}", "read_committed")
"""Its isolation is enough, because each row is compared with what was read; more would lock rows that nobody writes."""

BATCH_WRITES = 1024
BATCH_KEYS = ROWS[-1]

ROW_BYTES = 256
"""What the row of a value counts in a result besides the value, at most."""

NAME_BYTES = 1000
"""Longest scope and longest key: both together have to fit an index (PostgreSQL: 2,704 bytes)."""

RACES = 100
"""So many races for a key a write may lose."""

_TOO_LARGE = "RESULT_TOO_LARGE"
_UNSURE = frozenset(
    each.code for each in (CallTimeout, ConnectionLost, HandlerFailed, InvocationStopped, OutcomeUnknown)
)


class _Placed(msgspec.Struct):
    """A row of the script `after`."""

    position: int
    key: bytes
    value: bytes


class DatabaseStore:
    """`Store` in a database.

    Args:
        trigger: Calls `database::*`.
        db: Which database.
    """

    def __init__(self, trigger: Trigger, db: str) -> None:
        self._trigger = trigger
        self._db = db
        self._scripts = Scripts(trigger, db, VALUES)
        self._identity: bytes | None = None
        self._most_value_bytes = 0
        self._preparing = asyncio.Lock()
        self._waiting = Waiting(f"database `{db}`", self._serve)
        self.idle = self._waiting.idle

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Take writes; at the end answer those that wait. The tables are made by `prepare`, or by the first call."""
        self._waiting.open()
        try:
            yield
        finally:
            await self._waiting.close()

    async def prepare(self) -> None:
        """Make the tables, in whatever database has the name now.

        Raises:
            StoreError: There is no such database, it cannot be reached, or they cannot be made in it.
        """
        self._identity = None
        await self._prepared()

    async def _prepared(self) -> bytes:
        """Return the identity, after making the tables if that has not been done yet."""
        if self._identity is None:
            async with self._preparing:
                if self._identity is None:
                    try:
                        await self._scripts.migrate()
                        listed = (await self._trigger("database::listDatabases", {}))["databases"]
                        (limit,) = (each["max_result_bytes"] for each in listed if each["name"] == self._db)
                        self._most_value_bytes = limit - ROW_BYTES
                        await self._scripts.transaction("keep_identity", {"identity": blob(secrets.token_bytes(16))})
                        [row] = await self._scripts.query("identity", {})
                    except LinklyError as error:
                        raise self._failed(error) from error
                    self._identity = msgspec.convert(row["identity"], bytes)
        return self._identity

    @property
    def db(self) -> str:
        """The database that it is in."""
        return self._db

    async def found(self, addresses: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Found]:
        """Return what is there now of these addresses.

        Raises:
            StoreError: An address is too long, or the database cannot be asked.
        """
        there: dict[tuple[str, str], Found] = {}
        for start in range(0, len(addresses), BATCH_KEYS):
            some = addresses[start : start + BATCH_KEYS]
            for row in msgspec.convert(await self._rows("find", asked_for(some)), list[Found]):
                there[some[row.place]] = row
        return there

    async def write_over(
        self, address: tuple[str, str], found: Found | None, new: bytes | None, version: int
    ) -> list[dict[str, Any]]:
        """Return the statements that put a value over what was found; the last one changes one row, if that is true.

        Raises:
            StoreError: The value, or its address, cannot be kept.
        """
        for what, name in zip(("scope", "key"), address, strict=True):
            check_length(what, name)
        if new is not None and len(new) > self._most_value_bytes:
            raise StoreError(f"it has {len(new)} bytes, and {TOO_LARGE}")
        values: dict[str, Any] = {"scope": name_blob(address[0]), "key": name_blob(address[1]), "version": version}
        if new is not None:
            values["value"] = blob(new)
        if found is not None:
            values["old"] = found.version
        name = "remove" if new is None else "set_new" if found is None else "set_over"
        return await self._scripts.script(name, values)

    async def trouble(self) -> str | None:  # noqa: D102
        try:
            reasons = (await self._trigger("database::readiness", {}))["reasons"]
            known = next((str(reason) for reason in reasons if f"`{self._db}`" in reason), None)
            if known is None:
                await self._rows("identity", {})
        except StoreError as error:
            return str(error)
        except LinklyError as error:
            return error.message
        return known

    # --- reading -------------------------------------------------------------------------------------------

    async def identity(self) -> bytes:  # noqa: D102
        return await self._prepared()

    async def get(self, scope: str, key: str) -> bytes | None:  # noqa: D102
        found = await self._rows("get", {"scope": name_blob(scope), "key": name_blob(key)})
        return msgspec.convert(found[0]["value"], bytes) if found else None

    async def values(self, scope: str) -> list[bytes]:  # noqa: D102
        return await self._column("values", "value", {"scope": name_blob(scope)})

    async def keys(self, scope: str) -> list[str]:  # noqa: D102
        return [name_of(key) for key in await self._column("keys", "key", {"scope": name_blob(scope)})]

    async def count(self, scope: str) -> int:  # noqa: D102
        [row] = await self._rows("count", {"scope": name_blob(scope)})
        count: int = row["keys"]
        return count

    async def after(self, scope: str, position: int, limit: int, max_bytes: int) -> list[Place]:  # noqa: D102
        values = {"scope": name_blob(scope), "position": position, "limit": limit + 1, "max_bytes": max_bytes}
        rows = await self._rows("after", values)
        return [(row.position, name_of(row.key), row.value) for row in msgspec.convert(rows, list[_Placed])]

    async def scopes(self) -> list[str]:  # noqa: D102
        return [name_of(scope) for scope in await self._column("scopes", "scope", {})]

    async def _column(self, script: str, column: str, values: dict[str, Any]) -> list[bytes]:
        return msgspec.convert([row[column] for row in await self._rows(script, values)], list[bytes])

    async def _rows(self, script: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        if self._identity is None:
            await self._prepared()
        try:
            return await self._scripts.query(script, values)
        except LinklyError as error:
            raise self._failed(error) from error

    # --- writing -------------------------------------------------------------------------------------------

    async def write(self, scope: str, key: str, change: Change, written: Written) -> Outcome:
        """Wait until a write is kept: see `Store.write`.

        Raises:
            WouldWaitForItself: It is made inside a transaction that keeps all others from writing.
        """
        made_in = inside(current_invocation.get())
        if made_in is not None and made_in.db == self._db and not self._scripts.are_shared:
            raise made_in.error()
        return await self._waiting.write(scope, key, change, written)

    async def _serve(self) -> None:
        writes: list[Write] = []
        addresses: set[tuple[str, str]] = set()
        for write in self._waiting.take():
            why = _too_long(write)
            if why is not None:
                write.fail(why)
                continue
            addresses.add(write.address)
            if len(addresses) > BATCH_KEYS:
                self._waiting.put_back([write])
                break
            writes.append(write)
            if len(writes) == BATCH_WRITES:
                break
        await self._keep(writes)

    async def _keep(self, writes: Sequence[Write]) -> None:
        """Keep writes in one transaction and answer them; those that lost a race stand in the line again."""
        if not writes:
            return
        batch = Batch(writes)
        current_invocation.set(trace_of(writes[0].invocation))
        try:
            await self._prepared()
            found = await self._scripts.query("find", batch.asked())
        except LinklyError as error:
            if error.code == _TOO_LARGE and batch.keys > 1:
                await self._keep_singly(batch)
            else:
                self._fail_all(writes, self._failed(error))
            return
        except StoreError as error:
            self._fail_all(writes, error)
            return
        batch.compute(msgspec.convert(found, list[Found]), self._most_value_bytes)
        try:
            versions = await self._written(batch.changes())
        except OutcomeUnknown as error:
            self._fail(writes, error)
            return
        except StoreError as error:
            if isinstance(error, _Refused) and error.failed_index is None:
                self._fail_all(writes, error)  # it is the database, and no row
            elif batch.keys > 1 and not error.retryable:
                await self._keep_singly(batch)
            else:
                self._fail(writes, error)
            return
        again = batch.kept(versions)
        for write in again:
            if write.lost == RACES:
                write.fail(StoreError(f"others have written it first {RACES} times; try it again", retryable=True))
        self._waiting.put_back(again)

    async def _keep_singly(self, batch: Batch) -> None:
        for writes in batch.by_key():
            await self._keep([write for write in writes if not write.answered])

    async def _written(self, changes: dict[str, dict[str, list[Any]]]) -> set[int]:
        """Write what has to be written; return the versions that say what was.

        Raises:
            _Refused: Nothing was written.
            StoreError: The database could not be asked.
            OutcomeUnknown: It may be written or not.
        """
        statements = [each for name, values in changes.items() for each in await self._scripts.script(name, values)]
        if not statements:
            return set()
        answer = await self._sent(statements)
        if not answer["committed"]:
            raise _Refused(self._db, answer)
        return {row[0] for result in answer["results"] for row in result["rows"]}

    async def _sent(self, statements: Sequence[dict[str, Any]]) -> dict[str, Any]:
        try:
            return await self._scripts.run(statements)
        except LinklyError as error:
            if error.code not in _UNSURE:
                raise self._failed(error) from error
            raise OutcomeUnknown(
                f"database `{self._db}` does not say whether it is written: {error.message}"
            ) from error

    def _fail_all(self, writes: Sequence[Write], error: Exception) -> None:
        """Tell it everybody in the line as well: one after another, each batch would wait for the database again."""
        self._fail([*writes, *self._waiting.take()], error)

    def _fail(self, writes: Sequence[Write], error: Exception) -> None:
        for write in writes:
            write.fail(error)

    def _failed(self, error: LinklyError) -> StoreError:
        if error.code == _TOO_LARGE:
            return StoreError(
                "it is larger than `max_result_bytes` of the database worker; raise that setting, or ask for parts "
                "with state::list_entries"
            )
        if isinstance(error, ConfigError):
            return StoreError(error.message)
        retryable = isinstance(error, Unavailable) or error.code == Overloaded.code
        return StoreError(f"database `{self._db}`: {error.message}", retryable=retryable)


class _Refused(StoreError):
    """The database did not commit; `failed_index`: which statement it refused, if it was one."""

    def __init__(self, db: str, answer: dict[str, Any]) -> None:
        error = answer["error"]
        super().__init__(f"database `{db}`: {error['message']}", retryable=error.get("retryable") is True)
        self.failed_index = answer.get("failed_index")


def _too_long(write: Write) -> StoreError | None:
    try:
        check_length("scope", write.address[0])
        check_length("key", write.address[1])
    except StoreError as error:
        return error
    return None


def check_length(what: str, name: str) -> None:
    """Check that a scope or a key fits an index.

    Raises:
        StoreError: It is too long.
    """
    if len(name) * 4 > NAME_BYTES and (size := len(name.encode("utf-8", "surrogatepass"))) > NAME_BYTES:
        raise StoreError(f"the {what} has {size} bytes, and in a database it may have {NAME_BYTES}")
