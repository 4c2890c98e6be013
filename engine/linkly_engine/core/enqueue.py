"""The enqueue action: hand a call to whoever serves `engine::queue::enqueue` (docs/protocol.md 3.4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from linkly.bus import DEFAULT_NAMESPACE, Invocation, Receipt
from linkly.errors import EnqueueFailed, FunctionNotFound, InvalidPayload, LinklyError
from linkly.receipts import new_receipt
from linkly.schema import Codec, as_json
from linkly.timestamps import moment_of, time_text
from linkly.wire.messages import EnqueueAction
from linkly_engine.core.missing import how_to_get
from linkly_engine.core.trace import with_function_id

ENQUEUE_FUNCTION = "engine::queue::enqueue"


class _Answer(msgspec.Struct, rename="camel"):
    message_receipt_id: str | None = None


_answer: Codec[_Answer] = Codec(_Answer)


async def enqueue(
    call: Callable[[Invocation], Awaitable[Any]], invocation: Invocation, action: EnqueueAction
) -> Receipt:
    """Put a call on a queue; the target need not exist yet.

    Returns:
        The receipt; under an idempotency key that the queue has seen, the one that it gave then.

    Raises:
        EnqueueFailed: Nobody serves queues, or the queue did not take the call: `details` has the code and the details
            of its error.
        InvalidPayload: An option of the action is no such thing.
    """
    receipt, queue = new_receipt(), action.queue
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
    payload |= _options(action)
    try:
        answer = await call(
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
        raise EnqueueFailed(
            f"queue `{queue}` did not take `{invocation.function_id}`: {error.message}",
            details={**error.details, "code": error.code},
        ) from error
    return Receipt(message_receipt_id=_first_receipt(answer) or receipt)


def _options(action: EnqueueAction) -> dict[str, Any]:
    options: dict[str, Any] = msgspec.to_builtins(action)  # without those that were not given
    del options["type"], options["queue"]
    for name in ("run_at", "expires_at"):
        if name in options:
            options[name] = time_text(moment_of(options[name], name))
    return options


def _first_receipt(answer: object) -> str | None:
    try:
        return _answer.read(answer, "an enqueue's receipt").message_receipt_id
    except InvalidPayload:
        return None  # whoever serves queues need not answer anything (docs/protocol.md 3.4)
