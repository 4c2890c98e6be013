"""The trigger type `database::row-changed` (workers-data.md 7.7).

Told of committed statements only, in commit order, each binding in its own queue: a slow function delays neither the
writer nor other bindings. What triggers and foreign keys do besides is not reported. While nobody listens nothing is
classified or kept.

An event is told once: a function that fails is logged and not run again. A binding that is registered again under its
id takes over what waits for it; one that is taken back gets nothing more. When the engine stops, or the worker is made
anew, what waits is delivered first (`drain`); kill -9 loses it, never the write itself.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from linkly import Bus
from linkly.errors import LinklyError, Overloaded
from linkly.trigger import Binding, TriggerType, fire
from linkly_workers.database.errors import DatabaseConfigError
from linkly_workers.database.target import Op

log = logging.getLogger("linkly.database")

WAITING_LIMIT = 100_000
STOP_GRACE_S = 5.0


class RowChangedTrigger(msgspec.Struct, forbid_unknown_fields=True):
    """Config of a `database::row-changed` trigger.

    Attributes:
        db: A configured database.
        table: Of this table only, compared without schema and case.
        ops: Of these operations only.
        except_origin: Not what was changed with this `origin`.
    """

    db: str
    table: str | None = None
    ops: list[Op] | None = None
    except_origin: str | None = None


class RowChanged(msgspec.Struct, omit_defaults=True):
    """A committed statement that changed rows; `at` is in milliseconds since the epoch."""

    db: str
    table: str | None
    op: Op
    affected_rows: int
    at: int
    returning: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    origin: str | None = None


class _Listener:
    """A binding and its queue; registered again under the same id the binding is replaced in here."""

    def __init__(self, binding: Binding) -> None:
        self.binding = binding
        self.queue: deque[RowChanged] = deque()
        self.task: asyncio.Task[None] | None = None


class RowChangedEvents:
    """Bindings, and their queues: at most `WAITING_LIMIT` events wait, then writes are refused.

    Args:
        knows: Tells whether a database is configured.

    Attributes:
        listeners: By binding id.
        waiting: Events that wait for their functions.
    """

    def __init__(self, knows: Callable[[str], bool]) -> None:
        self.bus: Bus | None = None
        self._knows = knows
        self.listeners: dict[str, _Listener] = {}
        self.waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def trigger_type(self) -> TriggerType:
        """Return the trigger type."""
        return TriggerType(
            "database::row-changed",
            "Rows of a database were inserted, updated or deleted through this worker.",
            bind=self._bind,
            unbind=self._unbind,
            config_type=RowChangedTrigger,
            payload_type=RowChanged,
        )

    def listening(self, db: str, texts: Sequence[str] = (), origin: str | None = None) -> bool:
        """Tell whether anybody may want to hear of what statements change.

        Args:
            db: In this database.
            texts: The statements: whoever listens for a table does not want one that does not name it. Without any,
                all that may be.
            origin: Who changes it, as he says.

        Raises:
            Overloaded: Somebody does, and too many events wait.
        """
        for each in self.listeners.values():
            if _may_want(each.binding.config, db, texts, origin):
                break
        else:
            return False
        if self.waiting >= WAITING_LIMIT:
            raise Overloaded(f"{self.waiting} row-changed events wait for their functions; nothing was written")
        return True

    def committed(self, event: RowChanged) -> None:
        """Note a committed change; its functions run later, in order."""
        for listener in self.listeners.values():
            if _wants(listener.binding.config, event):
                listener.queue.append(event)
                self.waiting += 1
                if listener.task is None:
                    self._start(listener)

    async def drain(self) -> None:
        """Wait until every event has been delivered."""
        await self._idle.wait()

    async def stop(self) -> None:
        """Deliver what waits, for at most `STOP_GRACE_S`; what is left then is dropped and logged."""
        if self._tasks and self.bus is not None:
            timer = self.bus.clock.call_later(STOP_GRACE_S, self._idle.set)
            await self._idle.wait()
            timer.cancel()
        undelivered = self.waiting + len(self._tasks)
        if undelivered:
            log.warning("%d row-changed events were not delivered: their functions took too long", undelivered)
        for listener in list(self.listeners.values()):
            await self._unbind(listener.binding)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _bind(self, binding: Binding) -> None:
        config: RowChangedTrigger = binding.config
        if not self._knows(config.db):
            raise DatabaseConfigError(f"trigger `database::row-changed`: there is no database `{config.db}`")
        listener = self.listeners.get(binding.id)
        if listener is None:
            self.listeners[binding.id] = _Listener(binding)
        else:
            listener.binding = binding

    async def _unbind(self, binding: Binding) -> None:
        listener = self.listeners.pop(binding.id, None)
        if listener is not None:
            self.waiting -= len(listener.queue)
            listener.queue.clear()

    # --- delivery --------------------------------------------------------------------------------------------

    def _start(self, listener: _Listener) -> None:
        self._idle.clear()
        # An empty context: the writer's deadline must not end what its write has set off.
        task = asyncio.get_running_loop().create_task(
            self._deliver(listener), name="row-changed", context=contextvars.Context()
        )
        listener.task = task
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._delivered(listener, task))

    async def _deliver(self, listener: _Listener) -> None:
        while listener.queue and self.bus is not None:
            event = listener.queue.popleft()
            self.waiting -= 1
            if not _wants(listener.binding.config, event):  # registered again meanwhile, for something else
                continue
            try:
                await fire(self.bus, listener.binding, event)
            except LinklyError as error:
                log.warning("`%s`, run by a change of %s, failed: %s", listener.binding.function_id, event.db, error)

    def _delivered(self, listener: _Listener, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        listener.task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("telling `%s` of a change failed", listener.binding.function_id, exc_info=error)
        if listener.queue:  # its function has ended the task it ran in; the events behind it are not lost by that
            self._start(listener)
        elif not self._tasks:
            self._idle.set()


def _may_want(config: RowChangedTrigger, db: str, texts: Sequence[str], origin: str | None) -> bool:
    if config.db != db or (origin is not None and config.except_origin == origin):
        return False
    table = _plain(config.table)
    return table is None or not texts or any(table in text.lower() for text in texts)


def _wants(config: RowChangedTrigger, event: RowChanged) -> bool:
    return (
        config.db == event.db
        and (event.origin is None or config.except_origin != event.origin)
        and (config.ops is None or event.op in config.ops)
        and (config.table is None or _plain(config.table) == _plain(event.table))
    )


def _plain(table: str | None) -> str | None:
    return None if table is None else table.rpartition(".")[2].strip('"`[]').lower()
