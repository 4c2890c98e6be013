"""The seam, on one page: what a worker and the engine know of one another.

A function is an `Endpoint`. A worker reaches everything else through a `Bus`, and cannot tell whether that bus is the
engine around it or a connection (`linkly.client`). Values cross the bus as JSON: what one side receives the other side
cannot change. In one process what nobody can change (`linkly.uncopied`), and what a caller gives away (`InPlace`), is
not copied.

This module must never know sockets, codecs or the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypeVar, overload

import msgspec

from linkly.channel import Channel, ChannelReader, ChannelRef, ChannelWriter
from linkly.clock import Clock
from linkly.enqueue import Enqueue as Enqueue
from linkly.function import Function
from linkly.invocation import DEFAULT_NAMESPACE as DEFAULT_NAMESPACE
from linkly.invocation import DEFAULT_TIMEOUT_S as DEFAULT_TIMEOUT_S
from linkly.invocation import HOP_LIMIT as HOP_LIMIT
from linkly.invocation import Caller as Caller
from linkly.invocation import Done as Done
from linkly.invocation import Endpoint as Endpoint
from linkly.invocation import InPlace as InPlace
from linkly.invocation import Invocation as Invocation
from linkly.invocation import Json as Json
from linkly.trigger import TriggerDeclaration, TriggerType

T = TypeVar("T")


class Void(msgspec.Struct, frozen=True):
    """Action of a call nobody waits for: no result, no error."""


Action: TypeAlias = Void | Enqueue


class Receipt(msgspec.Struct, frozen=True, rename="camel"):
    """What an enqueue answers: the queue has the call."""

    message_receipt_id: str


class Registration:
    """Something that was registered and can be taken back.

    Args:
        registered_id: Function id, trigger type id, or the id of one trigger.
        undo: Takes it back.
        leave: Takes it back because its worker leaves; default: `undo`.
    """

    def __init__(
        self, registered_id: str, undo: Callable[[], object], leave: Callable[[], object] | None = None
    ) -> None:
        self.id = registered_id
        self._undo: Callable[[], object] | None = undo
        self._leave = leave or undo

    def unregister(self) -> None:
        """Take it back, because its code no longer wants it; harmless the second time."""
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    def leave(self) -> None:
        """Take it back because its worker ends: what is kept for a worker that is away is kept (`TriggerType`)."""
        if self._undo is not None:
            self._undo = self._leave
            self.unregister()


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
        grace_s: float = 0.0,
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
        grace_s: float = 0.0,
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
        grace_s: float = 0.0,
    ) -> Any:
        """Call a function and wait for what it answers.

        Args:
            function_id: `service::name`.
            payload: A value with a JSON form: plain data, dataclass, Struct, `Json`, or one of these `InPlace`.
            result_type: Type of the answer; `Any` gives plain JSON data, `Json` leaves it encoded, `InPlace` gives it
                as it came.
            namespace: Where to look the function up; `None` means `default`.
            metadata: Sidecar given to the function beside the payload.
            action: `Void()`: return at once. `Enqueue(queue)`: through a queue, answers a `Receipt`.
            timeout_s: Seconds this caller waits. `None`: no limit of its own. A call made inside a handler never
                outlives that handler's own deadline, in process and over native connections. iii's JSON wire has
                no place for a deadline and no cancellation: there only calls that carry baggage keep it, and a
                handler that was called without may run on after its caller has given up.
            grace_s: For who must not call again while the handler still runs: when the time is over, or the call is
                cancelled, it waits up to these seconds for the end of a handler in another process before it raises.
                A handler in this process has ended by then in any case, whatever that takes. Not waited for are those
                whom nobody can cancel (handlers that are no coroutines, workers on iii's JSON wire), and those that a
                bus over a connection calls.

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
