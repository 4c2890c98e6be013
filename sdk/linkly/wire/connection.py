"""The only I/O shell around a `Session`: a frame stream on one side, awaitable calls on the other.

A `FrameStream` is a WebSocket (`linkly.wire.websocket`) or half of a pair in memory (`memory_pair`). Nothing here
waits for the network: frames are handed over by callback, sending queues, and a stream that queues too much is
refused work and finally cut, so that a peer that stops reading stalls nobody else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from linkly.clock import Clock
from linkly.endpoint import ended
from linkly.errors import InvocationStopped, LinklyError, Overloaded
from linkly.invocation import Done, Endpoint, Invocation, Json
from linkly.outcome import ABSENT, error_body, is_absent, read_error
from linkly.schema import as_json, payload_json
from linkly.wire.messages import AnyMessage, EnqueueAction, FrameError, InvocationResult, InvokeFunction, Message
from linkly.wire.session import Session, SessionStatistics

log = logging.getLogger("linkly.connection")

CALLS_LIMIT = 100_000
"""Calls in flight in one direction of a connection; more are refused (`Overloaded`)."""

BUSY_BYTES = 16 * 1024 * 1024
"""A stream with more than this unsent gets no new calls (`Overloaded`)."""

STUCK_BYTES = 128 * 1024 * 1024
"""A stream with more than this unsent is cut: its reader is gone or far too slow."""


class FrameStream(Protocol):
    """Sends frames; gives received ones to the `FrameReceiver` it was made for."""

    def send(self, data: bytes, *, text: bool) -> None:
        """Queue one message; never waits, never raises."""
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


class FrameReceiver(Protocol):
    """Takes frames from a `FrameStream`."""

    def frame_received(self, data: bytes, *, text: bool) -> None:
        """Take one whole message."""
        ...

    def stream_closed(self, reason: str) -> None:
        """The stream ended; called once, nothing follows."""
        ...


class Connection:
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
        self.stream = stream
        self.name = name
        self.native = native
        self.closed = False
        self._session = Session(native=native, stopped=stopped)
        self._clock = clock
        self._on_message = on_message
        self._on_closed = on_closed
        self._logged_elsewhere = logged_elsewhere
        self._unattended: dict[int, Callable[[], object]] = {}
        self._unattended_began = 0
        self._draining: asyncio.Event | None = None

    # --- counts and limits ---------------------------------------------------------------------------------

    @property
    def calls_made(self) -> int:
        """Count our calls that the other side has not answered."""
        return len(self._session.calls)

    @property
    def calls_served(self) -> int:
        """Count the calls of the other side that have not been answered."""
        return len(self._session.serving)

    def serves(self, call_id: str) -> bool:
        """Return whether a call of the other side waits for its answer."""
        return call_id in self._session.serving

    def calls_of(self, function_id: str) -> int:
        """Count the unanswered calls of the other side of one function."""
        return self._session.pending.get(function_id, 0)

    @property
    def statistics(self) -> SessionStatistics:
        """Counters since the conversation began."""
        return self._session.statistics

    def caller_of(self, call: InvokeFunction) -> str | None:
        """Return the id of the worker whose call the engine has forwarded; `None` if it does not say."""
        return self._session.caller_of(call)

    def limit_frames(self, limit_bytes: int) -> None:
        """Send no frame above this size: the other side would drop the connection over it."""
        self._session.peer_limit_bytes = limit_bytes

    def take_telemetry(self, take: Callable[[bytes], None]) -> None:
        """Give telemetry frames to `take`; without it they are counted only."""
        self._session.on_telemetry = take

    # --- frames --------------------------------------------------------------------------------------------

    def frame_received(self, data: bytes, *, text: bool) -> None:
        """Take one message from the stream; a bad one ends the call it belongs to and harms nobody else."""
        if self.closed:
            return
        try:
            message = self._session.receive(data, text=text)
        except FrameError as error:
            log.warning("dropped a frame from %s: %s", self.name or "the peer", error.message)
            answer = self._session.unreadable(data, error, text=text)
            if answer is not None:
                self._write(answer)
            return
        if message is not None:
            try:
                self._on_message(message)
            except LinklyError as error:  # valid JSON whose content cannot be read or forwarded
                kind = type(message).__name__
                log.warning("dropped a %s message from %s: %s", kind, self.name or "the peer", error.message)
        elif self._draining is not None:
            self._draining.set()  # it may have cancelled the last call that `drain` waits for

    def overtake(self, data: bytes, *, text: bool) -> bool:
        """Take a cancellation ahead of the messages that came before it; return whether the message was one."""
        if text or self.closed or not self._session.cancel_ahead(data):
            return False
        if self._draining is not None:
            self._draining.set()
        return True

    def stream_closed(self, reason: str, error: LinklyError | None = None) -> None:
        """End the conversation: every call on it ends now, with `error` if that says more than the reason."""
        if self.closed:
            return
        self.closed = True
        self._session.end(reason, error)
        if self._draining is not None:
            self._draining.set()
        self._on_closed(reason)

    def send(self, message: Message) -> None:
        """Send one message."""
        self._write(self._session.encode(message))

    def start_call(
        self,
        invocation: Invocation,
        done: Done,
        *,
        namespace: str | None = None,
        action: EnqueueAction | None = None,
    ) -> str:
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
        if self.stream.buffered_bytes() > BUSY_BYTES:
            raise Overloaded(
                f"worker {self.name!r} does not read its messages fast enough; `{invocation.function_id}` "
                "was not called, try again later"
            )
        if len(self._session.calls) >= CALLS_LIMIT:
            raise Overloaded(
                f"worker {self.name!r} has not answered {CALLS_LIMIT} calls; `{invocation.function_id}` was not "
                "called, try again later"
            )
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
            call.hops = invocation.hops
            if invocation.caller is not None:
                call.caller_worker_id = invocation.caller.worker_id
            if invocation.deadline is not None:
                call.timeout_ms = max(0, int((invocation.deadline - self._clock.monotonic()) * 1000))
        call_id, frame = self._session.start_call(call, done)
        self._write(frame)
        return call_id

    def abandon_call(self, call_id: str) -> None:
        """Stop waiting; the other side is told if it understands that."""
        frame = self._session.abandon_call(call_id)
        if frame is not None and not self.closed:
            self._write(frame)

    def call(
        self, invocation: Invocation, *, namespace: str | None = None, action: EnqueueAction | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Call a function of the other side and wait for its answer.

        Raises:
            LinklyError: What the other side answered, or that it went away.
        """
        return ended(partial(self._start, invocation, namespace, action))

    def _start(
        self, invocation: Invocation, namespace: str | None, action: EnqueueAction | None, done: Done
    ) -> Callable[[], object]:
        return partial(self.abandon_call, self.start_call(invocation, done, namespace=namespace, action=action))

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
        call_id = call.awaited_id
        if not forwarded:
            call.traceparent, call.baggage = invocation.traceparent, invocation.baggage
        try:
            if not forwarded and len(self._session.serving) + len(self._unattended) >= CALLS_LIMIT:
                raise Overloaded(
                    f"{CALLS_LIMIT} calls of this worker are being served; `{call.function_id}` was not called"
                )
            if call_id is None:
                number = self._unattended_began = self._unattended_began + 1
                abandon = endpoint.start(invocation, partial(self._unattended_ended, call.function_id, number))
                if not forwarded:
                    self._unattended[number] = abandon
            else:
                abandon = endpoint.start(invocation, partial(self._answer, call, call_id))
                self._session.begin(call_id, call.function_id, abandon)
        except LinklyError as error:
            self.refuse(call, error)

    def hold(self, call: InvokeFunction) -> None:
        """Count a call among those that wait for an answer before an endpoint serves it."""
        if call.awaited_id is not None:
            self._session.begin(call.awaited_id, call.function_id, lambda: None)

    def refuse(self, call: InvokeFunction, error: LinklyError) -> None:
        """End a call of the other side with an error, without an endpoint."""
        if call.awaited_id is None:
            self._log_unattended(call.function_id, error)
        else:
            self._answer(call, call.awaited_id, ABSENT, error_body(error))

    def _answer(self, call: InvokeFunction, call_id: str, result: Json, error: Json) -> None:
        self._session.finish(call_id)
        if self._draining is not None:
            self._draining.set()
        if not self.closed:
            succeeded = is_absent(error)
            message = InvocationResult(
                invocation_id=call_id,
                function_id=call.function_id,
                result=result if succeeded else ABSENT,
                error=ABSENT if succeeded else error,  # never `error: null`: to some clients it is an error
                traceparent=call.traceparent,
                baggage=call.baggage,
            )
            self._write(self._session.answer(message))

    def _unattended_ended(self, function_id: str, number: int, result: Json, error: Json) -> None:
        self._unattended.pop(number, None)
        if not is_absent(error):
            self._log_unattended(function_id, read_error(error))

    def _log_unattended(self, function_id: str, error: LinklyError) -> None:
        if not isinstance(error, self._logged_elsewhere):
            log.warning("`%s`, called by %s without waiting, failed: %s", function_id, self.name, error)

    def _write(self, frame: bytes) -> None:
        self.stream.send(frame, text=not self.native)
        if self.stream.buffered_bytes() > STUCK_BYTES:
            log.warning("cutting %s: it does not read its messages", self.name or "the peer")
            self.stream.abort()

    async def drain(self) -> None:
        """Wait until every call of the other side has been answered, or the stream has ended."""
        self._draining = asyncio.Event()
        while self._session.serving and not self.closed:
            self._draining.clear()
            await self._draining.wait()
