"""The calls that one remote worker makes: checked, routed, served, answered.

Those that another connection serves and that carry nothing but a payload are forwarded (`remote.forwarding`).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from linkly.clock import Clock
from linkly.deadline import Deadline, Deadlines, timed_out
from linkly.endpoint import AsyncEndpoint
from linkly.errors import CallTimeout, LinklyError, Overloaded
from linkly.invocation import DEFAULT_NAMESPACE, HOP_LIMIT, Done, Endpoint, Invocation, Json
from linkly.outcome import ABSENT, error_body, is_absent
from linkly.schema import as_json
from linkly.wire.connection import Connection
from linkly.wire.messages import EnqueueAction, InvokeFunction
from linkly_engine.core.enqueue import enqueue
from linkly_engine.core.exchange import Exchange
from linkly_engine.core.records import WorkerRecord
from linkly_engine.core.router import check_namespace, too_many_hops
from linkly_engine.core.trace import valid_traceparent, with_function_id
from linkly_engine.remote.forwarding import PENDING_LIMIT
from linkly_engine.remote.function import RemoteFunction
from linkly_engine.remote.nesting import Nesting


class Calls:
    """The calls of one connection.

    Args:
        wait: Runs something when a function, by namespace and id, is served whose registration waits for the namespace
            of its connection; returns whether there is such a registration.
    """

    __slots__ = (
        "_clock",
        "_connection",
        "_deadlines",
        "_nesting",
        "_record",
        "_router",
        "_wait",
    )

    def __init__(
        self,
        connection: Connection,
        record: WorkerRecord,
        nesting: Nesting | None,
        exchange: Exchange,
        wait: Callable[[str, str, Callable[[], None]], bool],
    ) -> None:
        self._connection = connection
        self._record = record
        self._nesting = nesting
        self._router = exchange.router
        self._clock = exchange.clock
        self._deadlines = exchange.deadlines
        self._wait = wait

    def made(self, message: InvokeFunction, *, again: bool = False) -> None:
        """Take a call.

        Args:
            again: It has waited for its function.
        """
        connection = self._connection
        call_id = message.awaited_id
        if call_id is not None and call_id in connection.serving and not again:
            return  # the same frame twice: its call is answered once
        invocation = self._invocation(message)
        pending = connection.pending.get(message.function_id, 0) - again  # it is counted already
        refusal = self._refusal(invocation, pending)
        if refusal is not None:
            connection.refuse(message, refusal)
            return
        endpoint: Endpoint
        if isinstance(message.action, EnqueueAction):
            endpoint = AsyncEndpoint(partial(self._enqueued, action=message.action))
        else:
            try:
                endpoint = self._router.resolve(message.namespace, message.function_id).endpoint
            except LinklyError as error:
                if again or not self._wait(invocation.namespace, message.function_id, partial(self._again, message)):
                    connection.refuse(message, error)
                else:
                    connection.hold(message)
                return
            if isinstance(endpoint, RemoteFunction):
                connection.serve(endpoint, invocation, message, forwarded=True)
                return
            if self._nesting is not None and invocation.deadline is not None:
                endpoint = _Bounded(endpoint, self._deadlines, self._clock)
        connection.serve(endpoint, invocation, message)

    def _again(self, message: InvokeFunction) -> None:
        call_id = message.awaited_id
        if not self._connection.closed and (call_id is None or call_id in self._connection.serving):
            self.made(message, again=True)

    def _refusal(self, invocation: Invocation, pending: int) -> LinklyError | None:
        """Return the error of a call that must not be made: nobody waits for it, or it would go on without end."""
        if invocation.hops > HOP_LIMIT:
            return too_many_hops(invocation.function_id)
        if invocation.deadline is not None and invocation.deadline <= self._clock.monotonic():
            return CallTimeout(
                f"`{invocation.function_id}` was not called: the time of the call that it is nested in is over"
            )
        if pending >= PENDING_LIMIT:
            return Overloaded(
                f"`{invocation.function_id}` was not called: worker `{self._record.name or self._record.id}` waits for "
                f"{pending} answers of it already; wait for some of them first"
            )
        return None

    def _invocation(self, message: InvokeFunction) -> Invocation:
        traceparent = valid_traceparent(message.traceparent)
        baggage = message.baggage
        if traceparent is not None or baggage is not None:
            baggage = with_function_id(baggage, message.function_id)
        invocation = Invocation(
            function_id=message.function_id,
            payload=None if message.data is ABSENT else message.data,
            namespace=message.namespace if message.namespace is not None else DEFAULT_NAMESPACE,
            metadata=None if is_absent(message.metadata) else message.metadata,
            caller=self._record.caller,
            origin=self._record.id,
            traceparent=traceparent,
            baggage=baggage,
            not_finite=message.not_finite,
        )
        if self._nesting is None:
            invocation.hops = message.hops
            if message.timeout_ms is not None:
                invocation.deadline = self._clock.monotonic() + message.timeout_ms / 1000
        elif message.action is None:
            self._nesting.place(invocation)
        return invocation

    async def _enqueued(self, invocation: Invocation, *, action: EnqueueAction) -> Json:
        check_namespace(invocation.namespace)
        return as_json(await enqueue(self._router.call, invocation, action))


class _Bounded:
    """Serves a call no longer than the one it is nested in may take: its caller's wire has no message to cancel it."""

    __slots__ = ("_clock", "_deadlines", "_endpoint")

    def __init__(self, endpoint: Endpoint, deadlines: Deadlines, clock: Clock) -> None:
        self._endpoint = endpoint
        self._deadlines = deadlines
        self._clock = clock

    def __call__(self, invocation: Invocation) -> Awaitable[Any]:
        return self._endpoint(invocation)

    def start(self, invocation: Invocation, done: Done) -> Callable[[], object]:
        assert invocation.deadline is not None
        # Whole seconds: waits of one length share a timer.
        left_s = max(1, math.ceil(invocation.deadline - self._clock.monotonic()))
        deadline: Deadline

        def ended(result: Json, error: Json) -> None:
            if not deadline.expired:
                deadline.queue.pop(deadline, None)
                done(result, error)

        def over() -> None:
            abandon()
            done(ABSENT, error_body(timed_out(invocation.function_id, left_s)))

        def given_up() -> None:
            deadline.queue.pop(deadline, None)
            abandon()

        abandon = self._endpoint.start(invocation, ended)
        deadline = self._deadlines.arm(left_s, over)
        return given_up
