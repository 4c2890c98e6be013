"""The two ways to serve a call, each made from the other.

An async callable that is started runs in a task from its first step on: handlers may rely on one (`asyncio.timeout`,
task groups), and before Python 3.12 none can be entered in the current turn of the loop.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from linkly.errors import HandlerFailed, LinklyError
from linkly.invocation import Done, Invocation, Json
from linkly.outcome import ABSENT, error_body, is_absent, read_error
from linkly.runner import Line, Run
from linkly.schema import as_json

AsyncCall: TypeAlias = Callable[[Invocation], Awaitable[Any]]
"""What it returns is a coroutine; type checkers are told less by `types.coroutine`."""


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
    return _Served(call, invocation, done).cancel


class ServedInTask(Run, ABC):
    """A call that a task serves; whoever makes it says in `ended` what becomes of its outcome.

    Attributes:
        function_id: What is called.
        abandoned: Nobody waits any more: `ended` is not told.
    """

    __slots__ = ("abandoned", "function_id")

    def __init__(self, call: AsyncCall, invocation: Invocation, line: Line | None = None) -> None:
        self.abandoned = False
        self.function_id = invocation.function_id
        coroutine: Any = call(invocation)
        Run.__init__(self, coroutine, line)  # `super()` takes as long as all this

    @abstractmethod
    def ended(self, result: Json, error: Json) -> None:
        """Take the outcome (`Done`)."""

    def over(self) -> None:
        """Learn that the handler of an abandoned call has ended."""

    def cancel(self) -> None:
        """Abandon it."""
        waits = self.task is None and self.coroutine is not None
        self.abandoned = True
        Run.cancel(self)
        if waits:
            self.over()

    def returned(self, value: Any) -> None:
        """Encode what the call has returned."""
        if self.abandoned:
            self.over()
            return
        result = error = ABSENT
        if value is not None:  # to iii's clients `null` is a value, not `undefined` (docs/protocol.md 3.2)
            try:
                result = as_json(value)
            except LinklyError as failure:
                error = error_body(failure)
        self.ended(result, error)

    def failed(self, error: BaseException) -> bool:
        """Make an answer of what the call has raised."""
        if isinstance(error, GeneratorExit):  # nobody runs this any more: the loop is gone
            return False
        if self.abandoned:
            self.over()
            return isinstance(error, Exception)
        if isinstance(error, asyncio.CancelledError):
            told = f"`{self.function_id}` ended by a cancellation that its caller did not ask for"
            self.ended(ABSENT, error_body(HandlerFailed(told)))
            return True
        self.ended(ABSENT, error_body(error if isinstance(error, LinklyError) else HandlerFailed.wrap(error)))
        return isinstance(error, Exception)  # `SystemExit` and others like it are the loop's; the call has ended


class _Served(ServedInTask):
    """One call of `start_in_task`."""

    __slots__ = ("_done",)

    def __init__(self, call: AsyncCall, invocation: Invocation, done: Done) -> None:
        self._done = done
        ServedInTask.__init__(self, call, invocation)

    def ended(self, result: Json, error: Json) -> None:
        self._done(result, error)


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
