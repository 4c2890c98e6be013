"""The enqueue action: hand a call to whoever serves `engine::queue::enqueue` (docs/protocol.md 3.4)."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from linkly.bus import DEFAULT_NAMESPACE, Invocation, Receipt
from linkly.errors import EnqueueFailed, FunctionNotFound, LinklyError
from linkly.schema import as_json
from linkly_engine.core.missing import how_to_get
from linkly_engine.core.trace import with_function_id

ENQUEUE_FUNCTION = "engine::queue::enqueue"


async def enqueue(call: Callable[[Invocation], Awaitable[Any]], invocation: Invocation, queue: str) -> Receipt:
    """Put a call on a queue; the target need not exist yet.

    Raises:
    """
    receipt = str(uuid.uuid4())
    payload: dict[str, Any] = {
        "queue": queue,
        "function_id": invocation.function_id,
        "data": as_json(invocation.payload),
        "messageReceiptId": receipt,
        "traceparent": invocation.traceparent,
        "baggage": with_function_id(invocation.baggage, invocation.function_id),
    }
    if invocation.namespace != DEFAULT_NAMESPACE:
        payload["namespace"] = invocation.namespace
    try:
        await call(
            Invocation(
                function_id=ENQUEUE_FUNCTION,
                payload=as_json(payload),
                caller=invocation.caller,
                origin=invocation.origin,
                traceparent=invocation.traceparent,
                baggage=invocation.baggage,
            )
        )
    except FunctionNotFound as error:
        raise EnqueueFailed(
            f"`{invocation.function_id}` cannot be enqueued on `{queue}`: no queue worker is running "
            f"(nobody serves {ENQUEUE_FUNCTION}): {how_to_get('queue')}"
        ) from error
    except LinklyError as error:
        raise EnqueueFailed(f"queue `{queue}` did not take `{invocation.function_id}`: {error.message}") from error
    return Receipt(message_receipt_id=receipt)
