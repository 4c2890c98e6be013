"""`state::set`, `state::update` and `state::delete` as a part of `database::atomic` (see `linkly.atomic`).

Each write goes over the version that was read for it, or is made where nothing was; so it changes one row, or another
one was first and everything is computed again.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from linkly import Json, function
from linkly.atomic import Call, Committed, GuardedStatement, NotAtomic, Prepare, Prepared, PreparedOperation
from linkly.context import current_invocation
from linkly.errors import InvalidPayload, LinklyError
from linkly.state import Address, Key, Scope
from linkly_workers._update_ops import OperationError
from linkly_workers.state.changes import Changes, value_of
from linkly_workers.state.errors import DeleteFailed, SetFailed, StoreError, UpdateFailed
from linkly_workers.state.events import StateEvents
from linkly_workers.state.shapes import Changed, Operations, SetRequest, Updated
from linkly_workers.state.stores.database.batch import KEY_BITS, VERSION_BITS, Found
from linkly_workers.state.stores.database.store import DatabaseStore
from linkly_workers.state.stores.store import Store

T = TypeVar("T")


class _Update(msgspec.Struct):
    """The payload of `state::update`."""

    scope: Scope
    key: Key
    ops: Operations


class _Write(msgspec.Struct):
    """One operation: where, what it makes of the value, and what it answers of the value before and after."""

    address: tuple[str, str]
    change: Callable[[bytes | None], bytes | None]
    answer: Callable[[bytes | None, bytes | None], Any]
    failed: type[LinklyError]
    deleted: bool = False


class _Told(msgspec.Struct, omit_defaults=True):
    """A write that was committed; `null` is a value, and absent is none."""

    scope: str
    key: str
    deleted: bool
    old: Json | msgspec.UnsetType = msgspec.UNSET
    new: Json | msgspec.UnsetType = msgspec.UNSET


class Preparing:
    """Turns operations into statements.

    Attributes:
        store: Where the values are.
    """

    store: Store

    def __init__(self, changes: Changes, events: StateEvents) -> None:
        self._changes = changes
        self._events = events

    @function("state::prepare", metadata={"internal": True})
    async def prepare(self, request: Prepare) -> Prepared:
        """Turn operations into statements of a transaction, for `database::atomic`.

        Raises:
            NotAtomic: The values are not in that database, or a function does not take part.
            InvalidPayload: A payload does not fit its function.
            LinklyError: As the function raises it.
        """
        store = self.store
        if not isinstance(store, DatabaseStore) or store.db != request.db:
            where = f"in database `{store.db}`" if isinstance(store, DatabaseStore) else "outside any database"
            raise NotAtomic(
                f"state keeps its values {where}, so they cannot be part of a transaction in database `{request.db}`; "
                f"set `adapter: {{name: database, config: {{db: {request.db}}}}}` in the config of state",
                details={"db": request.db, "setting": "adapter", "failed_index": 0},
            )
        writes = [_at(index, self._write_of, call) for index, call in enumerate(request.operations)]
        for write in writes:
            self._events.check_room(*write.address)
        try:
            there = await store.found(list(dict.fromkeys(write.address for write in writes)))
        except StoreError as error:
            raise writes[0].failed(f"the state could not be read: {error}", details=error.details) from error
        prepared: list[PreparedOperation] = []
        told: list[_Told] = []
        for index, write in enumerate(writes):
            operation, event = await self._prepared(store, index, write, there)
            prepared.append(operation)
            told.append(event)
        return Prepared(prepared, Json(msgspec.json.encode(told)), [repr(write.address) for write in writes])

    @function("state::committed", metadata={"internal": True})
    async def committed(self, request: Committed) -> None:
        """Tell functions of writes that `database::atomic` has committed."""
        cause = current_invocation.get()
        for each in msgspec.json.decode(request.after, type=list[_Told]):
            old, new = (None if value is msgspec.UNSET else bytes(value) for value in (each.old, each.new))
            self._events.written(each.scope, each.key, old, new, deleted=each.deleted, cause=cause)

    async def _prepared(
        self, store: DatabaseStore, index: int, write: _Write, there: dict[tuple[str, str], Found]
    ) -> tuple[PreparedOperation, _Told]:
        found = there.get(write.address)
        old = None if found is None else found.value
        new = _at(index, write.change, old)
        statements: list[GuardedStatement] = []
        if new is not None or found is not None:
            version = secrets.randbits(VERSION_BITS + KEY_BITS)
            try:
                texts = await store.write_over(write.address, found, new, version)
            except StoreError as error:
                why = f"nothing was changed at {'/'.join(write.address)}: {error}"
                raise write.failed(why, details={**error.details, "failed_index": index}) from error
            statements = [GuardedStatement(each["sql"], each["params"]) for each in texts]
            statements[-1].expect_rows = 1
            if new is None:
                del there[write.address]
            else:
                there[write.address] = Found(0, 0, version, new)
        event = _Told(
            *write.address, write.deleted, *(msgspec.UNSET if each is None else Json(each) for each in (old, new))
        )
        return PreparedOperation(statements, Json(msgspec.json.encode(write.answer(old, new)))), event

    def _write_of(self, call: Call) -> _Write:
        if call.function_id == "state::set":
            request = _payload(call, SetRequest)
            data = self._changes.text_of(request)
            address = request.scope, request.key
            return _Write(address, lambda _: data, lambda old, new: Changed(value_of(old), value_of(new)), SetFailed)
        if call.function_id == "state::delete":
            where = _payload(call, Address)
            address = where.scope, where.key
            return _Write(address, lambda _: None, lambda old, _: value_of(old), DeleteFailed, deleted=True)
        if call.function_id == "state::update":
            update = _payload(call, _Update)
            errors: list[OperationError] = []
            change = self._changes.updating(update.scope, update.key, update.ops, errors)
            return _Write(
                (update.scope, update.key),
                change,
                lambda old, new: Updated(value_of(old), value_of(new), errors),
                UpdateFailed,
            )
        raise NotAtomic(
            f"`{call.function_id}` cannot be part of a transaction; of state `state::set`, `state::update` and "
            "`state::delete` can",
            details={"function_id": call.function_id},
        )


def _payload(call: Call, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(call.payload, type=kind)
    except msgspec.MsgspecError as error:
        raise InvalidPayload(f"Failed to deserialize input for function `{call.function_id}`: {error}") from error


def _at(index: int, make: Callable[[Any], T], given: Any) -> T:
    """Call something for one of the operations; what it raises says which."""
    try:
        return make(given)
    except LinklyError as error:
        error.details["failed_index"] = index
        raise
