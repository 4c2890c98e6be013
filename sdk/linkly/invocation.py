"""One call on its way, who makes it, and what serves it: the leaf that everything else of the SDK stands on.

This module must never know sockets, codecs, the bus or the engine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias

import msgspec

from linkly.baggage import TRANSACTION, with_member

DEFAULT_NAMESPACE = "default"
DEFAULT_TIMEOUT_S = 30.0
HOP_LIMIT = 64
"""How deep calls may be nested. What goes deeper is almost certainly a circle of functions that call one another."""

Json: TypeAlias = msgspec.Raw
"""A JSON value that is already encoded: UTF-8 text, spliced into a frame as it is. Decode it with
`linkly.schema.decode`. It may pin the frame it came in: copy it (`bytes(value)`) before you keep it."""


class InPlace(msgspec.Struct, frozen=True):
    """A payload that a function in this process gets as it is, and is answered as it is.

    For a caller that has made the payload for this one call and keeps no part of it, and that reads the answer before
    the loop goes on. If the function wants another type, or is in another process, payload and answer are copied as
    always. With `result_type=InPlace` the caller gets the answer as it came: `Json`, a JSON scalar, or the handler's
    own object. It saves 7 us of an HTTP request.

    Attributes:
        payload: The value.
        answer: The only type of answers that are not copied.
    """

    payload: Any
    answer: type


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
        grace_s: How long its caller waits for the end of a handler that has been cancelled (`Bus.trigger`).
        hops: How many calls this one is nested in; `linkly.errors.TooManyHops` ends a chain beyond `HOP_LIMIT`.
        in_place: The payload is the function's to keep, and an answer of this type its caller's to read (`InPlace`).
        not_finite: The caller has sent `NaN` or `Infinity`, as Python's json module writes them; they are null here.
        answer: What `linkly.function.Function` has answered, for who takes the first step of its call by hand.
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
    grace_s: float = 0.0
    in_place: type | None = None
    not_finite: bool = False
    answer: Any = None


def trace_of(invocation: Invocation | None) -> Invocation | None:
    """Return what calls belong to that serve this call together with others: its trace, and nothing else of it.

    Its deadline would end the wait of all, its origin would put them behind what else that caller asks for, and they
    are not made in its transaction.
    """
    if invocation is None:
        return None
    baggage = invocation.baggage
    if baggage is not None and TRANSACTION in baggage:
        baggage = with_member(baggage, TRANSACTION, None)
    return Invocation(function_id=invocation.function_id, traceparent=invocation.traceparent, baggage=baggage)


Done: TypeAlias = Callable[[Json, Json], None]
"""Told how a call ended: (result, error) as they travel; `error` wins unless it is absent (`linkly.outcome`)."""


class Endpoint(Protocol):
    """Serves one function, wherever that runs: awaited, or started with a callback and abandoned."""

    def __call__(self, invocation: Invocation) -> Awaitable[Any]:
        """Serve one call in the caller's task; answer a JSON scalar, `Json`, or a Struct that needs no copy.

        Raises:
            LinklyError: How the call failed; nothing else is raised.
        """
        ...

    def start(self, invocation: Invocation, done: Done) -> Callable[[], object]:
        """Serve one call of a remote worker and return at once.

        Args:
            invocation: The call; its payload may be replaced.
            done: Told once, unless the call is abandoned before.

        Returns:
            What abandons the call: the handler is cancelled where that is possible, and `done` is not told. Whoever
            holds it keeps the call alive.

        Raises:
            LinklyError: The call was not made; `done` is not told.
        """
        ...
