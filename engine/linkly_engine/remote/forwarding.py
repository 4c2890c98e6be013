"""Calls from one native connection to another: their frames get another head and go on as they are.

Neither payload nor names are read, and no task, future or message is made: engine 20 -> 5 us a call. Only what is usual
is dealt with here. Whatever needs a decision (a limit is reached, a trace travels along, the function is served in
process or over JSON, an error has to be logged) goes to the connection as any other frame; both keep the same books,
`Session.calls` and `Session.serving`.

This module must never know what is in a payload.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import error as StructError

import msgspec

from linkly.errors import LinklyError
from linkly.invocation import HOP_LIMIT, Invocation, Json
from linkly.outcome import is_absent, read_error
from linkly.wire import connection as wire
from linkly.wire.connection import Connection, Served
from linkly.wire.native_frames import (
    ANSWER,
    CALL,
    CALL_BYTES,
    CALL_HEAD,
    LENGTH_BYTES,
    RESULT,
    read_route,
)
from linkly_engine.core.exchange import Exchange
from linkly_engine.core.records import WorkerRecord
from linkly_engine.remote.calls import PENDING_LIMIT
from linkly_engine.remote.function import RemoteFunction

_ROUTES_LIMIT = 4096
"""How many routes of one connection are remembered."""


class Route(msgspec.Struct, gc=False):
    """Where calls of one function go, as long as the tables are at this version.

    Attributes:
        target: The native connection that serves it; `None`: calls of it are not forwarded here.
        failed: Told when its handler failed.
    """

    version: int
    function_id: str
    target: Connection | None
    failed: Callable[[Invocation, LinklyError], None] | None = None


class Forwarded(msgspec.Struct, eq=False, gc=False):
    """One call on its way between two connections: what both keep of it."""

    origin: Connection
    call_id: int
    route: Route
    target: Connection
    target_id: int
    caller: WorkerRecord

    @property
    def function_id(self) -> str:
        """What is called."""
        return self.route.function_id

    def cancel(self) -> None:
        """Its caller no longer waits (`Serving`)."""
        self.target.abandon_call(self.target_id)

    def __call__(self, result: Json, error: Json) -> None:
        """Take an outcome that needs a decision (`Done`)."""
        if not is_absent(error) and self.route.failed is not None:
            invocation = Invocation(function_id=self.function_id, caller=self.caller.caller, origin=self.caller.id)
            self.route.failed(invocation, read_error(error))
        self.origin.answer_call(Served(self.origin, self.call_id, self.function_id), result, error)


class Forwarding:
    """Takes the frames of one native connection: a `FramesReceiver`."""

    def __init__(self, connection: Connection, record: WorkerRecord, exchange: Exchange) -> None:
        self._connection = connection
        self._record = record
        self._worker_id = record.id.encode()
        self._router = exchange.router
        self._routes: dict[bytes, Route] = {}

    def frame_received(self, data: bytes, *, text: bool) -> None:
        """Take one frame."""
        if text:
            self._connection.frame_received(data, text=True)
        else:
            self.frames_received([data])

    def stream_closed(self, reason: str) -> None:
        """The stream has ended."""
        self._connection.stream_closed(reason)

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
                    number = ANSWER.unpack_from(data)[2]
                    call = calls.get(number)
                    if isinstance(call, Forwarded):
                        del calls[number]
                        connection.statistics.frames_received += 1
                        origin = call.origin
                        origin.finish(call.call_id)
                        if origin.draining is not None:
                            origin.draining.set()
                        answer = ANSWER.pack(len(data) - LENGTH_BYTES, RESULT, call.call_id)
                        origin.write(answer + data[ANSWER.size :])
                        continue
            except (IndexError, StructError):
                pass  # a frame that is cut off: the connection says so
            connection.frame_received(data, text=False)

    def _forward(self, data: bytes) -> bool:
        """Forward a call; return whether it was one that may go on as it is."""
        connection = self._connection
        _, _, call_id, left_ms, hops, caller_bytes, route_bytes, extras_bytes = CALL_HEAD.unpack_from(data)
        route_at = CALL_BYTES + caller_bytes
        if extras_bytes or not call_id or not left_ms or hops > HOP_LIMIT or route_at + route_bytes > len(data):
            return False
        key = data[route_at : route_at + route_bytes]
        route = self._routes.get(key)
        if route is None or route.version != self._router.version:
            route = self._route(key)
        target, serving, function_id = route.target, connection.serving, route.function_id
        if target is None or call_id in serving or connection.cancelled_ahead or connection.closed or target.closed:
            return False
        size = CALL_BYTES + len(self._worker_id) + len(data) - route_at
        pending = connection.pending.get(function_id, 0)
        if (
            pending >= PENDING_LIMIT
            or target.stream.blocked
            or len(target.calls) >= wire.CALLS_LIMIT
            or size > target.peer_limit_bytes
        ):
            return False
        connection.statistics.frames_received += 1
        number = target.calls_begun = target.calls_begun + 1
        serving[call_id] = target.calls[number] = Forwarded(connection, call_id, route, target, number, self._record)
        connection.pending[function_id] = pending + 1
        head = CALL_HEAD.pack(size - LENGTH_BYTES, CALL, number, left_ms, hops, len(self._worker_id), route_bytes, 0)
        target.write(b"".join((head, self._worker_id, data[route_at:])))
        return True

    def _route(self, key: bytes) -> Route:
        version = self._router.version
        route = Route(version, "", None)
        try:
            namespace, function_id = read_route(key)
            endpoint = self._router.resolve(namespace, function_id).endpoint
        except (ValueError, LinklyError):
            return route
        if isinstance(endpoint, RemoteFunction) and endpoint.connection.native:
            route = Route(version, function_id, endpoint.connection, endpoint.failed)
            if len(self._routes) >= _ROUTES_LIMIT:
                self._routes.clear()
            self._routes[key] = route
        return route
