"""Provides the trigger type `state`: functions are told of writes, in the order of the writes of one key.

The writer does not wait for them (`linkly.delivery`). A function that writes the key it is bound to is run again by its
own write: there is no loop guard.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from linkly import Invocation, Json, TriggerType
from linkly.delivery import Delivery, Limits, Recipient
from linkly.state import EventType, StateEvent, StateTrigger

log = logging.getLogger("linkly.state")

LIMITS = Limits()


class StateEvents:
    """Makes the events of writes."""

    def __init__(self, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self.delivery: Delivery[StateEvent] = Delivery(
            "state events",
            log,
            cause=lambda event: f"{event.event_type} of {event.scope}/{event.key}",
            subject=lambda config: (config.scope, config.key),
            wants=lambda config, event: config.scope in (None, event.scope) and config.key in (None, event.key),
            limits=LIMITS,
        )

    def trigger_type(self) -> TriggerType:
        """Return the `state` trigger type."""
        return TriggerType(
            "state",
            "A value of the state worker is created, updated or deleted.",
            bind=self.delivery.bind,
            unbind=self.delivery.unbind,
            config_type=StateTrigger,
            payload_type=StateEvent,
        )

    def check_room(self, scope: str, key: str) -> None:
        """Refuse a write whose event could not be kept.

        Raises:
            Overloaded: Too many events wait for their functions.
        """
        if self.delivery.full and self._matching(scope, key):
            self.delivery.check_room()

    def written(
        self,
        scope: str,
        key: str,
        old: bytes | None,
        new: bytes | None,
        *,
        deleted: bool,
        cause: Invocation | None = None,
    ) -> None:
        """Note a write; its functions run later. A deletion is told even where there was nothing."""
        recipients = self._matching(scope, key)
        if not recipients:
            return
        kind: EventType = "state:deleted" if deleted else "state:created" if old is None else "state:updated"
        values = (None if old is None else Json(old), None if new is None else Json(new))
        size = len(old or b"") + len(new or b"")
        self.delivery.put(recipients, StateEvent(kind, scope, key, *values), key=(scope, key), size=size, cause=cause)

    def _matching(self, scope: str, key: str) -> Sequence[Recipient]:
        # Asked for every write: without a binding it makes no tuples.
        if not self.delivery or not self._enabled:
            return ()
        return self.delivery.matching((scope, key), (scope, None), (None, key), (None, None))
