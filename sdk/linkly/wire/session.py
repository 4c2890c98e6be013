"""One side of one conversation, without I/O: bytes in, messages out; messages in, bytes out.

Engine and SDK share it. It keeps what a conversation has to remember: which of our calls the other side still
owes an answer (`calls`), and which of its calls we are serving (`serving`). Results are matched here; every
other message is handed to the caller of `receive`.

This module must never know sockets, tasks, the registry or time.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Protocol

import msgspec

from linkly.errors import InvalidResult, InvocationStopped, LinklyError, PayloadTooLarge
from linkly.invocation import Done
from linkly.outcome import ABSENT, error_body
from linkly.wire.json_frames import read_json, write_json
from linkly.wire.messages import (
    MAX_MESSAGE_BYTES,
    AnyMessage,
    CallId,
    CancelInvocation,
    FrameError,
    InvocationResult,
    InvokeFunction,
    Message,
)
from linkly.wire.native_frames import is_cancellation, read_native, write_native
from linkly.wire.unreadable import CALL, remains

_CALLER = re.compile(rb'[{,]"_caller_worker_id":"([0-9a-f-]{36})"\}\Z')
_CALLER_BYTES = 64

CANCEL_LIMIT = 10_000
"""How many cancellations are kept whose calls have not been read yet: more than any queue of frames has room for."""

TELEMETRY_PREFIXES = (b"OTLP", b"MTRC", b"LOGS")


class SessionStatistics(msgspec.Struct):
    """Counters of one session since it began."""

    frames_received: int = 0
    frames_dropped: int = 0
    telemetry_frames: int = 0
    late_results: int = 0


class Serving(Protocol):
    """A call of the other side that we have not answered."""

    @property
    def function_id(self) -> str:
        """What is called."""
        ...

    def cancel(self) -> object:
        """End it: nobody waits any more."""
        ...


class Session:
    """Protocol state of one side.

    Args:
        native: Whether binary frames are native ones; otherwise they hold JSON or telemetry (docs/protocol.md 2.1).
        stopped: What our unanswered calls end with when the conversation does.

    Attributes:
        calls: Our calls that the other side has not answered: wire id -> who is told.
        serving: Calls of the other side that we have not answered, by its id.
        pending: How many of them each function has.
        idle: Told whenever none of them is left.
        calls_begun: Numbers our calls.
        cancelled_ahead: Cancellations whose calls have not been read yet.
        peer_limit_bytes: Largest frame the other side takes; it would drop the connection over a larger one.
        statistics: Counters since the conversation began.
        on_telemetry: Takes telemetry frames; without it they are counted only.
    """

    def __init__(self, *, native: bool = False, stopped: type[LinklyError] = InvocationStopped) -> None:
        self.native = native
        self._stopped = stopped
        self.calls: dict[CallId, Done] = {}
        self.serving: dict[CallId, Serving] = {}
        self.pending: dict[str, int] = {}
        self.idle: Callable[[], object] | None = None
        self.calls_begun = 0
        self.cancelled_ahead: dict[CallId, None] = {}
        self.peer_limit_bytes = MAX_MESSAGE_BYTES
        self.statistics = SessionStatistics()
        self.on_telemetry: Callable[[bytes], None] | None = None
        # Our ids are our own, whatever ids callers chose: two callers may collide, and nobody can answer a call
        # it was not given. In JSON they look like UUIDs because executors may parse them as such.
        self._prefix = "" if native else str(uuid.uuid4())[:24]

    def encode(self, message: Message) -> bytes:
        """Turn a message into one frame.

        Raises:
            PayloadTooLarge: The other side would drop the connection over it.
        """
        return self.fitting(write_native(message) if self.native else write_json(message))

    def fitting(self, frame: bytes) -> bytes:
        """Return a frame that the other side takes.

        Raises:
            PayloadTooLarge: The other side would drop the connection over it.
        """
        if len(frame) > self.peer_limit_bytes:
            raise PayloadTooLarge(
                f"the message has {len(frame)} bytes, the receiving worker takes {self.peer_limit_bytes}; "
                "send it in parts or through a channel"
            )
        return frame

    def receive(self, data: bytes, *, text: bool) -> AnyMessage | None:
        """Take one frame; return the message in it, or `None` if the session has handled that.

        Raises:
            FrameError: No message of the protocol. The caller drops it; the conversation goes on.
        """
        self.statistics.frames_received += 1
        if not text and self.native:
            message = read_native(data)
        elif not text and data[:4] in TELEMETRY_PREFIXES:
            self.statistics.telemetry_frames += 1
            if self.on_telemetry is not None:
                self.on_telemetry(data)
            return None
        else:
            message = read_json(data)
        return self.take(message)

    def take(self, message: AnyMessage | None) -> AnyMessage | None:
        """Take a message that has been read; return it, or `None` if the session has handled it."""
        if type(message) is InvocationResult:
            done = self.calls.pop(message.invocation_id, None)
            if done is None:
                self.statistics.late_results += 1
            else:
                done(message.result, message.error)
            return None
        if type(message) is CancelInvocation:
            self.cancel(message.invocation_id)
            return None
        ahead = self.cancelled_ahead
        if ahead and type(message) is InvokeFunction and message.invocation_id in ahead:
            del ahead[message.invocation_id]
            return None
        return message

    def cancel_ahead(self, data: bytes) -> bool:
        """Handle a cancellation ahead of the frames that came before it; return whether the frame was one.

        When a caller floods and gives up, none of the calls that it cancels begins any more. A cancelled call may be
        among the frames that wait: it is dropped when it is read.
        """
        if not self.native or not is_cancellation(data):
            return False
        try:
            message = read_native(data)
        except FrameError:
            return False
        if type(message) is not CancelInvocation:
            return False
        self.statistics.frames_received += 1
        if message.invocation_id in self.serving:
            self.cancel(message.invocation_id)
        else:
            self.cancelled_ahead[message.invocation_id] = None
            if len(self.cancelled_ahead) > CANCEL_LIMIT:
                del self.cancelled_ahead[next(iter(self.cancelled_ahead))]
        return True

    def unreadable(self, data: bytes, error: FrameError, *, text: bool) -> bytes | None:
        """Handle a frame that `receive` refused: whoever waits for its call is told.

        An answer that cannot be read ends our call. A call that cannot be read is answered: return the frame that
        says so. A frame that shows no call concerns nobody.
        """
        self.statistics.frames_dropped += 1
        found = remains(data, native=self.native and not text)
        if found is None:
            return None
        told = FrameError(f"the message of call {found.invocation_id} cannot be read: {error.message}")
        if found.kind == CALL:
            return self.encode(
                InvocationResult(
                    invocation_id=found.invocation_id, function_id=found.function_id, error=error_body(told)
                )
            )
        done = self.calls.pop(found.invocation_id, None)
        if done is not None:
            done(ABSENT, error_body(InvalidResult(f"the answer cannot be read: {error.message}")))
        return None

    def begin_call(self, call: InvokeFunction, done: Done) -> tuple[CallId, bytes]:
        """Begin a call: return its wire id and its frame. The entry stands before the frame can leave.

        Raises:
            PayloadTooLarge: Nothing was begun.
        """
        call_id = call.invocation_id = self.next_call_id()
        frame = self.encode(call)
        self.calls[call_id] = done
        return call_id, frame

    def next_call_id(self) -> CallId:
        """Return a wire id for one more call."""
        number = self.calls_begun = self.calls_begun + 1
        return number if self.native else f"{self._prefix}{number:012x}"

    def abandoned(self, call_id: CallId) -> bytes | None:
        """Stop waiting for a call; return the frame that says so, if the other side understands one."""
        if self.calls.pop(call_id, None) is None or not self.native:
            return None
        return self.encode(CancelInvocation(invocation_id=call_id))

    def begin_serving(self, call_id: CallId, serving: Serving) -> None:
        """Count a call of the other side as served; begun again, it only gets another `Serving`."""
        if call_id not in self.serving:
            self.pending[serving.function_id] = self.pending.get(serving.function_id, 0) + 1
        self.serving[call_id] = serving

    def cancel(self, call_id: CallId) -> None:
        """Cancel a call that the other side no longer waits for."""
        serving = self.finish(call_id)
        if serving is not None:
            serving.cancel()

    def finish(self, call_id: CallId) -> Serving | None:
        """End a call of the other side; return it. Harmless the second time."""
        serving = self.serving.pop(call_id, None)
        if serving is not None:
            function_id = serving.function_id
            left = self.pending[function_id] - 1
            if left:
                self.pending[function_id] = left
            else:
                del self.pending[function_id]
            if self.idle is not None and not self.serving:
                self.idle()
        return serving

    def caller_of(self, call: InvokeFunction) -> str | None:
        """Return the id of the worker whose call the engine has forwarded; `None` if it does not say.

        Over JSON the engine puts the id at the end of every object (docs/protocol.md 3.1), and it wins over what the
        caller wrote. Only the end is looked at, so that a large payload costs no more than a small one.
        """
        if self.native:
            return call.caller_worker_id
        found = _CALLER.search(memoryview(call.data)[-_CALLER_BYTES:])
        return None if found is None else found[1].decode()

    def answer(self, message: InvocationResult) -> bytes:
        """Encode the answer to a call of the other side; one that is too large becomes an error."""
        try:
            return self.encode(message)
        except PayloadTooLarge as too_large:
            message.result, message.error = ABSENT, error_body(too_large)
            message.traceparent = message.baggage = None  # they may be what is too large
            return self.encode(message)

    def end(self, reason: str, error: LinklyError | None = None) -> None:
        """End the conversation: our calls end (with `error`, if given), the other side's are cancelled."""
        stopped = error_body(error or self._stopped(f"Invocation stopped: {reason}"))
        calls, serving = list(self.calls.values()), list(self.serving.values())
        self.calls.clear()
        self.serving.clear()
        self.pending.clear()
        for done in calls:
            done(ABSENT, stopped)
        for each in serving:
            each.cancel()
        if self.idle is not None:
            self.idle()
