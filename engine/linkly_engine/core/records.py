"""What the tables hold: workers, the functions they serve, the trigger types they provide and the triggers they bind.

Everything a worker owns points at its `WorkerRecord`, which is one lifetime of one worker (one connection, or one
start inside the engine), so that a late clean-up can never remove what a newer lifetime registered.

Only the tables (`linkly_engine.core.tables`) change a record.
"""

from __future__ import annotations

import uuid
from enum import Enum
from typing import Any, Protocol

import msgspec

from linkly.bus import DEFAULT_NAMESPACE, Caller, Endpoint

BUILTIN_PREFIX = "engine::"


class WorkerRecord(msgspec.Struct, kw_only=True, eq=False):
    """One lifetime of one worker.

    Attributes:
        id: Random UUID, new for every lifetime.
        name: `""` until the worker has said one.
        namespace: Where its registrations go; `None` until that is known.
        announced: It has named itself, or lives in this process; not one that only came to call.
        joined: It has named itself or registered something: until then its connection only calls, and observers of the
            tables are not told that it is here.
        alive: False from the moment its teardown begins.
        program: Name of the entry in config.yaml that started it; `None` for one that came by itself.
        retiring: Its program is being replaced: the next generation may take its ids and its name, it takes none.
    """

    id: str = msgspec.field(default_factory=lambda: str(uuid.uuid4()))
    name: str = ""
    namespace: str | None = None
    description: str | None = None
    version: str | None = None
    runtime: str | None = None
    os: str | None = None
    pid: int | None = None
    isolation: str | None = None
    ip_address: str | None = None
    in_process: bool = False
    internal: bool = False
    connected_at_ms: int = 0
    announced: bool = False
    joined: bool = False
    alive: bool = True
    program: str | None = None
    retiring: bool = False

    @property
    def caller(self) -> Caller:
        """This worker as the maker of a call."""
        return Caller(worker_id=self.id, worker_name=self.name)

    @property
    def shown_name(self) -> str:
        """What people know it by: its entry in config.yaml, the name it gave itself, the beginning of its id."""
        return self.program or self.name or self.id[:8]

    @property
    def home(self) -> str:
        """Its namespace, `default` while unknown."""
        return self.namespace or DEFAULT_NAMESPACE


class FunctionRecord(msgspec.Struct, kw_only=True, eq=False, frozen=True):
    """One served function.

    Attributes:
        request_schema: JSON Schema or the older tree form, as its worker sent it.
        response_schema: Likewise.
        metadata: As its worker sent it.
    """

    id: str
    namespace: str
    endpoint: Endpoint
    owner: WorkerRecord
    description: str | None = None
    request_schema: Any = None
    response_schema: Any = None
    metadata: Any = None

    @property
    def alias(self) -> bool:
        """Whether it is an older id of another function."""
        return isinstance(self.metadata, dict) and "alias_of" in self.metadata

    @property
    def internal(self) -> bool:
        """Whether listings hide it by default."""
        if isinstance(self.metadata, dict) and self.metadata.get("internal") is True:
            return True
        return self.id.startswith(BUILTIN_PREFIX) and not self.id.startswith("engine::queue::")


class Provider(Protocol):
    """How the provider of a trigger type is reached; a refusal comes back through `Tables.refuse`."""

    def bind(self, binding: BindingRecord) -> None:
        """There is a binding, new or replaced."""
        ...

    def unbind(self, binding: BindingRecord, *, unregistered: bool) -> None:
        """A binding is gone; `unregistered`: the code that registered it no longer wants it."""
        ...

    async def acknowledged(self, binding_id: str | None = None) -> None:
        """Wait until the provider has dealt with what it was told so far.

        Raises:
            TriggerRegistrationFailed: `binding_id` was given and refused.
        """
        ...


class TypeRecord(msgspec.Struct, kw_only=True, eq=False, frozen=True):
    """One provided trigger type.

    Attributes:
        provider: How to tell its provider about bindings.
        config_schema: JSON Schema of a binding's config.
        payload_schema: JSON Schema of what a firing hands over.
    """

    id: str
    namespace: str
    provider: Provider
    owner: WorkerRecord
    description: str = ""
    config_schema: Any = None
    payload_schema: Any = None


class BindingState(Enum):
    """Whether a binding fires, and if not, what it waits for."""

    LIVE = "live"
    WAITS_FOR_TYPE = "waits_for_type"
    WAITS_FOR_FUNCTION = "waits_for_function"
    WAITS_FOR_ID = "waits_for_id"
    REFUSED = "refused"


class BindingRecord(msgspec.Struct, kw_only=True, eq=False):
    """One trigger tied to one function.

    Attributes:
        id: Chosen by the binder.
        owner: Who made it; `None`: durable, survives everybody.
        config: Plain data or `Json`, opaque to the tables.
        metadata: Likewise; `None` if absent.
        namespace: Of the function.
        trigger_namespace: Where the type has to be; `None`: the owner's namespace, then `default`.
        live_at: The type whose provider has it; `None`: parked.
        refused: Its provider refused it: it waits for another provider.
        held: Another worker serves its target, which its owner offers too: it waits until its owner serves it.
        queued: Another worker has a binding of this id: it waits until that one is gone.
    """

    id: str
    trigger_type: str
    function_id: str
    owner: WorkerRecord | None = None
    config: Any = None
    metadata: Any = None
    namespace: str = DEFAULT_NAMESPACE
    trigger_namespace: str | None = None
    live_at: TypeRecord | None = None
    refused: bool = False
    held: bool = False
    queued: bool = False

    @property
    def state(self) -> BindingState:
        """Whether it fires, and if not, what it waits for."""
        if self.queued:
            return BindingState.WAITS_FOR_ID
        if self.held:
            return BindingState.WAITS_FOR_FUNCTION
        if self.live_at is not None:
            return BindingState.LIVE
        return BindingState.REFUSED if self.refused else BindingState.WAITS_FOR_TYPE
