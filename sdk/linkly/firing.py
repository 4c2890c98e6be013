"""How a provider runs the function of a binding.

The engine never fires and never evaluates a condition for a provider's type (docs/protocol.md 4.3); both live here, so
that all providers mean the same by them.
"""

from __future__ import annotations

from typing import Any

from linkly.bus import Bus
from linkly.invocation import DEFAULT_TIMEOUT_S
from linkly.trigger import Binding


async def condition_met(
    bus: Bus,
    condition_function_id: str | None,
    payload: object,
    namespace: str,
    *,
    timeout_s: float | None = DEFAULT_TIMEOUT_S,
) -> bool:
    """Evaluate a binding's condition: only a literal `false` blocks.

    Args:
        bus: Where to call it.
        condition_function_id: `None`: no condition, met.
        payload: Exactly what the function would get.
        namespace: The target's namespace.
        timeout_s: How long it may take.

    Raises:
        CallTimeout: It took longer.
        LinklyError: The condition failed; the function must not run.
    """
    if condition_function_id is None:
        return True
    answer = await bus.trigger(condition_function_id, payload, namespace=namespace, timeout_s=timeout_s)
    return answer is not False


async def fire(
    bus: Bus,
    binding: Binding,
    payload: object,
    *,
    result_type: Any = Any,
    timeout_s: float | None = DEFAULT_TIMEOUT_S,
) -> Any:
    """Call a binding's function with `payload` and the binding's metadata, and return its answer."""
    return await bus.trigger(
        binding.function_id,
        payload,
        namespace=binding.namespace,
        metadata=binding.metadata,
        result_type=result_type,
        timeout_s=timeout_s,
    )
