"""Whether the project can serve, as far as its workers say (`/readyz`): the trigger type `http::readiness`.

A function with the trigger `linkly.readiness()` is called whenever `/readyz` is asked for.
"""

from __future__ import annotations

import asyncio

import msgspec

from linkly import Binding, Bus, Readiness, TriggerType
from linkly.errors import LinklyError
from linkly.firing import fire

ANSWER_S = 1.0
"""A worker that takes longer is not ready."""


class NoConfig(msgspec.Struct):
    """Config of an `http::readiness` trigger: it has no keys."""


class Checks:
    """The functions that are asked."""

    def __init__(self) -> None:
        self._bindings: dict[str, Binding] = {}

    def trigger_type(self) -> TriggerType:
        """Return the trigger type."""
        return TriggerType(
            "http::readiness",
            "The gateway is asked whether the project is ready; the function says so for its worker.",
            bind=self._bind,
            unbind=self._unbind,
            config_type=NoConfig,
        )

    async def reasons(self, bus: Bus) -> list[str]:
        """Call all functions at once; return why workers are not ready."""
        answers = await asyncio.gather(*(_ask(bus, binding) for binding in list(self._bindings.values())))
        return [reason for answer in answers for reason in answer]

    async def _bind(self, binding: Binding) -> None:
        self._bindings[binding.id] = binding

    async def _unbind(self, binding: Binding) -> None:
        self._bindings.pop(binding.id, None)


async def _ask(bus: Bus, binding: Binding) -> list[str]:
    name = binding.function_id
    try:
        answer = await fire(bus, binding, {}, result_type=Readiness, timeout_s=ANSWER_S)
    except LinklyError as error:
        return [f"`{name}` does not say that it is ready: {error.code}"]
    return [] if answer.ready else answer.reasons or [f"`{name}` says that it is not ready"]
