"""The two ways to serve a call, each made from the other.

An async callable that is started runs in a task from its first step on: handlers may rely on one (`asyncio.timeout`,
task groups), and before Python 3.12 none can be entered in the current turn of the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from linkly.errors import HandlerFailed, LinklyError
from linkly.invocation import Done, Invocation, Json
from linkly.outcome import ABSENT, error_body, is_absent, read_error
from linkly.runner import Run
from linkly.schema import as_json

AsyncCall: TypeAlias = Callable[[Invocation], Awaitable[Any]]


class AsyncEndpoint:
    """An async callable as an `Endpoint`."""

    __slots__ = ("_call",)

    def __init__(self, call: AsyncCall) -> None:
        self._call = call

    def __call__(self, invocation: Invocation) -> Awaitable[Any]:  # noqa: D102
        return self._call(invocation)

    def start(self, invocation: Invocation, done: Done) -> Callable[[], object]:  # noqa: D102
        return start_in_task(self._call, invocation, done)


def start_in_task(call: AsyncCall, invocation: Invocation, done: Done) -> Callable[[], object]:
    """Serve a call in a task and tell `done` how it ended; return what cancels it (`Endpoint.start`)."""
    return _Served(call, invocation, done).abandon


class _Served(Run):
    """One call."""

    __slots__ = ("_abandoned",)

    def __init__(self, call: AsyncCall, invocation: Invocation, done: Done) -> None:
        self._abandoned = False
        super().__init__(self._serve(call, invocation, done))

    def abandon(self) -> None:
        self._abandoned = True
        self.cancel()

    async def _serve(self, call: AsyncCall, invocation: Invocation, done: Done) -> None:
        result = error = ABSENT
        try:
            value = await call(invocation)
            if value is not None:  # to iii's clients `null` is a value, not `undefined` (docs/protocol.md 3.2)
                result = as_json(value)
        except LinklyError as failure:
            error = error_body(failure)
        except Exception as failure:
            error = error_body(HandlerFailed.wrap(failure))
        except asyncio.CancelledError:
            if self._abandoned:
                raise
            told = f"`{invocation.function_id}` ended by a cancellation that its caller did not ask for"
            error = error_body(HandlerFailed(told))
        except GeneratorExit:  # nobody runs this any more: the loop is gone
            raise
        except BaseException as failure:  # `SystemExit` and others like it are the loop's; the call ends all the same
            if not self._abandoned:
                done(ABSENT, error_body(HandlerFailed.wrap(failure)))
            raise
        if not self._abandoned:
            done(result, error)


async def ended(start: Callable[[Done], Callable[[], object]]) -> Any:
    """Wait for a call that `start` starts, and return its result; it is abandoned when this is cancelled.

    Raises:
        LinklyError: How the call failed, or why it was not made.
    """
    answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()

    def done(result: Json, error: Json) -> None:
        if answer.done():
            return
        if is_absent(error):
            answer.set_result(result)
        else:
            answer.set_exception(read_error(error))

    abandon = start(done)
    try:
        result = await answer
    except asyncio.CancelledError:
        abandon()
        raise
    return None if is_absent(result) else result
