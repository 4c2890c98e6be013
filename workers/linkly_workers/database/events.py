"""The trigger type `database::row-changed` (workers-data.md 7.7).

Told of committed statements only, in commit order, each binding in its own queue: a slow function delays neither the
writer nor other bindings. What triggers and foreign keys do besides is not reported. While nobody listens nothing is
classified or kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from linkly import Bus
from linkly.errors import LinklyError, Overloaded
from linkly.trigger import Binding, TriggerType, fire
from linkly_workers.database.errors import DatabaseConfigError
from linkly_workers.database.target import Op

log = logging.getLogger("linkly.database")

WAITING_LIMIT = 100_000


class RowChangedTrigger(msgspec.Struct, forbid_unknown_fields=True):
    """Config of a `database::row-changed` trigger.

    Attributes:
        db: A configured database.
        table: Of this table only, compared without schema and case.
        ops: Of these operations only.
    """

    db: str
    table: str | None = None
    ops: list[Op] | None = None


class RowChanged(msgspec.Struct, omit_defaults=True):
    """A committed statement that changed rows; `at` is in milliseconds since the epoch."""

    db: str
    table: str | None
    op: Op
    affected_rows: int
    at: int
    returning: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET


class _Listener:
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

    def listening(self, db: str) -> bool:
        """Tell whether anybody wants to hear of this database.

        Raises:
            Overloaded: Somebody does, and too many events wait.
        """
        if not any(each.binding.config.db == db for each in self.listeners.values()):
            return False
        if self.waiting >= WAITING_LIMIT:
            raise Overloaded(f"{self.waiting} row-changed events wait for their functions; nothing was written")
        return True

    def committed(self, event: RowChanged) -> None:
        """Note a committed change; its functions run later, in order."""
        for listener in self.listeners.values():
            config: RowChangedTrigger = listener.binding.config
            if config.db != event.db or (config.ops is not None and event.op not in config.ops):
                continue
            if config.table is not None and _plain(config.table) != _plain(event.table):
                continue
            listener.queue.append(event)
            self.waiting += 1
            if listener.task is None:
                listener.task = asyncio.get_running_loop().create_task(self._deliver(listener), name="row-changed")

    async def stop(self) -> None:
        """Deliver nothing any more."""
        tasks = [each.task for each in self.listeners.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _bind(self, binding: Binding) -> None:
        config: RowChangedTrigger = binding.config
        if not self._knows(config.db):
            raise DatabaseConfigError(f"trigger `database::row-changed`: there is no database `{config.db}`")
        await self._unbind(binding)
        self.listeners[binding.id] = _Listener(binding)

    async def _unbind(self, binding: Binding) -> None:
        listener = self.listeners.pop(binding.id, None)
        if listener is not None:
            self.waiting -= len(listener.queue)
            listener.queue.clear()

    async def _deliver(self, listener: _Listener) -> None:
        while listener.queue and self.bus is not None:
            event = listener.queue.popleft()
            self.waiting -= 1
            try:
                await fire(self.bus, listener.binding, event)
            except LinklyError as error:
                log.warning("`%s`, run by a change of %s, failed: %s", listener.binding.function_id, event.db, error)
        listener.task = None


def _plain(table: str | None) -> str | None:
    return None if table is None else table.rpartition(".")[2].strip('"`[]').lower()
