"""A worker's side of the conversation: the calls it makes, and those that it serves.

Native calls that carry nothing but a payload take a short path, without messages: caller 22 -> 10 us a call, callee
22 -> 11 us. Everything else goes by messages, as over JSON.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from linkly.clock import Clock
from linkly.deadline import Deadlines, Wait, timed_out
from linkly.errors import ConnectionLost, FunctionNotFound
from linkly.invocation import Caller, Endpoint, Invocation, Json
from linkly.outcome import ABSENT, is_absent, read_error
from linkly.wire.connection import Connection, FrameStream, Served
from linkly.wire.messages import AnyMessage, CallId, EnqueueAction, InvokeFunction
from linkly.wire.native_frames import (
    ANSWER,
    CALL,
    CALL_BYTES,
    CALL_HEAD,
    LENGTH_BYTES,
    NO_LIMIT,
    RESULT,
    left_ms_of,
    read_route,
    route_of,
)

_KNOWN_LIMIT = 1024
"""How many callers, and how many routes, are kept decoded."""


class WorkerConnection(Connection):
    """A worker's connection to an engine.

    Args:
        stream: Where its frames go.
        native: Whether native frames are spoken, otherwise JSON.
        on_message: Takes every message that is no call, no answer and no cancellation.
        on_closed: Told once when the stream ends, after every call has been ended.
        clock: What deadlines go by.
        deadlines: Of calls with a time-out.
        functions: What this worker serves, by id.
        worker_name: Of this worker, for errors.
        name: Of the engine, for log lines and errors.
    """

    def __init__(
        self,
        stream: FrameStream,
        *,
        native: bool,
        on_message: Callable[[AnyMessage], None],
        on_closed: Callable[[str], None],
        clock: Clock,
        deadlines: Deadlines,
        functions: Mapping[str, Endpoint],
        worker_name: str,
        name: str,
    ) -> None:
        super().__init__(
            stream,
            native=native,
            on_message=self._message,
            on_closed=on_closed,
            clock=clock,
            name=name,
            stopped=ConnectionLost,
        )
        self._on_other = on_message
        self._deadlines = deadlines
        self._functions = functions
        self._worker_name = worker_name
        self._loop = asyncio.get_running_loop()
        self._routes: dict[str, bytes] = {}
        self._ids: dict[bytes, str] = {}
        self._callers: dict[bytes, Caller | None] = {b"": None}

    # --- calls that it makes -------------------------------------------------------------------------------

    async def call(
        self,
        invocation: Invocation,
        timeout_s: float | None,
        *,
        namespace: str | None = None,
        action: EnqueueAction | None = None,
    ) -> bytes:
        """Call a function of the engine's and wait for its answer: JSON text, `b""` for none.

        Args:
            invocation: The call, its payload encoded; it gets the deadline that follows from `timeout_s`.
            timeout_s: How long it may take; `None`: any time.
            namespace: Where the function is looked up.
            action: Through a queue.

        Raises:
            CallTimeout: It took longer; the engine is told that nobody waits.
            LinklyError: What the other side answered, that it went away, or why it was not called.
        """
        function_id = invocation.function_id
        call = _Awaited(self, self._loop.create_future(), function_id)
        now = self._clock.monotonic()
        if timeout_s is not None and (invocation.deadline is None or now + timeout_s < invocation.deadline):
            invocation.deadline = now + timeout_s
        if self.native and action is None and invocation.metadata is None and invocation.traceparent is None:
            self.check_takes_calls(function_id)
            left_ms = left_ms_of(invocation.deadline, now)
            route = self._routes.get(function_id) if namespace is None else route_of(namespace, function_id)
            if route is None:
                route = self._keep_route(function_id)
            call.call_id = self.start_native_call(call, route, invocation.payload, left_ms, invocation.hops)
        else:
            call.call_id = self.start_call(invocation, call, namespace=namespace, action=action)
        queue: dict[Wait, float] | None = None
        if timeout_s is not None:
            call.timeout_s = timeout_s
            queue = self._deadlines.queue(timeout_s)
            queue[call] = now + timeout_s
        try:
            return await call.answer
        except asyncio.CancelledError:
            self.abandon_call(call.call_id)
            raise
        finally:
            if queue is not None:
                queue.pop(call, None)

    def _keep_route(self, function_id: str) -> bytes:
        if len(self._routes) >= _KNOWN_LIMIT:
            self._routes.clear()
        route = self._routes[function_id] = route_of(None, function_id)
        return route

    # --- frames --------------------------------------------------------------------------------------------

    def frames_received(self, frames: list[bytes]) -> None:
        """Take native frames from the stream: answers and calls of the common kind without messages."""
        calls = self.calls
        for data in frames:
            if data[LENGTH_BYTES] == RESULT and len(data) >= ANSWER.size and not self.closed:
                done = calls.pop(ANSWER.unpack_from(data)[2], None)
                self.statistics.frames_received += 1
                if isinstance(done, _Awaited):
                    if not done.answer.done():
                        done.answer.set_result(data[ANSWER.size :])
                elif done is None:
                    self.statistics.late_results += 1
                else:
                    done(Json(data[ANSWER.size :]), ABSENT)
            elif data[LENGTH_BYTES] != CALL or not self._served_at_once(data):
                self.frame_received(data, text=False)

    def _served_at_once(self, data: bytes) -> bool:
        """Serve a call that carries nothing but a payload; return whether it was one."""
        if len(data) < CALL_BYTES or self.closed or self.cancelled_ahead or self.serves_too_many:
            return False
        _, _, call_id, left_ms, hops, caller_bytes, route_bytes, extras_bytes = CALL_HEAD.unpack_from(data)
        route_at = CALL_BYTES + caller_bytes
        payload_at = route_at + route_bytes
        if extras_bytes or not call_id or payload_at > len(data):
            return False
        function_id = self._ids.get(data[route_at:payload_at]) or self._keep_id(data[route_at:payload_at])
        function = self._functions.get(function_id)
        if function is None:
            return False
        known = data[CALL_BYTES:route_at]
        caller = self._callers[known] if known in self._callers else self._keep_caller(known)
        payload = data[payload_at:]
        invocation = Invocation(
            function_id=function_id,
            payload=None if payload in (b"", b"null") else Json(payload),
            caller=caller,
            origin=None if caller is None else caller.worker_id,
            hops=hops,
        )
        if left_ms != NO_LIMIT:
            invocation.deadline = self._clock.monotonic() + left_ms / 1000
        self.statistics.frames_received += 1
        self.begin(Served(self, call_id, function_id), function, invocation)
        return True

    def _keep_id(self, route: bytes) -> str:
        try:
            function_id = read_route(route)[1]
        except ValueError:
            return ""
        if function_id in self._functions:
            if len(self._ids) >= _KNOWN_LIMIT:
                self._ids.clear()
            self._ids[route] = function_id
        return function_id

    def _keep_caller(self, worker_id: bytes) -> Caller:
        if len(self._callers) >= _KNOWN_LIMIT:
            self._callers = {b"": None}
        caller = self._callers[worker_id] = Caller(worker_id.decode("utf-8", "replace"))
        return caller

    def _message(self, message: AnyMessage) -> None:
        if isinstance(message, InvokeFunction):
            self._serve(message)
        else:
            self._on_other(message)

    def _serve(self, message: InvokeFunction) -> None:
        caller = self.caller_of(message)
        invocation = Invocation(
            function_id=message.function_id,
            payload=None if is_absent(message.data) else message.data,
            metadata=None if is_absent(message.metadata) else message.metadata,
            caller=None if caller is None else Caller(caller),
            traceparent=message.traceparent,
            baggage=message.baggage,
            hops=message.hops,
            origin=message.caller_worker_id,
        )
        if message.timeout_ms is not None:
            invocation.deadline = self._clock.monotonic() + message.timeout_ms / 1000
        function = self._functions.get(message.function_id)
        if function is not None:
            self.serve(function, invocation, message)
        elif message.awaited_id is not None:
            self.refuse(
                message, FunctionNotFound(f"worker `{self._worker_name}` no longer serves `{message.function_id}`")
            )


class _Awaited(msgspec.Struct, eq=False):
    """A call that a task waits for."""

    connection: WorkerConnection
    answer: asyncio.Future[bytes]
    function_id: str
    call_id: CallId = 0
    timeout_s: float = 0.0

    def __call__(self, result: Json, error: Json) -> None:
        """Take the outcome (`Done`)."""
        if self.answer.done():
            return
        if is_absent(error):
            self.answer.set_result(bytes(result))
        else:
            self.answer.set_exception(read_error(error))

    def expire(self) -> None:
        """Its time is over (`Wait`)."""
        self.connection.abandon_call(self.call_id)
        if not self.answer.done():
            self.answer.set_exception(timed_out(self.function_id, self.timeout_s))
