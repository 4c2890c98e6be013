"""Calls from one connection to another that carry nothing but a payload: they go on, and their answers come back.

Between two native connections a frame gets another head and goes on as it is, unread: engine 26 -> 7 us a call. Over
JSON the payload is spliced into a frame that is ready but for it: 18 -> 12 us. No task, future or message is made.

Only what is usual is dealt with here. Whatever needs a decision (a limit is reached, a trace travels along, the
function is served in process, an error has to be logged) goes the way of all other frames; both ways keep the same
books, `Session.calls` and `Session.serving`.

This module must never know what is in a payload.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import error as StructError
from typing import Any

import msgspec

from linkly.errors import LinklyError
from linkly.invocation import HOP_LIMIT, Invocation, Json
from linkly.outcome import ABSENT, is_absent, read_error
from linkly.schema import encode
from linkly.wire.connection import Connection, Served
from linkly.wire.json_frames import call_text, read_json, result_text
from linkly.wire.messages import CallId, FrameError, InvocationResult, InvokeFunction
from linkly.wire.native_frames import (
    ANSWER,
    CALL,
    CALL_BYTES,
    CALL_HEAD,
    LENGTH_BYTES,
    NO_LIMIT,
    RESULT,
    call_frame,
    read_route,
    route_of,
)
from linkly_engine.core.exchange import Exchange
from linkly_engine.core.records import WorkerRecord
from linkly_engine.remote.function import CALLER_MEMBER, RemoteFunction, with_caller

PENDING_LIMIT = 1000
"""How many unanswered calls of one function a worker may have made: circles that no deadline reaches end here."""

_ROUTES_LIMIT = 4096
"""How many routes of one connection are remembered."""

_read_call, _pack_call = CALL_HEAD.unpack_from, CALL_HEAD.pack
_read_answer, _pack_answer, _ANSWER_BYTES = ANSWER.unpack_from, ANSWER.pack, ANSWER.size


class Route(msgspec.Struct):
    """Where calls of one function go, as long as the tables are at this version.

    Attributes:
        target: The connection that serves it; `None`: its calls are not forwarded here.
        function_text: Its id as JSON.
        native: As it travels natively.
        failed: Told when its handler failed.
    """

    version: int
    function_id: str = ""
    target: Connection | None = None
    function_text: bytes = b""
    native: bytes = b""
    failed: Callable[[Invocation, LinklyError], None] | None = None


class Forwarded(msgspec.Struct, eq=False, gc=False):
    """One call on its way between two connections: what both keep of it."""

    origin: Connection
    call_id: CallId
    function_id: str
    route: Route
    target: Connection
    target_id: CallId
    caller: WorkerRecord

    def cancel(self) -> None:
        """Its caller no longer waits (`Serving`)."""
        self.target.abandon_call(self.target_id)

    def __call__(self, result: Json, error: Json) -> None:
        """Take the outcome (`Done`)."""
        origin, call_id, route = self.origin, self.call_id, self.route
        if is_absent(error) and result is not ABSENT and type(call_id) is str:
            frame = result_text(call_id, route.function_text, bytes(result))
            if len(frame) <= origin.peer_limit_bytes and not origin.closed:
                origin.finish(call_id)
                if origin.draining is not None:
                    origin.draining.set()
                origin.write(frame)
                return
        if not is_absent(error) and route.failed is not None:
            invocation = Invocation(function_id=self.function_id, caller=self.caller.caller, origin=self.caller.id)
            route.failed(invocation, read_error(error))
        origin.answer_call(Served(origin, call_id, self.function_id), result, error)


class Forwarding:
    """Takes the frames of one connection (a `FramesReceiver`)."""

    __slots__ = (
        "_caller",
        "_connection",
        "_functions",
        "_record",
        "_router",
        "_routes",
        "_worker_id",
        "_worker_id_bytes",
    )

    def __init__(self, connection: Connection, record: WorkerRecord, exchange: Exchange) -> None:
        self._connection = connection
        self._record = record
        self._worker_id = record.id.encode()
        self._caller = b",%b}" % (CALLER_MEMBER % self._worker_id)
        self._worker_id_bytes = len(self._worker_id)
        self._router = exchange.router
        self._functions = exchange.tables.functions
        self._routes: dict[Any, Route] = {}

    def stream_closed(self, reason: str) -> None:
        """The stream has ended."""
        self._connection.stream_closed(reason)

    def frame_received(self, data: bytes, *, text: bool) -> None:
        """Take one frame: forward it, or leave it to the connection."""
        connection = self._connection
        if connection.native and not text:
            self.frames_received([data])
        elif connection.native or not text or connection.closed:
            connection.frame_received(data, text=text)
        else:
            self._text_received(data)

    # --- native to native ----------------------------------------------------------------------------------

    def frames_received(self, frames: list[bytes]) -> None:
        """Take native frames: forward them, or leave them to the connection."""
        connection = self._connection
        calls = connection.calls
        for data in frames:
            try:
                kind = data[LENGTH_BYTES]
                if kind == CALL:
                    if self._forward(data):
                        continue
                elif kind == RESULT:
                    number = _read_answer(data)[2]
                    call = calls.get(number)
                    if isinstance(call, Forwarded) and type(call.call_id) is int:
                        del calls[number]
                        connection.statistics.frames_received += 1
                        origin = call.origin
                        origin.finish(call.call_id)
                        if origin.draining is not None:
                            origin.draining.set()
                        answer = _pack_answer(len(data) - LENGTH_BYTES, RESULT, call.call_id) + data[_ANSWER_BYTES:]
                        stream = origin.stream
                        if stream.blocked:
                            origin.write(answer)
                        else:
                            stream.send(answer, text=False)
                        continue
            except (IndexError, StructError):
                pass  # a frame that is cut off: the connection says so
            connection.frame_received(data, text=False)

    def _forward(self, data: bytes) -> bool:
        """Forward a call; return whether it was one that may go on as it is."""
        _, _, call_id, left_ms, hops, caller_bytes, route_bytes, extras_bytes = _read_call(data)
        route_at = CALL_BYTES + caller_bytes
        if extras_bytes or not call_id or not left_ms or hops > HOP_LIMIT or route_at + route_bytes > len(data):
            return False
        key = data[route_at : route_at + route_bytes]
        route = self._routes.get(key)
        if route is None or route.version != self._functions.version:
            route = self._find_native(key)
        target = route.target
        if target is None or not target.native or not self._may_go(route, target, call_id):
            return False
        size = CALL_BYTES + self._worker_id_bytes + len(data) - route_at
        if size > target.peer_limit_bytes:
            return False
        self._connection.statistics.frames_received += 1
        number = target.calls_begun = target.calls_begun + 1
        self._note(Forwarded(self._connection, call_id, route.function_id, route, target, number, self._record))
        head = _pack_call(size - LENGTH_BYTES, CALL, number, left_ms, hops, self._worker_id_bytes, route_bytes, 0)
        target.stream.send(b"".join((head, self._worker_id, data[route_at:])), text=False)  # it is not blocked
        return True

    # --- from JSON -----------------------------------------------------------------------------------------

    def _text_received(self, data: bytes) -> None:
        connection = self._connection
        try:
            message = read_json(data)
        except FrameError:
            connection.frame_received(data, text=True)  # which says so
            return
        if type(message) is InvokeFunction:
            if self._forward_text(message):
                connection.statistics.frames_received += 1
                return
        elif type(message) is InvocationResult and message.error is ABSENT:
            call = connection.calls.get(message.invocation_id)
            if isinstance(call, Forwarded):
                connection.statistics.frames_received += 1
                del connection.calls[call.target_id]
                call(message.result, ABSENT)
                return
        connection.message_received(message)

    def _forward_text(self, call: InvokeFunction) -> bool:
        """Forward a call of a JSON client; return whether it was one that carries nothing but a payload."""
        call_id = call.invocation_id
        if (
            type(call_id) is not str
            or call.data is ABSENT
            or call.action is not None
            or call.traceparent is not None
            or call.baggage is not None
            or call.metadata is not ABSENT
        ):
            return False
        key = (call.namespace, call.function_id)
        route = self._routes.get(key)
        if route is None or route.version != self._functions.version:
            route = self._find(key, call.namespace, call.function_id)
        target = route.target
        if target is None or not self._may_go(route, target, call_id):
            return False
        target_id = target.next_call_id()
        if isinstance(target_id, int):
            payload = bytes(call.data)
            frame = call_frame(target_id, NO_LIMIT, 0, self._worker_id, route.native, b"", payload)
        else:
            payload = bytes(call.data)
            if payload[:2] == b'{"':  # what `with_caller` does, for most calls
                payload = payload[:-1] + self._caller
            else:
                payload = bytes(with_caller(call.data, self._record.id))
            frame = call_text(target_id, route.function_text, payload)
        if len(frame) > target.peer_limit_bytes:
            return False
        self._note(Forwarded(self._connection, call_id, route.function_id, route, target, target_id, self._record))
        target.write(frame)
        return True

    # --- both ----------------------------------------------------------------------------------------------

    def _may_go(self, route: Route, target: Connection, call_id: CallId) -> bool:
        connection = self._connection
        return not (
            call_id in connection.serving
            or connection.cancelled_ahead
            or connection.closed
            or target.closed
            or target.stream.blocked
            or target.owes_too_many
            or connection.pending.get(route.function_id, 0) >= PENDING_LIMIT
        )

    def _note(self, call: Forwarded) -> None:
        connection, function_id = self._connection, call.route.function_id
        call.target.calls[call.target_id] = connection.serving[call.call_id] = call
        connection.pending[function_id] = connection.pending.get(function_id, 0) + 1

    def _find_native(self, key: bytes) -> Route:
        try:
            namespace, function_id = read_route(key)
        except ValueError:
            return Route(self._functions.version)
        return self._find(key, namespace, function_id)

    def _find(self, key: object, namespace: str | None, function_id: str) -> Route:
        version = self._functions.version
        try:
            endpoint = self._router.resolve(namespace, function_id).endpoint
            if not isinstance(endpoint, RemoteFunction):
                return Route(version)
            text, native = encode(function_id), route_of(None, function_id)
        except LinklyError:
            return Route(version)
        route = Route(version, function_id, endpoint.connection, text, native, endpoint.failed)
        if len(self._routes) >= _ROUTES_LIMIT:
            self._routes.clear()
        self._routes[key] = route
        return route
