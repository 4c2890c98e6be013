"""Bindings of `database::row-changed` with `capture: native`: a reader each, which tells its function.

A function is told of a change until it has answered, `TRIES` times at most; the next change waits for that. A binding
that is taken back is forgotten after a while, unless the same function is bound again: what restarts loses nothing.
When the worker stops, what it has read stays where it is for the next one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from linkly import Binding, Bus
from linkly.clock import TimerHandle
from linkly.errors import LinklyError
from linkly.firing import fire
from linkly_workers.database.backend import Capture, Op, RowChange
from linkly_workers.database.errors import DatabaseConfigError

log = logging.getLogger("linkly.database")

TRIES = 5
FIRST_WAIT_S = 1.0
FORGOTTEN_AFTER_S = 30.0

Payload = Callable[[RowChange], Any]
"""Makes what a function gets of a change."""


_Key = tuple[Capture, str, str]
"""What is captured, of which table, and the name of the reader."""


class _Reading(msgspec.Struct, eq=False):
    key: _Key
    task: asyncio.Task[None]


class Captures:
    """The readers of one worker, by the id of their binding."""

    def __init__(self) -> None:
        self._readings: dict[str, _Reading] = {}
        self._forgetting: dict[_Key, TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self, bus: Bus) -> AsyncIterator[None]:
        """Read inside of it."""
        self._bus = bus
        try:
            yield
        finally:
            for timer in self._forgetting.values():
                timer.cancel()
            tasks = [*self._tasks, *(each.task for each in self._readings.values())]
            self._readings.clear()
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    async def bind(
        self, capture: Capture, binding: Binding, table: str, ops: Sequence[Op] | None, payload: Payload
    ) -> None:
        """Tell a binding of the changes of a table; one with the same id is replaced.

        Bindings of all engines that have namespace, function and `ops` in common are one reader: one of them is told.

        Raises:
            DatabaseConfigError: The table cannot be captured.
        """
        await self.unbind(binding.id)
        reader = " ".join([binding.namespace, binding.function_id, *sorted(ops or ())])
        key = (capture, table, reader)
        if (timer := self._forgetting.pop(key, None)) is not None:
            timer.cancel()
        ready = asyncio.Event()

        async def take(change: RowChange) -> None:
            if ops is None or change.op in ops:
                await self._tell(binding, payload(change))

        reading = capture.read(table, reader, take, ready.set)
        task = asyncio.get_running_loop().create_task(reading, name=f"capture of {table}")
        self._readings[binding.id] = _Reading(key, task)
        waiting = asyncio.ensure_future(ready.wait())
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            self._readings.pop(binding.id, None)
            try:
                task.result()
            except LinklyError as error:
                raise DatabaseConfigError(f"`{table}` cannot be captured: {error.message}") from error
        task.add_done_callback(lambda ended: _ended(table, ended))

    async def unbind(self, binding_id: str) -> None:
        """Tell a binding no more."""
        reading = self._readings.pop(binding_id, None)
        if reading is None:
            return
        reading.task.cancel()
        await asyncio.wait([reading.task])
        self._forgetting[reading.key] = self._bus.clock.call_later(FORGOTTEN_AFTER_S, lambda: self._forget(reading.key))

    def _forget(self, key: _Key) -> None:
        self._forgetting.pop(key, None)
        if any(each.key == key for each in self._readings.values()):
            return  # another binding of the same function
        capture, table, reader = key
        task = asyncio.get_running_loop().create_task(capture.forget(table, reader))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, binding: Binding, payload: Any) -> None:
        wait_s = FIRST_WAIT_S
        for left in reversed(range(TRIES)):
            try:
                await fire(self._bus, binding, payload)
                return
            except LinklyError as error:
                what = f"told again in {wait_s:g} s" if left else "not told again"
                log.warning("`%s`, run by a change of %s, failed; %s: %s", binding.function_id, payload.db, what, error)
            if left:
                await self._bus.clock.sleep(wait_s)
                wait_s *= 2


def _ended(table: str, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the changes of `%s` are read no longer: %s", table, error)
