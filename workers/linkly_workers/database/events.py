"""The trigger type `database::row-changed`.

Committed statements only are told, in commit order, to each binding in its own queue: the writer does not wait
(`linkly.delivery`). What SQL triggers and foreign keys change besides is not told. While there is no binding, nothing
is classified or kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from linkly import Binding, TriggerType
from linkly.clock import Clock
from linkly.delivery import Delivery
from linkly_workers.database.backend import Capture, Committed, Op, Result, RowChange, Statement
from linkly_workers.database.backends import OneDatabase
from linkly_workers.database.captures import Captures
from linkly_workers.database.errors import DatabaseConfigError
from linkly_workers.database.values import as_payload

log = logging.getLogger("linkly.database")


class RowChangedTrigger(msgspec.Struct, forbid_unknown_fields=True):
    """Config of a `database::row-changed` trigger.

    Attributes:
        db: A configured database.
        table: Of this table only, compared without schema and case.
        ops: Of these operations only.
        except_origin: Not what was changed with this `origin`.
        capture: `statements`: what goes through this worker; `native`: every row that anybody changes in `table`, on
            databases that can tell.
    """

    db: str
    table: str | None = None
    ops: list[Op] | None = None
    except_origin: str | None = None
    capture: Literal["statements", "native"] = "statements"


class RowChanged(msgspec.Struct, omit_defaults=True):
    """A committed statement that changed rows; `at` is in milliseconds since the epoch.

    With `capture: native` it is one row, `old` before and `new` after the change.
    """

    db: str
    table: str | None
    op: Op
    affected_rows: int
    at: int
    returning: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    origin: str | None = None
    old: dict[str, Any] | None = None
    new: dict[str, Any] | None = None


class RowChangedEvents:
    """Decides which changes are told.

    Attributes:
        clock: Tells when something was committed; set when the worker is opened.
    """

    clock: Clock

    def __init__(self, settings: Mapping[str, OneDatabase], capture: Callable[[str], Capture | None]) -> None:
        self._settings = settings
        self._capture = capture
        self.captures = Captures()
        self.delivery: Delivery[RowChanged] = Delivery(
            "row-changed events",
            log,
            cause=lambda event: f"a change of {event.db}",
            subject=lambda config: config.db,
            wants=_wants,
        )

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

    def may_match(self, db: str, texts: Sequence[str] = (), origin: str | None = None) -> bool:
        """Return whether a binding may match what statements change.

        A binding of a table does not match texts that do not name it; without texts only database and origin count.

        Raises:
            Overloaded: A binding may, and too many events wait.
        """
        for each in self.delivery.matching(db):
            if each.binding is not None and _may_want(each.binding.config, texts, origin):
                self.delivery.check_room()
                return True
        return False

    def following(self, db: str, statements: Sequence[Statement] = (), origin: str | None = None) -> Committed | None:
        """Return what takes committed changes; `None` if no binding may match: see `may_match`.

        Raises:
            Overloaded: One may, and too many events wait.
        """
        if not (self.delivery and self.may_match(db, [each.text for each in statements], origin)):
            return None

        integers = self._settings[db].integers

        def committed(results: Sequence[Result]) -> None:
            for result in results:
                op, table = result.change or ("other", None)
                returning = as_payload(result, integers) if result.columns else msgspec.UNSET
                at = int(self.clock.time() * 1000)
                self.committed(RowChanged(db, table, op, result.affected_rows, at, returning, origin))

        return committed

    def committed(self, event: RowChanged) -> None:
        """Note a committed change; its functions run later, in order."""
        found = self.delivery.matching(event.db)
        self.delivery.put([each for each in found if each.binding and _wants(each.binding.config, event)], event)

    async def _bind(self, binding: Binding) -> None:
        config: RowChangedTrigger = binding.config
        if config.db not in self._settings:
            raise DatabaseConfigError(f"trigger `database::row-changed`: there is no database `{config.db}`")
        if config.capture == "statements":
            await self.captures.unbind(binding.id)
            await self.delivery.bind(binding)
            return
        table = config.table
        capture = self._capture(config.db)
        if capture is None or table is None or config.except_origin is not None:
            raise DatabaseConfigError(_why_not(config, can=capture is not None))
        await self.delivery.unbind(binding)

        def payload(change: RowChange) -> RowChanged:
            return RowChanged(config.db, change.table, change.op, 1, change.at, old=change.old, new=change.new)

        await self.captures.bind(capture, binding, table, config.ops, payload)

    async def _unbind(self, binding: Binding) -> None:
        await self.captures.unbind(binding.id)
        await self.delivery.unbind(binding)


def _why_not(config: RowChangedTrigger, *, can: bool) -> str:
    if not can:
        return f"`capture: native`: database `{config.db}` cannot tell of what others change"
    if config.table is None:
        return "`capture: native`: say which `table`"
    return "`capture: native`: `except_origin` is known of statements only"


def _may_want(config: RowChangedTrigger, texts: Sequence[str], origin: str | None) -> bool:
    if origin is not None and config.except_origin == origin:
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
