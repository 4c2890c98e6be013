"""Key/value state, addressed by scope and key (workers-data.md 1).

Different from iii on purpose: a write to the durable store is answered when it is on disk, so nothing is lost on
stop or kill -9; `state::delete` is atomic; events of one key arrive in the order of its writes; a scope without keys
is not listed. Kept, because programs rely on it: an update that changes nothing and a delete of a missing key fire
events, a merge over a scalar root does nothing, an update whose operations all failed stores `{}`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from linkly import Json, Settings, TriggerType, Worker, function
from linkly.errors import ConfigError, InvalidPayload, LinklyError
from linkly_workers._update_ops import Operation, OperationError, apply
from linkly_workers.state.events import StateEvents
from linkly_workers.state.store import Change, MemoryStore, SqliteStore, Store

Scope = Annotated[str, msgspec.Meta(examples=["greetings"])]
Key = Annotated[str, msgspec.Meta(examples=["hello"])]
Operations = Annotated[list[Operation], msgspec.Meta(examples=[[{"type": "increment", "path": "times", "by": 1}]])]

DEFAULT_FOLDER = "kv_store_data.db"


class ValueTooLarge(LinklyError):
    """The value is larger than `max_value_bytes`; nothing was stored."""

    code = "VALUE_TOO_LARGE"


class KvSettings(Settings):
    """Where values are kept."""

    store_method: Literal["in_memory", "file_based"] = "in_memory"
    file_path: str = DEFAULT_FOLDER
    save_interval_ms: int | None = None


class AdapterSettings(Settings):
    """The store; `kv` is the only one."""

    name: Literal["kv"] = "kv"
    config: KvSettings = msgspec.field(default_factory=KvSettings)


class StateSettings(Settings):
    """Settings of the state worker."""

    adapter: AdapterSettings = msgspec.field(default_factory=AdapterSettings)
    triggers_enabled: bool = True
    max_value_bytes: Annotated[int, msgspec.Meta(ge=1)] | None = None
    save_interval_ms: Annotated[int, msgspec.Meta(ge=100, le=3_600_000)] | None = None


class SetRequest(msgspec.Struct):
    """A value to keep.

    Attributes:
        scope: Group of keys.
        key: Name inside the scope.
        value: Any JSON value.
        data: Older name of value.
    """

    scope: Scope
    key: Key
    value: Annotated[Json | msgspec.UnsetType, msgspec.Meta(examples=[{"to": "world"}])] = msgspec.UNSET
    data: Json | msgspec.UnsetType = msgspec.UNSET


class Changed(msgspec.Struct):
    """A value before and after."""

    old_value: Any
    new_value: Any


class Updated(msgspec.Struct, omit_defaults=True):
    """A value before and after, and the operations that did nothing."""

    old_value: Any
    new_value: Any
    errors: list[OperationError] = []


class StateWorker(Worker):
    """Keeps values by scope and key, and tells functions about changes."""

    name = "state"
    settings_type: ClassVar[type[Settings]] = StateSettings
    settings: StateSettings

    def __init__(self, settings: StateSettings | None = None) -> None:
        super().__init__(settings)
        self._events = StateEvents()
        self._events.enabled = self.settings.triggers_enabled
        self._store: Store = MemoryStore()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open the store; stop telling functions at the end."""
        self._events.bus = self.bus
        kv = self.settings.adapter.config
        try:
            if kv.store_method == "in_memory":
                yield
                return
            store = SqliteStore(os.path.join(kv.file_path, "state.db"))
            try:
                opening = store.opened()
                await opening.__aenter__()
            except (sqlite3.Error, OSError) as error:
                raise ConfigError(f"state: the store {kv.file_path} cannot be opened: {error}") from error
            try:
                self._store = store
                yield
            finally:
                await opening.__aexit__(None, None, None)
        finally:
            await self._events.stop()

    def trigger_types(self) -> list[TriggerType]:
        """Provide the `state` trigger."""
        return [self._events.trigger_type()]

    @function("state::get")
    async def get(self, scope: Scope, key: Key) -> Json | None:
        """Return a value, null if there is none.

        Args:
            scope: Group of keys.
            key: Name inside the scope.
        """
        found = self._store.get(scope, key)
        return None if found is None else Json(found)

    @function("state::set")
    async def set(self, request: SetRequest) -> Changed:
        """Keep a value; answers the old and the new one.

        Raises:
            ValueTooLarge: It is larger than the configured limit; nothing was stored.
            InvalidPayload: There is no value.
        """
        value = request.value if request.value is not msgspec.UNSET else request.data
        if value is msgspec.UNSET:
            raise InvalidPayload("Failed to deserialize input for function `state::set`: missing field `value`")
        data = self._check_size(request.key, bytes(value))
        old, _ = await self._write(request.scope, request.key, lambda _: data)
        return Changed(_value(old), Json(data))

    @function("state::delete")
    async def delete(self, scope: Scope, key: Key) -> Json | None:
        """Remove a value and answer it, null if there was none.

        Args:
            scope: Group of keys.
            key: Name inside the scope.
        """
        old, _ = await self._write(scope, key, lambda _: None, deleted=True)
        return _value(old)

    @function("state::update")
    async def update(self, scope: Scope, key: Key, ops: Operations) -> Updated:
        """Change a value by operations, atomically: concurrent increments are all counted.

        Args:
            scope: Group of keys.
            key: Name inside the scope.
            ops: set, merge, increment, decrement, append, remove; a failing one is reported and changes nothing.

        Raises:
            ValueTooLarge: The outcome is larger than the configured limit; nothing was stored.
        """
        errors: list[OperationError] = []

        def change(old: bytes | None) -> bytes:
            value, found = apply(None if old is None else msgspec.json.decode(old), ops, exists=old is not None)
            errors[:] = found
            return self._check_size(key, msgspec.json.encode(value))

        old, new = await self._write(scope, key, change)
        return Updated(_value(old), _value(new), errors)

    @function("state::list")
    async def list(self, scope: Scope) -> list[Any]:
        """Return the values of a scope, in the order in which their keys were first written.

        Args:
            scope: Group of keys.
        """
        return [Json(value) for _, value in self._store.items(scope)]

    @function("state::list_keys")
    async def list_keys(self, scope: Scope) -> dict[str, Any]:
        """Return the keys of a scope.

        Args:
            scope: Group of keys.
        """
        return {"keys": [key for key, _ in self._store.items(scope)]}

    @function("state::list_groups")
    async def list_groups(self) -> dict[str, Any]:
        """Return the scopes that have keys, sorted."""
        return {"groups": self._store.scopes()}

    def _check_size(self, key: str, data: bytes) -> bytes:
        limit = self.settings.max_value_bytes
        if limit is not None and len(data) > limit:
            raise ValueTooLarge(
                f"the value of `{key}` has {len(data)} bytes, max_value_bytes is {limit}",
                details={"bytes": len(data), "max_value_bytes": limit},
            )
        return data

    async def _write(
        self, scope: str, key: str, change: Change, *, deleted: bool = False
    ) -> tuple[bytes | None, bytes | None]:
        self._events.check_room()
        return await self._store.write(
            scope, key, change, lambda old, new: self._events.written(scope, key, old, new, deleted=deleted)
        )


def _value(data: bytes | None) -> Json | None:
    return None if data is None else Json(data)
