"""State: where a value is, and the trigger type `state`, its config and what it hands to a function.

Facts: docs/workers.md#state.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from linkly.trigger import TriggerDeclaration

Scope = Annotated[str, msgspec.Meta(examples=["greetings"])]
Key = Annotated[str, msgspec.Meta(examples=["hello"])]
EventType: TypeAlias = Literal["state:created", "state:updated", "state:deleted"]


class Address(msgspec.Struct, frozen=True):
    """Where a value is: the payload of `state::get` and `state::delete`. As a dict it takes 0.3 us more.

    Attributes:
        scope: Group of keys.
        key: Name inside the scope.
    """

    scope: Scope
    key: Key


class StateTrigger(msgspec.Struct):
    """Config of a `state` trigger; what is left out matches everything.

    Attributes:
        scope: Of this scope only.
        key: Of this key only.
        condition_function_id: Is called with the event first; a literal `false` skips the function.
    """

    scope: str | None = None
    key: str | None = None
    condition_function_id: str | None = None


class StateEvent(msgspec.Struct):
    """What a `state` trigger hands over."""

    event_type: EventType
    scope: str
    key: str
    old_value: Any = None
    new_value: Any = None
    type: Literal["state"] = "state"


def state(
    scope: str | None = None,
    key: str | None = None,
    *,
    condition: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> TriggerDeclaration:
    """Run the function after a write to the state worker; `None` means any."""
    given = {"scope": scope, "key": key, "condition_function_id": condition}
    config = {name: value for name, value in given.items() if value is not None}
    return TriggerDeclaration(type="state", config=config, metadata=metadata)
