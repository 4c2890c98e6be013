"""The endpoint of a function that a remote worker serves, or cannot serve."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from linkly.endpoint import AsyncEndpoint, ended
from linkly.errors import FunctionNotInvokable, HandlerFailed, LinklyError
from linkly.invocation import Done, Endpoint, Invocation, Json
from linkly.outcome import ABSENT, is_absent, read_error
from linkly.wire.connection import Connection
from linkly.wire.messages import CallId
from linkly_engine.remote.nesting import Nesting

CALLER_MEMBER = b'"_caller_worker_id":"%b"'
"""What the engine adds to the payload of a call over JSON (docs/protocol.md 3.1)."""


class RemoteFunction:
    """Endpoint of a function that a remote worker serves.

    Args:
        nesting: The calls it serves, if its wire cannot say what its own calls are nested in.
        failed: Told when the handler failed, before the caller is.
    """

    __slots__ = ("_nesting", "connection", "failed")

    def __init__(
        self,
        connection: Connection,
        nesting: Nesting | None,
        failed: Callable[[Invocation, LinklyError], None],
    ) -> None:
        self.connection = connection
        self._nesting = nesting
        self.failed = failed

    async def __call__(self, invocation: Invocation) -> Any:
        """Call it and wait."""
        try:
            if invocation.grace_s > 0 and self.connection.native:
                return await self._to_its_end(invocation)
            return await ended(partial(self._start, invocation))
        except HandlerFailed as error:
            self.failed(invocation, error)
            raise

    async def _to_its_end(self, invocation: Invocation) -> Any:
        """Call it and wait; when this is cancelled, also for the end of the handler, for `grace_s` at most."""
        connection = self.connection
        call_id: CallId = 0

        def start(done: Done) -> Callable[[], object]:
            nonlocal call_id
            call_id = connection.start_call(invocation, done)
            return _nothing  # it is abandoned below

        try:
            return await ended(start)
        except asyncio.CancelledError:
            await connection.abandon_and_wait(call_id, invocation.grace_s)
            raise

    def start(self, invocation: Invocation, done: Done) -> Callable[[], object]:
        """Forward the call of a remote worker, without a task or a future (`Endpoint.start`).

        Raises:
            LinklyError: It was not called (`Connection.start_call`).
        """
        if not self.connection.native and invocation.caller is not None:
            payload = invocation.payload
            invocation.payload = ABSENT if payload is None else with_caller(payload, invocation.caller.worker_id)
        return self._start(invocation, partial(self._ended, invocation, done))

    def _ended(self, invocation: Invocation, done: Done, result: Json, error: Json) -> None:
        if not is_absent(error):
            self.failed(invocation, read_error(error))
        done(result, error)

    def _start(self, invocation: Invocation, done: Done) -> Callable[[], object]:
        nesting, connection = self._nesting, self.connection
        token = nesting.begin(invocation) if nesting is not None else None
        if nesting is None or token is None:
            return partial(connection.abandon_call, connection.start_call(invocation, done))

        def answered(result: Json, error: Json) -> None:
            nesting.end(token)
            done(result, error)

        def abandon() -> None:
            nesting.give_up(token)
            connection.abandon_call(call_id)

        try:
            call_id = connection.start_call(invocation, answered)
        except BaseException:
            nesting.end(token)
            raise
        return abandon


def _nothing() -> None:
    pass


def refusing(reason: str) -> Endpoint:
    """Return the endpoint of a function that cannot be called; `reason` is what callers are told."""

    async def refuse(invocation: Invocation) -> Any:
        raise FunctionNotInvokable(reason)

    return AsyncEndpoint(refuse)


def why_not_callable(function_id: str, worker_name: str) -> str:
    """Say why a function is refused that its worker wants called at a URL (docs/protocol.md 6), and the way out."""
    return (
        f"`{function_id}` of worker `{worker_name}` is to be called at a URL (its registration has `invocation`), "
        "which linkly does not do yet; register a handler that calls the URL instead"
    )


def with_caller(payload: Json, worker_id: str) -> Json:
    """Return an object payload with `_caller_worker_id` set; whatever the caller put there is overwritten.

    It is spliced in at the end, where the last of equal keys wins for every JSON reader. Other payloads are
    returned as they are.
    """
    data = bytes(payload).strip()
    if data[:1] != b"{":
        return payload
    body = data[:-1]
    # Most bodies show with their second byte that they are not empty; a large one is not copied to see it.
    separator = b"" if body[1:2] in b" \t\r\n" and not body[1:].strip() else b","
    return Json(b"%b%b%b}" % (body, separator, CALLER_MEMBER % worker_id.encode()))
