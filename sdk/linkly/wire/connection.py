"""The only I/O shell around a `Session`: a frame stream on one side, calls on the other.

A `FrameStream` is a stream of native frames (`linkly.wire.native_stream`), a WebSocket (`linkly.wire.websocket`) or
half of a pair in memory (`linkly.wire.memory`). Nothing here waits for the network: frames are handed over by callback,
sending queues, and a stream that queues too much is refused work and finally cut, so that a peer that stops reading
stalls nobody else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import msgspec

from linkly.clock import Clock, time_limit
from linkly.errors import InvocationStopped, LinklyError, Overloaded
from linkly.invocation import Done, Endpoint, Invocation, Json
from linkly.outcome import ABSENT, error_body, is_absent, read_error
from linkly.schema import as_json, payload_json
from linkly.wire.messages import (
    AnyMessage,
    CallId,
    EnqueueAction,
    FrameError,
    InvocationResult,
    InvokeFunction,
    Message,
)
from linkly.wire.native_frames import ANSWER, RESULT, answer_frame, call_frame, extras_of, left_ms_of, route_of
from linkly.wire.session import Session

log = logging.getLogger("linkly.connection")

CALLS_LIMIT = 100_000
"""Calls in flight in one direction of a connection; more are refused (`Overloaded`)."""

BUSY_BYTES = 16 * 1024 * 1024
"""A stream with more than this unsent gets no new calls (`Overloaded`)."""

STUCK_BYTES = 128 * 1024 * 1024
"""A stream with more than this unsent is cut: its reader is gone or far too slow."""


class FrameStream(Protocol):
    """Sends frames; gives received ones to the receiver it was made for.

    Attributes:
        blocked: Whether the network has not taken all that was sent.
    """

    blocked: bool

    def send(self, data: bytes, *, text: bool) -> None:
        """Queue one message; never waits, never raises."""
        ...

    def send_many(self, frames: list[bytes], *, text: bool) -> None:
        """Queue messages."""
        ...

    def buffered_bytes(self) -> int:
        """Count what is queued and not yet taken by the network."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Send what is queued, then end with `code`. Never 1000, 1001 or none towards a peer that should return."""
        ...

    def abort(self) -> None:
        """End now; what is queued is lost."""
        ...

    async def ended(self) -> None:
        """Wait until the stream has ended: all that was queued before `close` is sent, or lost with the network."""
        ...


class FrameReceiver(Protocol):
    """Takes frames from a `FrameStream`."""

    def frame_received(self, data: bytes, *, text: bool) -> None:
        """Take one whole message."""
        ...

    def stream_closed(self, reason: str) -> None:
        """The stream ended; called once, nothing follows."""
        ...


class FramesReceiver(FrameReceiver, Protocol):
    """Takes native frames as they come: many at a time."""

    def frames_received(self, frames: list[bytes]) -> None:
        """Take whole native frames, in order."""
        ...


class Connection(Session):
    """One side's conversation over a stream.

    Args:
        stream: Where its frames go.
        native: Whether native frames are spoken, otherwise JSON.
        on_message: Takes every message that is neither an answer nor a cancellation.
        on_closed: Told once when the stream ends, after every call has been ended.
        clock: What deadlines go by.
        name: Of the other side, for log lines and errors.
        stopped: What our unanswered calls end with when the conversation does.
        logged_elsewhere: Errors of calls nobody waits for that are not logged here, because their raiser logs them.

    Attributes:
        closed: Whether the conversation is over. `stream`, `name` and `native` are as given.
    """

    def __init__(
        self,
        stream: FrameStream,
        *,
        native: bool,
        on_message: Callable[[AnyMessage], None],
        on_closed: Callable[[str], None],
        clock: Clock,
        name: str = "",
        stopped: type[LinklyError] = InvocationStopped,
        logged_elsewhere: tuple[type[LinklyError], ...] = (),
    ) -> None:
        super().__init__(native=native, stopped=stopped)
        self.stream = stream
        self.name = name
        self.closed = False
        self._clock = clock
        self._on_message = on_message
        self._on_closed = on_closed
        self._logged_elsewhere = logged_elsewhere
        self._unattended: dict[Served, None] = {}

    # --- frames --------------------------------------------------------------------------------------------

    def frames_received(self, frames: list[bytes]) -> None:
        """Take native frames from the stream."""
        for data in frames:
            self.frame_received(data, text=False)

    def frame_received(self, data: bytes, *, text: bool) -> None:
        """Take one message from the stream; a bad one ends the call it belongs to and harms nobody else."""
        if self.closed:
            return
        try:
            message = self.receive(data, text=text)
        except FrameError as error:
            log.warning("dropped a frame from %s: %s", self.name or "the peer", error.message)
            answer = self.unreadable(data, error, text=text)
            if answer is not None:
                self.write(answer)
            return
        self._handled(message)

    def message_received(self, message: AnyMessage | None) -> None:
        """Take one message that has been read from its frame already."""
        self.statistics.frames_received += 1
        self._handled(self.take(message))

    def _handled(self, message: AnyMessage | None) -> None:
        if message is not None:
            try:
                self._on_message(message)
            except LinklyError as error:  # valid JSON whose content cannot be read or forwarded
                kind = type(message).__name__
                log.warning("dropped a %s message from %s: %s", kind, self.name or "the peer", error.message)

    def overtake(self, data: bytes, *, text: bool) -> bool:
        """Take a cancellation ahead of the messages that came before it; return whether the message was one."""
        return not text and not self.closed and self.cancel_ahead(data)

    def stream_closed(self, reason: str, error: LinklyError | None = None) -> None:
        """End the conversation: every call on it ends now, with `error` if that says more than the reason."""
        if self.closed:
            return
        self.closed = True
        self.end(reason, error)
        on_closed, self._on_closed, self._on_message = self._on_closed, _ignore, _ignore  # they know this object
        on_closed(reason)

    def send(self, message: Message) -> None:
        """Send one message."""
        self.write(self.encode(message))

    def write(self, frame: bytes) -> None:
        """Send one frame."""
        self.stream.send(frame, text=not self.native)
        if self.stream.blocked:
            self._cut_if_stuck()

    def write_many(self, frames: list[bytes]) -> None:
        """Send frames."""
        self.stream.send_many(frames, text=not self.native)
        if self.stream.blocked:
            self._cut_if_stuck()

    def _cut_if_stuck(self) -> None:
        if self.stream.buffered_bytes() > STUCK_BYTES:
            log.warning("cutting %s: it does not read its messages", self.name or "the peer")
            self.stream.abort()

    # --- our calls -----------------------------------------------------------------------------------------

    def start_call(
        self,
        invocation: Invocation,
        done: Done,
        *,
        namespace: str | None = None,
        action: EnqueueAction | None = None,
    ) -> CallId:
        """Send a call whose answer goes to `done`; return its wire id for `abandon_call`.

        Args:
            invocation: What to call; its own `namespace` is the engine's business and is not sent.
            done: Told exactly once.
            namespace: Where the other side shall look, from a client to its engine.
            action: Through a queue, from a client to its engine.

        Raises:
            Overloaded: The other side reads too slowly, or owes too many answers.
            PayloadTooLarge: It would not take a message of this size.
            InvalidResult: The payload or the metadata has no JSON form.
        """
        self.check_takes_calls(invocation.function_id)
        call = InvokeFunction(
            function_id=invocation.function_id,
            data=payload_json(invocation.payload),
            metadata=ABSENT if invocation.metadata is None else as_json(invocation.metadata),
            traceparent=invocation.traceparent,
            baggage=invocation.baggage,
            namespace=namespace,
            action=action,
        )
        if self.native:
            caller = b"" if invocation.caller is None else invocation.caller.worker_id.encode()
            left_ms = left_ms_of(invocation.deadline, self._clock.monotonic())
            route = route_of(namespace, invocation.function_id)
            return self.start_native_call(
                done, route, bytes(call.data), left_ms, invocation.hops, caller, extras_of(call)
            )
        call_id, frame = self.begin_call(call, done)
        self.write(frame)
        return call_id

    def start_native_call(
        self,
        done: Done,
        route: bytes,
        payload: bytes,
        left_ms: int,
        hops: int,
        caller: bytes = b"",
        extras: bytes = b"",
    ) -> int:
        """Send a call whose parts are encoded already; otherwise as `start_call`.

        Raises:
            PayloadTooLarge: The other side would not take a message of this size.
        """
        number = self.calls_begun = self.calls_begun + 1
        frame = self.fitting(call_frame(number, left_ms, hops, caller, route, extras, payload))
        self.calls[number] = done
        self.write(frame)
        return number

    def check_takes_calls(self, function_id: str) -> None:
        """Refuse one more call.

        Raises:
            Overloaded: The other side reads too slowly, or owes too many answers.
        """
        if self.stream.blocked and self.stream.buffered_bytes() > BUSY_BYTES:
            raise Overloaded(
                f"worker {self.name!r} does not read its messages fast enough; `{function_id}` "
                "was not called, try again later"
            )
        if len(self.calls) >= CALLS_LIMIT:
            raise Overloaded(
                f"worker {self.name!r} has not answered {CALLS_LIMIT} calls; `{function_id}` was not "
                "called, try again later"
            )

    def abandon_call(self, call_id: CallId) -> None:
        """Stop waiting; the other side is told if it understands that."""
        frame = self.abandoned(call_id)
        if frame is not None and not self.closed:
            self.write(frame)

    async def abandon_and_wait(self, call_id: CallId, grace_s: float) -> None:
        """Stop waiting for the answer; wait until the handler has ended, for at most `grace_s` seconds.

        A side that speaks JSON cannot be told, and is not waited for.
        """
        frame = self.abandoned(call_id)
        if frame is None or self.closed:
            return
        over = asyncio.Event()
        self.calls[call_id] = lambda result, error: over.set()
        self.write(frame)
        try:
            with suppress(TimeoutError):
                async with time_limit(self._clock, grace_s):
                    await over.wait()
        finally:
            self.calls.pop(call_id, None)

    # --- calls of the other side -----------------------------------------------------------------------------

    def serve(
        self, endpoint: Endpoint, invocation: Invocation, call: InvokeFunction, *, forwarded: bool = False
    ) -> None:
        """Have a call of the other side served, and answer it.

        Args:
            endpoint: Serves it.
            invocation: The call as the endpoint gets it.
            call: The call as it came.
            forwarded: Another connection serves it: that one bounds how many it takes, and the answer has the trace
                of the call as it came, not as the endpoint gets it.
        """
        trace = call if forwarded else invocation
        served = Served(self, call.awaited_id, call.function_id, trace.traceparent, trace.baggage)
        if not forwarded and self.serves_too_many:
            served.refuse(
                Overloaded(f"{CALLS_LIMIT} calls of this worker are being served; `{call.function_id}` was not called")
            )
            return
        if not forwarded and served.call_id is None:
            self._unattended[served] = None
        self.begin(served, endpoint, invocation)

    def begin(self, served: Served, endpoint: Endpoint, invocation: Invocation) -> None:
        """Start the endpoint of a call of the other side."""
        if served.call_id is not None:
            self.begin_serving(served.call_id, served)
        try:
            served.abandon = endpoint.start(invocation, served)
        except LinklyError as error:
            served.refuse(error)

    @property
    def serves_too_many(self) -> bool:
        """Whether no more calls of the other side are served here."""
        return len(self.serving) + len(self._unattended) >= CALLS_LIMIT

    def hold(self, call: InvokeFunction) -> None:
        """Count a call among those that wait for an answer before an endpoint serves it."""
        if call.awaited_id is not None:
            self.begin_serving(call.awaited_id, Served(self, call.awaited_id, call.function_id))

    def refuse(self, call: InvokeFunction, error: LinklyError) -> None:
        """End a call of the other side with an error, without an endpoint."""
        Served(self, call.awaited_id, call.function_id, call.traceparent, call.baggage).refuse(error)

    def answer_call(self, served: Served, result: Json, error: Json) -> None:
        """Answer a call of the other side; the error of one that nobody waits for is logged."""
        served.abandon = _nothing  # what has served it knows this call
        call_id = served.call_id
        succeeded = is_absent(error)
        if call_id is None:
            self._unattended.pop(served, None)
            if not succeeded:
                self._log_unattended(served.function_id, read_error(error))
            return
        self.finish(call_id)
        if self.closed:
            return
        if succeeded and type(call_id) is int and len(memoryview(result)) < self.peer_limit_bytes - ANSWER.size:
            self.write(answer_frame(RESULT, call_id, bytes(result)))
            return
        message = InvocationResult(
            invocation_id=call_id,
            function_id=served.function_id,
            result=result if succeeded else ABSENT,
            error=ABSENT if succeeded else error,  # never `error: null`: to some clients it is an error
            traceparent=served.traceparent,
            baggage=served.baggage,
        )
        self.write(self.answer(message))

    def _log_unattended(self, function_id: str, error: LinklyError) -> None:
        if not isinstance(error, self._logged_elsewhere):
            log.warning("`%s`, called by %s without waiting, failed: %s", function_id, self.name, error)

    async def drain(self) -> None:
        """Wait until every call of the other side has been answered, or the stream has ended."""
        answered = asyncio.Event()
        self.idle = answered.set
        while self.serving and not self.closed:
            answered.clear()
            await answered.wait()


def _nothing() -> None:
    pass


def _ignore(_: object) -> None:
    pass


class Served(msgspec.Struct, eq=False):
    """A call of the other side on its way: called with the outcome (`Done`), or cancelled."""

    connection: Connection
    call_id: CallId | None
    function_id: str
    traceparent: str | None = None
    baggage: str | None = None
    abandon: Callable[[], object] = _nothing

    def __call__(self, result: Json, error: Json) -> None:
        """Answer it."""
        self.connection.answer_call(self, result, error)

    def refuse(self, error: LinklyError) -> None:
        """Answer it with an error."""
        self.connection.answer_call(self, ABSENT, error_body(error))

    def cancel(self) -> None:
        """End it: nobody waits any more."""
        self.abandon()
