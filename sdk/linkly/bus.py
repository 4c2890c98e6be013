"""The seam, on one page: what a worker and the engine know of one another.

A function is one async callable, an `Endpoint`. A worker reaches everything else through a `Bus`, and cannot
tell whether that bus is the engine around it or a WebSocket (`linkly.client`). Values cross the bus as JSON:
what one side receives is never the object the other side holds.

This module must never know sockets, codecs or the engine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, overload

import msgspec

from linkly.clock import Clock

if TYPE_CHECKING:
    from linkly.channel import Channel, ChannelReader, ChannelRef, ChannelWriter
    from linkly.function import Function
    from linkly.trigger import TriggerDeclaration, TriggerType

T = TypeVar("T")

DEFAULT_NAMESPACE = "default"
DEFAULT_TIMEOUT_S = 30.0
HOP_LIMIT = 64
"""How deep calls may be nested: what goes deeper is a circle in all likelihood, and would go on without end."""

Json: TypeAlias = msgspec.Raw
"""A JSON value that is already encoded: UTF-8 text, spliced into a frame as it is. Decode it with
`linkly.schema.decode`. It may pin the frame it came in: copy it (`bytes(value)`) before you keep it."""


class Caller(msgspec.Struct, frozen=True):
    """Who made a call.

    Attributes:
        worker_id: The engine's id of the caller's connection, or of the in-process worker.
        worker_name: Its name, `""` while it has not said one.
    """

    worker_id: str
    worker_name: str = ""


class Invocation(msgspec.Struct, kw_only=True):
    """One call on its way.

    Attributes:
        function_id: What is called.
        payload: A plain JSON value, a typed value with a JSON form, or `Json`.
        namespace: Where `function_id` is looked up.
        metadata: The sidecar beside the payload, a JSON value or `Json`; `None` if there is none.
        caller: Who calls, `None` for the engine itself.
        origin: Where the call entered this process; nested calls inherit it. The worker id of a connection or of an
            in-process worker, or the address of an HTTP client's socket. Fair shares go by it, nothing else does.
        traceparent: W3C trace context of the caller's span.
        baggage: W3C baggage.
        deadline: `Clock.monotonic` time after which nobody waits any more; `None`: no limit.
        hops: How many calls this one is nested in; `linkly.errors.TooManyHops` ends a chain beyond `HOP_LIMIT`.
        not_finite: The caller has sent `NaN` or `Infinity`, as Python's json module writes them; they are null here.
    """

    function_id: str
    payload: Any = None
    namespace: str = DEFAULT_NAMESPACE
    metadata: Any = None
    caller: Caller | None = None
    origin: str | None = None
    traceparent: str | None = None
    baggage: str | None = None
    deadline: float | None = None
    hops: int = 0
    not_finite: bool = False


Endpoint: TypeAlias = Callable[[Invocation], Awaitable[Any]]
"""Serves one function. Answers a JSON scalar or `Json`; raises `LinklyError` and nothing else."""


class Void(msgspec.Struct, frozen=True):
    """Action of a call nobody waits for: no result, no error."""


class Enqueue(msgspec.Struct, frozen=True):
    """Action of a call that goes through a durable queue; it is answered with a `Receipt`."""

    queue: str


Action: TypeAlias = Void | Enqueue


class Receipt(msgspec.Struct, frozen=True, rename="camel"):
    """What an enqueue answers: the queue has the call."""

    message_receipt_id: str


class Registration(Protocol):
    """Something that was registered and can be taken back."""

    @property
    def id(self) -> str:
        """Function id, trigger type id, or the id of one trigger."""
        ...

    def unregister(self) -> None:
        """Take it back; harmless the second time."""
        ...


class Bus(Protocol):
    """Everything a worker can ask of the world around it."""

    @property
    def clock(self) -> Clock:
        """The clock that everything on this bus goes by."""
        ...

    @overload
    async def trigger(
        self,
        function_id: str,
        payload: object = None,
        *,
        namespace: str | None = None,
        metadata: object = None,
        action: Action | None = None,
        timeout_s: float | None = DEFAULT_TIMEOUT_S,
    ) -> Any: ...

    @overload
    async def trigger(
        self,
        function_id: str,
        payload: object = None,
        *,
        result_type: type[T],
        namespace: str | None = None,
        metadata: object = None,
        action: Action | None = None,
        timeout_s: float | None = DEFAULT_TIMEOUT_S,
    ) -> T: ...

    async def trigger(
        self,
        function_id: str,
        payload: object = None,
        *,
        result_type: Any = Any,
        namespace: str | None = None,
        metadata: object = None,
        action: Action | None = None,
        timeout_s: float | None = DEFAULT_TIMEOUT_S,
    ) -> Any:
        """Call a function and wait for what it answers.

        Args:
            function_id: `service::name`.
            payload: A value with a JSON form: plain data, dataclass, Struct, or `Json`.
            result_type: Type of the answer; `Any` gives plain JSON data, `Json` leaves it encoded.
            namespace: Where to look the function up; `None` means `default`.
            metadata: Sidecar given to the function beside the payload.
            action: `Void()`: return at once. `Enqueue(queue)`: through a queue, answers a `Receipt`.
            timeout_s: Seconds this caller waits. `None`: no limit of its own. A call made inside a handler never
                outlives that handler's own deadline, in process and over native connections. iii's JSON wire has
                no place for a deadline and no cancellation: there only calls that carry baggage keep it, and a
                handler that was called without may run on after its caller has given up.

        Raises:
            FunctionNotFound: There is no such function now.
            InvalidPayload: The payload does not fit the function's request type.
            CallTimeout: No answer within `timeout_s`; the call has been cancelled.
            InvocationStopped: The executing worker went away.
            Overloaded: The caller waits for too many answers of this function already, or its worker reads too slowly.
            TooManyHops: This call is nested in more than `HOP_LIMIT` others.
            LinklyError: Whatever the handler raised, `HandlerFailed` if it was no `LinklyError`.
        """
        ...

    def register_function(self, function: Function) -> Registration:
        """Serve `function`. Registering an id again replaces what this worker had there.

        Raises:
            FunctionConflict: Another live worker owns the id (over a connection the engine's refusal
                comes later and is logged).
        """
        ...

    def register_trigger_type(self, trigger_type: TriggerType) -> Registration:
        """Provide a trigger type: bindings that wait for it are bound now."""
        ...

    def register_trigger(self, function_id: str, trigger: TriggerDeclaration) -> Registration:
        """Ask that `function_id` runs when `trigger` happens. Waits, without an error, for its provider."""
        ...

    async def create_channel(self, buffer_size: int | None = None) -> Channel:
        """Make a channel; its two references can travel inside payloads."""
        ...

    async def open_reader(self, reference: ChannelRef) -> ChannelReader:
        """Open the reading end."""
        ...

    async def open_writer(self, reference: ChannelRef) -> ChannelWriter:
        """Open the writing end."""
        ...
