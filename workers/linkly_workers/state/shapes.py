"""Settings, requests and answers of the state worker."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from linkly import Json, Settings
from linkly.paths import check_path
from linkly.state import Key, Scope
from linkly_workers._update_ops import Operation, OperationError

Operations = Annotated[list[Operation], msgspec.Meta(examples=[[{"type": "increment", "path": "times", "by": 1}]])]
SaveInterval = Annotated[int, msgspec.Meta(ge=100, le=3_600_000)]

DEFAULT_FOLDER = "kv_store_data.db"
DEFAULT_DB = "primary"


class StoreSettings(Settings):
    """Where values are kept; each key belongs to one of the adapters.

    Attributes:
        store_method: `kv`: `in_memory`, or `file_based`: answered when it is on disk.
        file_path: `kv`: a folder, for `file_based`; a relative one begins at the folder of config.yaml.
        save_interval_ms: `kv`: understood, without effect: nothing waits for an interval, every write is on disk
            before it is answered.
        db: `database`: which database of the `database` worker.
    """

    store_method: Literal["in_memory", "file_based"] = "in_memory"
    file_path: Annotated[str, msgspec.Meta(min_length=1)] = DEFAULT_FOLDER
    save_interval_ms: SaveInterval | None = None
    db: Annotated[str, msgspec.Meta(min_length=1)] = DEFAULT_DB

    def __post_init__(self) -> None:
        check_path("file_path", self.file_path)


class AdapterSettings(Settings):
    """The store: `kv`, in this process and one engine's own, or `database`, which several engines may share."""

    name: str = "kv"
    config: StoreSettings = msgspec.field(default_factory=StoreSettings)

    def __post_init__(self) -> None:
        if self.name not in ("kv", "database"):
            raise ValueError(f"name: there is no state adapter `{self.name}`; `kv` and `database` are")
        config, of_kv = self.config, StoreSettings()
        if self.name == "kv" and config.db != DEFAULT_DB:
            raise ValueError("config.db: the adapter `kv` keeps nothing in a database; write `name: database`")
        for key in ("store_method", "file_path"):
            if self.name == "database" and getattr(config, key) != getattr(of_kv, key):
                raise ValueError(f"config.{key}: the adapter `database` has no such key; its key is `db`")


class StateSettings(Settings):
    """Settings of the state worker.

    Attributes:
        adapter: The store.
        triggers_enabled: Whether writes run functions.
        max_value_bytes: Values with a longer JSON text are refused; `None`: no limit.
        save_interval_ms: As in `StoreSettings`, where older configs have it.
    """

    adapter: AdapterSettings = msgspec.field(default_factory=AdapterSettings)
    triggers_enabled: bool = True
    max_value_bytes: Annotated[int, msgspec.Meta(ge=1)] | None = None
    save_interval_ms: SaveInterval | None = None


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


class ListEntriesRequest(msgspec.Struct):
    """Which entries of a scope are wanted.

    Attributes:
        scope: Group of keys.
        cursor: What the answer before has as next_cursor; none: from the first key on.
        limit: Entries to answer at most.
        max_bytes: Bytes of JSON text of the answered entries at most.
    """

    scope: Scope
    cursor: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    max_bytes: Annotated[int, msgspec.Meta(ge=256, le=8_000_000)] = 1_000_000


class Changed(msgspec.Struct):
    """A value before and after."""

    old_value: Any
    new_value: Any


class Updated(msgspec.Struct, omit_defaults=True):
    """A value before and after, and the operations that did nothing."""

    old_value: Any
    new_value: Any
    errors: list[OperationError] = []


class Keys(msgspec.Struct):
    """The keys of a scope, in the order in which they were first written."""

    keys: list[str]


class Groups(msgspec.Struct):
    """The scopes that have keys, sorted."""

    groups: list[str]


class Entry(msgspec.Struct):
    """One key and its value."""

    key: str
    value: Any


class Entries(msgspec.Struct):
    """Some entries of a scope.

    Attributes:
        entries: In the order in which the keys were first written.
        next_cursor: Gets the entries behind these; null when there are none.
        done: Whether there are none behind these.
        offset: How many entries the answers before this one had.
        total: How many keys the scope has now.
    """

    entries: list[Entry]
    next_cursor: str | None
    done: bool
    offset: int
    total: int
