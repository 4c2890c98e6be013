"""Runs coroutines in tasks that are used again: each has a task to itself while it runs, and few tasks are made.

A `Run` that is started stands in line. In the next turn of the loop one task takes the line in order and goes on as
long as nothing suspends; what is left behind a run that does is taken by further tasks in the turn after. So a
coroutine that never suspends costs a place in a queue, and one that does finds what any task has:
`asyncio.current_task()`, `asyncio.timeout`, anyio's scopes and groups, cancellation.

Nothing passes from one run to the next: a task goes on only if its context has the same values, not equal ones, as that
in which the next run was started, and if nobody has kept the task, waits for its end, or has cancelled it, and if the
run has not raised. Otherwise it ends.

This module must never know what runs. It offers `Run` and `line_of`.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Coroutine
from contextvars import Context, copy_context
from typing import Any, Protocol

IDLE_LIMIT = 64
"""How many tasks of one loop wait for work at most; each takes 1.5 KB."""


class Line(Protocol):
    """Where the runs of one loop stand that have not begun."""

    def append(self, run: Run, /) -> None:
        """Let a run begin in the next turn of the loop."""
        ...


class Run:
    """A coroutine that runs from the next turn of the loop on, in a copy of the current context.

    Args:
        coroutine: What runs.
        line: Of the running loop (`line_of`), for who has it: asking for the running loop takes 0.14 us.

    Attributes:
        context: As it was when this was made.
        coroutine: `None` when it has ended.
        task: The task that runs it; `None` before and afterwards, when the task may run another.
    """

    __slots__ = ("context", "coroutine", "task")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], line: Line | None = None) -> None:
        self.context = copy_context()
        self.coroutine: Coroutine[Any, Any, Any] | None = coroutine
        self.task: asyncio.Task[None] | None = None
        if line is None:
            line = line_of(asyncio.get_running_loop())
        line.append(self)

    def cancel(self) -> None:
        """Cancel it; harmless when it has ended."""
        if self.task is not None:
            self.task.cancel()
        elif self.coroutine is not None:
            self.coroutine.close()
            self.coroutine = None

    def returned(self, value: Any) -> None:
        """Take what the coroutine has returned; its task still runs."""

    def failed(self, error: BaseException) -> bool:
        """Take what the coroutine has raised; return whether that is all, otherwise it goes to the loop."""
        return False


class _Line:
    """The runs of one loop that have not begun, and the tasks that take them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._runs: deque[Run] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._looks = False

    def append(self, run: Run) -> None:
        self._runs.append(run)
        if not self._looks:
            self._wake(run)
            self._looks = True
            self._loop.call_soon(self._look)  # behind the step of the task

    def _look(self) -> None:
        """Let a task go on with each run that is left."""
        self._looks = bool(self._runs)
        if self._looks:
            for run in self._runs:
                self._wake(run)
            self._loop.call_soon(self._look)

    def _wake(self, run: Run) -> None:
        while self._idle:
            wake = self._idle.pop()
            if not wake.done():  # otherwise its task has been cancelled
                wake.set_result(None)
                return
        self._begin(run)

    def _begin(self, run: Run) -> None:
        # Not by the task factory of the loop: an eager one (`asyncio.eager_task_factory`) would run it now.
        asyncio.Task(self._work(run.context), loop=self._loop, context=run.context)

    async def _work(self, context: Context) -> None:
        """Take runs, in a task whose context is `context`."""
        runs, idle = self._runs, self._idle
        task: asyncio.Task[None] = asyncio.current_task()  # type: ignore[assignment]
        marks: Any = task  # asyncio's own tasks have these two, written in C and in Python
        getrefcount, cancelling = sys.getrefcount, task.cancelling
        references = getrefcount(task)
        run: Run | None
        value: Any
        while True:
            for _ in range(len(runs)):  # not those that come meanwhile: others want their turn
                if not runs:
                    break
                run = runs[0]
                if (context or run.context) and not _same(run.context, context):
                    self._begin(run)
                    return
                del runs[0]
                if run.coroutine is None:
                    continue
                run.task = task
                try:
                    value = await run.coroutine
                except BaseException as error:
                    if not run.failed(error):
                        raise
                    return  # raised while this was being closed, it must not go on
                else:
                    run.returned(value)
                finally:
                    run.coroutine = run.task = None
                # Kept, cancelled, its end waited for, or cancelled and taken back in one step.
                if getrefcount(task) > references or cancelling() or marks._callbacks or marks._must_cancel:
                    return
            if len(idle) >= IDLE_LIMIT:
                return
            wake = self._loop.create_future()
            idle.append(wake)
            run = value = None  # an idle task keeps nothing of the last
            await wake


def _same(one: Context, other: Context) -> bool:
    """Return whether both have the same objects as values: an equal one, `{}`, may be filled later.

    Takes 0.2 us for one variable, `==` 0.06.
    """
    if len(one) != len(other):
        return False
    for variable, value in one.items():  # noqa: SIM110 - `all` takes twice as long
        if other.get(variable, _UNSET) is not value:
            return False
    return True


_UNSET = object()
_lines: dict[asyncio.AbstractEventLoop, _Line] = {}


def line_of(loop: asyncio.AbstractEventLoop) -> Line:
    """Return the line of a loop."""
    line = _lines.get(loop)
    if line is None:
        for known in [known for known in _lines if known.is_closed()]:
            del _lines[known]
        line = _lines[loop] = _Line(loop)
    return line
