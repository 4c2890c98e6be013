"""Triggers: "run this function when that happens", from both sides.

A worker *declares* triggers on its functions (`http("GET", "/s/:code")`). A *provider* registers a
`TriggerType` and is told of every `Binding` to it; when the thing happens it fires the binding (`linkly.firing`, or
`linkly.delivery` where nobody waits for the answer). Config and payload of one type stand with the worker that provides
it: `linkly.http`, `linkly.state`, `linkly.engine`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from linkly.errors import TriggerRegistrationFailed
from linkly.schema import json_schema


class TriggerDeclaration(msgspec.Struct, kw_only=True):
    """A trigger as its worker declares it.

    Attributes:
        type: Id of the trigger type.
        config: What the provider wants to know, a plain JSON value.
        metadata: Handed to the function with every firing.
        namespace: Where the *target function* is looked up when fired; `None`: `default`.
        trigger_namespace: Where the *type* is looked up; `None`: the worker's own namespace, then `default`.
    """

    type: str
    config: Any = None
    metadata: dict[str, Any] | None = None
    namespace: str | None = None
    trigger_namespace: str | None = None


def trigger(
    trigger_type: str, config: dict[str, Any] | None = None, *, metadata: dict[str, Any] | None = None
) -> TriggerDeclaration:
    """Declare a trigger of any type."""
    return TriggerDeclaration(type=trigger_type, config=config or {}, metadata=metadata)


class Binding(msgspec.Struct, kw_only=True):
    """One trigger tied to one function, as its provider sees it.

    Attributes:
        id: Chosen by whoever registered the trigger; the same id again replaces the binding.
        trigger_type: Id of the type.
        function_id: What to call.
        config: Of the type's `config_type`, or plain data if it has none.
        metadata: Goes along with every firing.
        namespace: Where `function_id` is looked up.
        owner: Worker id of the registrant, `""` for a durable trigger.
    """

    id: str
    trigger_type: str
    function_id: str
    config: Any = None
    metadata: Any = None
    namespace: str = "default"
    owner: str = ""


class TriggerType:
    """A kind of trigger and who provides it.

    Args:
        type_id: Its id.
        description: One line for people.
        bind: Called with each `Binding`; raises to refuse it (the registrant is told). A binding whose id is
            already bound replaces the earlier one.
        unbind: Called when a binding goes away: its worker leaves, or another provider gets it.
        unregistered: Called in place of `unbind` when the code that registered the trigger has taken it back
            (`Registration.unregister`, `engine::unregister_trigger`), for a provider that keeps something for workers
            that are away; default: `unbind`. While the provider itself is away nobody is told.
        config_type: Type of `Binding.config`; a config that does not fit is refused before `bind`.
        payload_type: Type of what a firing hands to the function, for its schema.
    """

    def __init__(
        self,
        type_id: str,
        description: str,
        *,
        bind: Callable[[Binding], Awaitable[None]],
        unbind: Callable[[Binding], Awaitable[None]],
        unregistered: Callable[[Binding], Awaitable[None]] | None = None,
        config_type: Any = None,
        payload_type: Any = None,
    ) -> None:
        self.id = type_id
        self.description = description
        self._bind = bind
        self._unbind = unbind
        self._unregistered = unregistered or unbind
        self._config_type = config_type
        self.config_schema = json_schema(config_type) if config_type is not None else None
        self.payload_schema = json_schema(payload_type) if payload_type is not None else None
        self._bound: dict[str, Binding] = {}

    async def bind(self, binding: Binding) -> None:
        """Check a binding's config and hand it to the provider.

        Raises:
            TriggerRegistrationFailed: The config does not fit, or the provider's own refusal.
        """
        if self._config_type is not None:
            try:
                config = msgspec.convert(binding.config if binding.config is not None else {}, self._config_type)
            except msgspec.ValidationError as error:
                raise TriggerRegistrationFailed(
                    f"Failed to parse trigger config of `{self.id}` for function `{binding.function_id}`: {error}"
                ) from error
            binding = msgspec.structs.replace(binding, config=config)
        await self._bind(binding)
        self._bound[binding.id] = binding

    async def unbind(self, binding_id: str, *, unregistered: bool = False) -> None:
        """Take a binding back; an unknown id is a no-op.

        Args:
            binding_id: Its id.
            unregistered: The code that registered it no longer wants it.
        """
        binding = self._bound.pop(binding_id, None)
        if binding is not None:
            await (self._unregistered if unregistered else self._unbind)(binding)
