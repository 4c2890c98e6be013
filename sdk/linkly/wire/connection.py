"""The only I/O shell around a `Session`: a frame stream on one side, awaitable calls on the other.

A `FrameStream` is a WebSocket (`linkly.wire.websocket`) or half of a pair in memory (`memory_pair`). Nothing here
waits for the network: frames are handed over by callback, sending queues, and a stream that queues too much is
refused work and finally cut, so that a peer that stops reading stalls nobody else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from linkly.bus import Endpoint, Invocation, Json
from linkly.clock import Clock
from linkly.errors import HandlerFailed, LinklyError, Overloaded
from linkly.schema import encode, encode_payload
from linkly.wire.messages import (
    ABSENT,
    AnyMessage,
    EnqueueAction,
    FrameError,
    InvocationResult,
    InvokeFunction,
    Message,
    is_absent,
)
from linkly.wire.session import Done, Session, error_body, read_error

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
    """A session on a stream.

    Args:
        session: Protocol state.
        stream: Where its frames go.
        on_message: Takes every message the session does not deal with itself.
        on_closed: Told once when the stream ends, after every call has been ended.
        name: For log lines.
        clock: What deadlines go by.
    """

    def __init__(
        self,
        session: Session,
        stream: FrameStream,
        *,
        on_message: Callable[[AnyMessage], None],
        on_closed: Callable[[str], None],
        clock: Clock,
        name: str = "",
    ) -> None:
        self.session = session
        self.stream = stream
        self.name = name
        self.closed = False
        self._clock = clock
        self._on_message = on_message
        self._on_closed = on_closed
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining: asyncio.Event | None = None

    def frame_received(self, data: bytes, *, text: bool) -> None:
        """Take one message from the stream; a bad one ends the call it belongs to and harms nobody else."""
        if self.closed:
            return
        try:
            message = self.session.receive(data, text=text)
        except FrameError as error:
            log.warning("dropped a frame from %s: %s", self.name or "the peer", error.message)
            answer = self.session.unreadable(data, error, text=text)
            if answer is not None:
                self._write(answer)
            return
        if message is not None:
            try:
                self._on_message(message)
            except LinklyError as error:  # it is JSON, but what is in it cannot be read, or not be passed on
                kind = type(message).__name__
                log.warning("dropped a %s message from %s: %s", kind, self.name or "the peer", error.message)
        elif self._draining is not None:
            self._draining.set()  # it may have cancelled the last call that `drain` waits for

    def overtake(self, data: bytes, *, text: bool) -> bool:
        """Take a message ahead of others that wait, if that is allowed: a cancellation; answer whether it was taken."""
        if text or self.closed or not self.session.cancel_ahead(data):
            return False
        if self._draining is not None:
            self._draining.set()
        return True

    def stream_closed(self, reason: str, error: LinklyError | None = None) -> None:
        """End the conversation: every call on it ends now, with `error` if that says more than the reason."""
        if self.closed:
            return
        self.closed = True
        self.session.end(reason, error)
        if self._draining is not None:
            self._draining.set()
        self._on_closed(reason)

    def send(self, message: Message) -> None:
        """Send one message."""
        self._write(self.session.encode(message))

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
        if len(self.session.calls) >= CALLS_LIMIT:
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
        if self.session.native:
            call.hops = invocation.hops
            if invocation.caller is not None:
                call.caller_worker_id = invocation.caller.worker_id
            if invocation.deadline is not None:
                call.timeout_ms = max(0, int((invocation.deadline - self._clock.monotonic()) * 1000))
        call_id, frame = self.session.start_call(call, done)
        self._write(frame)
        return call_id

    def abandon_call(self, call_id: str) -> None:
        """Stop waiting; the other side is told if it understands that."""
        frame = self.session.abandon_call(call_id)
        if frame is not None and not self.closed:
            self._write(frame)

    async def call(
        self, invocation: Invocation, *, namespace: str | None = None, action: EnqueueAction | None = None
    ) -> Any:
        """Call a function of the other side and wait: what the `Endpoint` of every remote function does.

        Raises:
            LinklyError: What the other side answered, or that it went away.
        """
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()

        def done(result: Json, error: Json) -> None:
            if answer.done():
                return
            if is_absent(error):
                answer.set_result(result)
            else:
                answer.set_exception(read_error(error))

        call_id = self.start_call(invocation, done, namespace=namespace, action=action)
        try:
            result = await answer
        except asyncio.CancelledError:
            self.abandon_call(call_id)
            raise
        return None if is_absent(result) else result

    def serve(self, endpoint: Endpoint, invocation: Invocation, invocation_id: str | None) -> None:
        """Run one call of the other side in a task of its own and answer it; no id: nobody waits."""
        if len(self._tasks) >= CALLS_LIMIT:
            endpoint = _refuse
        task = asyncio.get_running_loop().create_task(self._serve(endpoint, invocation, invocation_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if invocation_id is not None:
            self.session.begin(invocation_id, invocation.function_id, task.cancel)

    def answer(
        self,
        invocation_id: str,
        function_id: str,
        result: Json,
        error: Json = ABSENT,
        *,
        traceparent: str | None = None,
        baggage: str | None = None,
    ) -> None:
        """Answer a call of the other side, unless the stream is gone."""
        self.session.finish(invocation_id)
        if self._draining is not None:
            self._draining.set()
        if not self.closed:
            succeeded = is_absent(error)
            message = InvocationResult(
                invocation_id=invocation_id,
                function_id=function_id,
                result=result if succeeded else ABSENT,
                error=ABSENT if succeeded else error,  # never `error: null`: to some clients it is an error
                traceparent=traceparent,
                baggage=baggage,
            )
            self._write(self.session.answer(message))

    async def _serve(self, endpoint: Endpoint, invocation: Invocation, invocation_id: str | None) -> None:
        result, error, logged = ABSENT, ABSENT, False
        try:
            value = await endpoint(invocation)
            if value is not None:  # to iii's clients `null` is a value, and nothing is `undefined` (protocol.md 3.2)
                result = as_json(value)
        except LinklyError as failure:
            error, logged = error_body(failure), failure.error_id is not None
        except Exception as failure:
            error = error_body(HandlerFailed.wrap(failure))
        except asyncio.CancelledError:
            if invocation_id is None or invocation_id not in self.session.serving:
                raise  # its caller has cancelled it, or the stream has ended
            told = f"`{invocation.function_id}` ended by a cancellation that its caller did not ask for"
            error = error_body(HandlerFailed(told))
        if invocation_id is not None:
            self.answer(
                invocation_id,
                invocation.function_id,
                result,
                error,
                traceparent=invocation.traceparent,
                baggage=invocation.baggage,
            )
        elif not is_absent(error) and not logged:
            said = read_error(error)
            log.warning("`%s`, called by %s without waiting, failed: %s", invocation.function_id, self.name, said)

    def _write(self, frame: bytes) -> None:
        self.stream.send(frame, text=not self.session.native)
        if self.stream.buffered_bytes() > STUCK_BYTES:
            log.warning("cutting %s: it does not read its messages", self.name or "the peer")
            self.stream.abort()

    async def drain(self) -> None:
        """Wait until every call of the other side has been answered, or the stream has ended."""
        self._draining = asyncio.Event()
        while self.session.serving and not self.closed:
            self._draining.clear()
            await self._draining.wait()


async def _refuse(invocation: Invocation) -> Any:
    raise Overloaded(f"{CALLS_LIMIT} calls of this worker are being served; `{invocation.function_id}` was not called")


def as_json(value: Any) -> Json:
    """Return a bus value in its encoded form.

    Raises:
        InvalidResult: It has no JSON form.
    """
    return value if type(value) is Json else Json(encode(value))


def payload_json(value: Any) -> Json:
    """Return what is given to a function in its encoded form.

    Raises:
        InvalidResult: It has no JSON form.
        InvalidPayload: A number in it is infinite or none.
    """
    return value if type(value) is Json else Json(encode_payload(value))


class MemoryStream:
    """One half of a wire in memory: frames arrive at the other half in a later turn of the loop, as from a socket."""

    def __init__(self) -> None:
        self.receiver: FrameReceiver | None = None
        self._other: MemoryStream | None = None
        self._closed = False

    def connect(self, other: MemoryStream) -> None:
        """Tie two halves together."""
        self._other, other._other = other, self

    def send(self, data: bytes, *, text: bool) -> None:  # noqa: D102
        if not self._closed and self._other is not None:
            asyncio.get_running_loop().call_soon(self._other._deliver, data, text)

    def buffered_bytes(self) -> int:  # noqa: D102
        return 0

    def close(self, code: int, reason: str) -> None:  # noqa: D102
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        self._closed = True
        for end in (self, self._other):
            if end is not None:
                loop.call_soon(end._end, f"closed with {code} {reason}".strip())

    def abort(self) -> None:  # noqa: D102
        self.close(1006, "aborted")

    def _deliver(self, data: bytes, text: bool) -> None:
        if self.receiver is not None:
            self.receiver.frame_received(data, text=text)

    def _end(self, reason: str) -> None:
        self._closed = True
        if self.receiver is not None:
            receiver, self.receiver = self.receiver, None
            receiver.stream_closed(reason)


def memory_pair() -> tuple[MemoryStream, MemoryStream]:
    """Return the two ends of a wire in memory; set `receiver` on both before anything is sent."""
    near, far = MemoryStream(), MemoryStream()
    near.connect(far)
    return near, far
