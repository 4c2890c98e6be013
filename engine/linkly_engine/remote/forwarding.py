"""Calls from one connection to another that carry nothing but a payload: they go on, and their answers come back.

Between two native connections a frame gets another head and goes on as it is, unread: the engine takes 3.4 us a call.
Over JSON the payload is spliced into a frame that is ready but for it: 6.7 us (docs/performance.md). No task, future or
message is made.

Only what is usual is dealt with here. Whatever needs a decision (a limit is reached, a trace travels along, the
function is served in process, an error has to be logged) goes the way of all other frames; both ways keep the same
books, `Session.calls` and `Session.serving`.

This module must never know what is in a payload.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

import msgspec

from linkly.errors import LinklyError
from linkly.invocation import HOP_LIMIT, Invocation, Json
from linkly.outcome import ABSENT, is_absent, read_error
from linkly.wire.connection import CALLS_LIMIT, Connection, Served
from linkly.wire.json_frames import call_head, call_text, read_json, result_middle, result_text
from linkly.wire.messages import CallId, FrameError, InvocationResult, InvokeFunction
from linkly.wire.native_frames import (
    ANSWER,
    CALL,
    CALL_BYTES,
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

# A call in two parts: what differs from call to call, then what all calls of one function begin with (`Route.comes`).
_ID_AT, _ROUTE_AT = 5, 17
_read_call, _pack_call = Struct(">QI").unpack_from, Struct(">IBQI").pack
_read_sizes, _pack_sizes = Struct(">BBHI").unpack_from, Struct(">BBHI").pack
_read_id = Struct(">Q").unpack_from
_pack_answer, _ANSWER_BYTES = ANSWER.pack, ANSWER.size


class Route(msgspec.Struct):
    """Where calls of one function go, as long as the tables do not change.

    Attributes:
        origin: The connection whose calls these are.
        caller: Its worker.
        target: The connection that serves them; `None`: they are not forwarded here.
        call_head: How their JSON frames begin when they go on.
        result_middle: What the JSON frames of their results have between the id and the result.
        native: The function's id as it travels natively.
        failed: Told when its handler failed.
        comes: What their native frames have between the time left and the payload.
        goes: What they have there when they go on.
    """

    origin: Connection
    caller: WorkerRecord
    function_id: str = ""
    target: Connection | None = None
    call_head: bytes = b""
    result_middle: bytes = b""
    native: bytes = b""
    failed: Callable[[Invocation, LinklyError], None] | None = None
    comes: bytes = b""
    goes: bytes = b""


class Forwarded(msgspec.Struct, eq=False, gc=False):
    """One call on its way between two connections: what both keep of it."""

    call_id: CallId
    function_id: str
    target_id: CallId
    target: Connection
    route: Route

    def cancel(self) -> None:
        """Its caller no longer waits (`Serving`)."""
        self.target.abandon_call(self.target_id)

    def __call__(self, result: Json, error: Json) -> None:
        """Take the outcome (`Done`)."""
        route = self.route
        origin = route.origin
        frame = self.answered(result) if is_absent(error) else None
        if frame is not None:
            origin.write(frame)
            return
        if not is_absent(error) and route.failed is not None:
            caller = route.caller
            invocation = Invocation(function_id=self.function_id, caller=caller.caller, origin=caller.id)
            route.failed(invocation, read_error(error))
        origin.answer_call(Served(origin, self.call_id, self.function_id), result, error)

    def answered(self, result: Json) -> bytes | None:
        """Finish it where it came from, over JSON, and return the frame of its result; `None`: there is more to do."""
        origin, call_id = self.route.origin, self.call_id
        if result is ABSENT or type(call_id) is not str or origin.closed:
            return None
        frame = result_text(call_id, self.route.result_middle, result)
        if len(frame) > origin.peer_limit_bytes:
            return None
        origin.finish(call_id)
        return frame


class Forwarding:
    """Takes the frames of one connection (a `FramesReceiver`)."""

    __slots__ = (
        "_caller",
        "_connection",
        "_functions",
        "_nowhere",
        "_record",
        "_router",
        "_routes",
        "_version",
        "_worker_id",
    )

    def __init__(self, connection: Connection, record: WorkerRecord, exchange: Exchange) -> None:
        self._connection = connection
        self._record = record
        self._worker_id = record.id.encode()
        self._caller = b",%b}" % (CALLER_MEMBER % self._worker_id)
        self._router = exchange.router
        self._functions = exchange.tables.functions
        self._routes: dict[Any, Route] = {}
        self._version = -1  # of the tables, when these routes were found
        self._nowhere = Route(connection, record)

    def stream_closed(self, reason: str) -> None:
        """The stream has ended."""
        self._connection.stream_closed(reason)

    def frame_received(self, data: bytes, *, text: bool) -> None:
        """Take one frame: forward it, or leave it to the connection."""
        connection = self._connection
        if connection.native is text:
            connection.frame_received(data, text=text)
        elif text:
            self.texts_received([data])
        else:
            self.frames_received([data])

    # --- native to native ----------------------------------------------------------------------------------

    def frames_received(self, frames: list[bytes]) -> None:
        """Take native frames: forward them, or leave them to the connection.

        Calls to one connection that stand together, and answers to one, are dealt with together: 1.5 us of Python a
        call with its answer when 16 come at a time, in place of 2.4.
        """
        connection = self._connection
        while frames:
            data = frames[0]
            kind = data[LENGTH_BYTES] if len(data) > LENGTH_BYTES else None
            if kind == CALL:
                went = self._forward_calls(frames)
            elif kind == RESULT:
                went = self._forward_results(frames)
            else:
                went = 0
            if went:
                connection.statistics.frames_received += went
            else:
                connection.frame_received(data, text=False)
                went = 1
            if went == len(frames):
                return
            frames = frames[went:]

    def _forward_calls(self, frames: list[bytes]) -> int:
        """Forward calls to one connection; return with how many of these frames that could be done, from the first on.

        What holds for many of them is asked once: nothing that is done here changes it.
        """
        route = self._find_native(frames[0])
        target = route.target
        if target is None or not target.native:
            return 0
        serving, pending = self._connection.serving, self._connection.pending
        calls, number, limit_bytes = target.calls, target.calls_begun, target.peer_limit_bytes
        comes, goes, function_id = route.comes, route.goes, route.function_id
        room = self._room(function_id, target)
        onward: list[bytes] = []
        for data in frames:
            if not data.startswith(comes, _ROUTE_AT):
                route = self._find_native(data)
                if route.target is not target:
                    break
                comes, goes, function_id = route.comes, route.goes, route.function_id
                room = self._room(function_id, target)
            call_id, left_ms = _read_call(data, _ID_AT)
            size = len(data) - len(comes) + len(goes)
            if (
                room <= 0
                or data[LENGTH_BYTES] != CALL
                or not call_id
                or call_id in serving
                or not left_ms
                or size > limit_bytes
            ):
                break
            room -= 1
            number += 1
            calls[number] = serving[call_id] = Forwarded(call_id, function_id, number, target, route)
            pending[function_id] = pending.get(function_id, 0) + 1
            head = _pack_call(size - LENGTH_BYTES, CALL, number, left_ms)
            onward.append(b"".join((head, goes, data[_ROUTE_AT + len(comes) :])))
        went = len(onward)
        if went:
            target.calls_begun = number
            target.write_many(onward)
        return went

    def _forward_results(self, frames: list[bytes]) -> int:
        """Forward results to one caller; return with how many of these frames that could be done, from the first on."""
        calls = self._connection.calls
        origin: Connection | None = None
        onward: list[bytes] = []
        for data in frames:
            size = len(data)
            if size < _ANSWER_BYTES or data[LENGTH_BYTES] != RESULT:
                break
            (number,) = _read_id(data, _ID_AT)
            call = calls.get(number)
            if not isinstance(call, Forwarded):
                break
            if origin is None:
                if not call.route.origin.native:
                    break
                origin = call.route.origin
            elif call.route.origin is not origin:
                break
            del calls[number]
            call_id = call.call_id
            origin.finish(call_id)
            onward.append(_pack_answer(size - LENGTH_BYTES, RESULT, call_id) + data[_ANSWER_BYTES:])
        went = len(onward)
        if origin is not None:
            origin.write_many(onward)
        return went

    def _find_native(self, data: bytes) -> Route:
        if len(data) < CALL_BYTES:
            return self._nowhere
        hops, caller_bytes, route_bytes, extras_bytes = _read_sizes(data, _ROUTE_AT)
        name_at = CALL_BYTES + caller_bytes
        end = name_at + route_bytes
        # Workers say no caller; one that named thousands would have as many routes kept.
        if extras_bytes or caller_bytes or hops > HOP_LIMIT or end > len(data):
            return self._nowhere
        comes = data[_ROUTE_AT:end]
        if self._version != self._functions.version:
            self._forget_routes()
        route = self._routes.get(comes)
        if route is None:
            name = data[name_at:end]
            try:
                namespace, function_id = read_route(name)
            except ValueError:
                return self._nowhere
            route = self._find(comes, namespace, function_id)
            route.comes = comes
            route.goes = _pack_sizes(hops, len(self._worker_id), route_bytes, 0) + self._worker_id + name
        return route

    # --- from JSON -----------------------------------------------------------------------------------------

    def texts_received(self, frames: list[bytes]) -> None:
        """Take JSON frames: forward them, or leave them to the connection.

        Those that stand together and go on to one connection leave together: 3.9 us of Python a call with its answer
        when 16 come at a time, in place of 5.1.
        """
        connection = self._connection
        forwarded = 0
        to = connection
        onward: list[bytes] = []  # frames for one connection, which leave together
        for data in frames:
            try:
                message = read_json(data)
            except FrameError:
                message = None  # the connection says so
            went: tuple[Connection, bytes] | None = None
            if type(message) is InvokeFunction:
                went = self._call(message)
            elif type(message) is InvocationResult and message.error is ABSENT:
                went = self._result(message)
            if went is None:
                if onward:
                    to.write_many(onward)
                    onward = []
                if message is None or connection.closed:
                    connection.frame_received(data, text=True)
                else:
                    connection.message_received(message)
                continue
            forwarded += 1
            target, frame = went
            if target is not to:
                if onward:
                    to.write_many(onward)
                    onward = []
                to = target
            onward.append(frame)
        if onward:
            to.write_many(onward)
        connection.statistics.frames_received += forwarded

    def _call(self, call: InvokeFunction) -> tuple[Connection, bytes] | None:
        """Return whereto a call of a JSON client goes on, and its frame; `None` if it carries more than a payload."""
        call_id = call.invocation_id
        if (
            type(call_id) is not str
            or call.data is ABSENT
            or call.action is not None
            or call.traceparent is not None
            or call.baggage is not None
            or call.metadata is not ABSENT
            or call_id in self._connection.serving
        ):
            return None
        key = (call.namespace, call.function_id)
        if self._version != self._functions.version:
            self._forget_routes()
        route = self._routes.get(key)
        if route is None:
            route = self._find(key, call.namespace, call.function_id)
        target, function_id = route.target, route.function_id
        if target is None or self._room(function_id, target) <= 0:
            return None
        target_id = target.next_call_id()
        payload = bytes(call.data)
        if isinstance(target_id, int):
            frame = call_frame(target_id, NO_LIMIT, 0, self._worker_id, route.native, b"", payload)
        else:
            if payload.startswith(b'{"'):  # what `with_caller` does, for most calls
                frame = call_text(route.call_head, target_id, payload[:-1], self._caller)
            else:
                frame = call_text(route.call_head, target_id, bytes(with_caller(call.data, self._record.id)))
        if len(frame) > target.peer_limit_bytes:
            return None
        connection = self._connection
        target.calls[target_id] = connection.serving[call_id] = Forwarded(
            call_id, function_id, target_id, target, route
        )
        connection.pending[function_id] = connection.pending.get(function_id, 0) + 1
        return target, frame

    def _result(self, result: InvocationResult) -> tuple[Connection, bytes] | None:
        """Return whereto the result of a forwarded call goes on, and its frame; `None` if there is more to do."""
        calls = self._connection.calls
        call = calls.get(result.invocation_id)
        if not isinstance(call, Forwarded):
            return None
        frame = call.answered(result.result)
        if frame is None:
            return None
        del calls[call.target_id]
        return call.route.origin, frame

    # --- both ----------------------------------------------------------------------------------------------

    def _room(self, function_id: str, target: Connection) -> int:
        """Return how many calls of a function may go on to a connection now."""
        connection = self._connection
        if connection.cancelled_ahead or connection.closed or target.closed or target.stream.blocked:
            return 0
        return min(CALLS_LIMIT - len(target.calls), PENDING_LIMIT - connection.pending.get(function_id, 0))

    def _forget_routes(self) -> None:
        """Forget them all, with the connections that have gone since they were found."""
        self._routes.clear()
        self._version = self._functions.version

    def _find(self, key: object, namespace: str | None, function_id: str) -> Route:
        route = Route(self._connection, self._record)
        try:
            endpoint = self._router.resolve(namespace, function_id).endpoint
            if not isinstance(endpoint, RemoteFunction):
                return route
            route.native = route_of(None, function_id)
            route.call_head, route.result_middle = call_head(function_id), result_middle(function_id)
        except LinklyError:
            return route
        route.function_id, route.target, route.failed = function_id, endpoint.connection, endpoint.failed
        if len(self._routes) >= _ROUTES_LIMIT:
            self._routes.clear()
        self._routes[key] = route
        return route
