"""Jobs: what a handler knows of the one that it runs and how it decides its fate, and the triggers of the queue worker.

    @function("mail::send", triggers=[durable_subscriber("order.created", max_retries=5)])
    async def send(self, order: dict) -> None:
        job = current_job()
        if "email" not in order:
            raise JobFailed("an order without an address")  # dead at once
        if not await self.deliver(order, once=job.id):
            raise RetryLater(60)

A handler that returns has done its job; any other error is retried as its queue is set.

Facts: docs/protocol.md 3.4.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from linkly.context import current
from linkly.errors import LinklyError
from linkly.trigger import TriggerDeclaration

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Start: TypeAlias = Literal["now", "earliest"]


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The job that a handler runs.

    Attributes:
        id: Its receipt. The same for every attempt, so that it makes repetition harmless.
        queue: Name of the queue.
        attempt: Which start this is, from 1 on.
        max_attempts: How many starts it may have.
        enqueued_at: When the queue accepted it.
        idempotency_key: As its enqueue gave it.
        topic: On which it was published; `None` for one of a named queue.
        message_group: Its group in a fifo queue.
    """

    id: str
    queue: str
    attempt: int
    max_attempts: int
    enqueued_at: datetime
    idempotency_key: str | None = None
    topic: str | None = None
    message_group: str | None = None

    @property
    def is_last(self) -> bool:
        """Whether it is dead if this attempt fails."""
        return self.attempt >= self.max_attempts


def current_job() -> Job:
    """Return the job whose handler is running: the member `job` of the call's metadata.

    Raises:
        LookupError: The caller does not run inside a job.
    """
    metadata = current().metadata
    try:
        return msgspec.convert(metadata["job"], Job)
    except (TypeError, KeyError, msgspec.ValidationError) as error:
        raise LookupError("current_job() works only inside a function that a queue has called") from error


class JobFailed(LinklyError):
    """What a handler raises to fail its job for good: it is dead at once, whatever attempts are left."""

    code = "JOB_FAILED"


class RetryLater(LinklyError):
    """What a handler raises to have its job run again after a time of its own choice, if attempts are left.

    Args:
        after_s: Seconds.
        message: Why.

    Raises:
        ValueError: It is no such time.
    """

    code = "JOB_RETRY_LATER"

    def __init__(self, after_s: float, message: str = "") -> None:
        if not (math.isfinite(after_s) and after_s >= 0):
            raise ValueError(f"RetryLater({after_s!r}): must be seconds, 0 or more")
        super().__init__(
            message or f"the handler asks to be called again in {after_s:g} s",
            details={"retry_after_ms": round(after_s * 1000)},
        )

    @property
    def retry_after_ms(self) -> int:
        """The time in ms; 0 if the error came from a client that gave no such time."""
        given = self.details.get("retry_after_ms")
        return given if type(given) is int and given > 0 else 0


# --- trigger type durable:subscriber ---------------------------------------------------------------------------


class SubscriberQueue(msgspec.Struct, rename="camel"):
    """The member `queue_config` of a `durable:subscriber`; what iii reads and does not use is ignored.

    Attributes:
        type: `fifo`, or `standard` or `concurrent`; `None` and all others: as the queue worker is set.
        max_retries: How often a failed message is tried again: one call more than this.
        concurrency: How many messages are handled at a time; 0 pauses.
        backoff_delay_ms: Wait before the first repetition; it doubles.
    """

    type: str | None = None
    max_retries: Count | None = None
    concurrency: Count | None = None
    backoff_delay_ms: Count | None = None


class SubscriberTrigger(msgspec.Struct):
    """Config of a `durable:subscriber` trigger.

    Attributes:
        topic: What is subscribed to.
        queue: Another name of `topic`.
        condition_function_id: Is called with the message first; a literal `false` skips the function.
        queue_config: How its messages are handled.
        max_retries: As in `queue_config`, which wins.
        backoff_ms: As `backoffDelayMs` in `queue_config`, which wins.
        start: Which messages a new subscription gets: `now`, those published from now on; `earliest`, also those that
            the topic has kept.
    """

    topic: str | None = None
    queue: str | None = None
    condition_function_id: str | None = None
    queue_config: SubscriberQueue | None = None
    max_retries: Count | None = None
    backoff_ms: Count | None = None
    start: Start = msgspec.field(default="now", name="from")


def durable_subscriber(
    topic: str,
    *,
    max_retries: int | None = None,
    backoff_ms: int | None = None,
    concurrency: int | None = None,
    fifo: bool | None = None,
    start: Start = "now",
    condition: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> TriggerDeclaration:
    """Run the function for every message of a durable topic, also for those published while its worker was away.

    Args:
        topic: As `iii::durable::publish` says it.
        max_retries: How often a failed message is tried again. Here and below `None` means as the queue worker is set.
        backoff_ms: Wait before the first repetition; it doubles.
        concurrency: How many messages are handled at a time.
        fifo: Whether one is handled after the other, in order.
        start: Which messages a new subscription gets: `now`, those published from now on; `earliest`, also those that
            the topic has kept.
        condition: Id of a function that is called with the message first; a literal `false` skips the function.
        metadata: Kept with the trigger.
    """
    queue = {
        "type": None if fifo is None else "fifo" if fifo else "standard",
        "maxRetries": max_retries,
        "concurrency": concurrency,
        "backoffDelayMs": backoff_ms,
    }
    config = {
        "topic": topic,
        "condition_function_id": condition,
        "queue_config": _given(queue) or None,
        "from": None if start == "now" else start,
    }
    return TriggerDeclaration(type="durable:subscriber", config=_given(config), metadata=metadata)


# --- trigger type queue:dead -------------------------------------------------------------------------------------


class DeadTrigger(msgspec.Struct):
    """Config of a `queue:dead` trigger; what is left out matches everything.

    Attributes:
        queue: Of this queue only.
        condition_function_id: Is called with the dead job first; a literal `false` skips the function.
    """

    queue: str | None = None
    condition_function_id: str | None = None


class JobError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an attempt of a job failed."""

    code: str
    message: str
    stacktrace: str | None = None


class DeadJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a `queue:dead` trigger hands over: a job that is run no more, whatever it died of.

    Attributes:
        id: Its receipt.
        queue: Name of the queue.
        function_id: What it was to run.
        namespace: Where that is looked up.
        payload: What the function would have got.
        reason: Why it is dead: `failed` (each attempt did), `refused` (`JobFailed`), `timed_out`, `worker_lost`,
            `no_function` (nobody has served it for too long) or `too_many` (its subscription had no room for newer
            messages).
        error: Of its last attempt that failed, if there was one.
        attempts: How often it was started.
        max_attempts: How many starts it might have had.
        enqueued_at: When the queue accepted it.
        died_at: When it died.
        idempotency_key: As its enqueue gave it.
        topic: On which it was published; `None` for one of a named queue.
        message_group: Its group in a fifo queue.
    """

    id: str
    queue: str
    function_id: str
    namespace: str = "default"
    payload: Any = None
    reason: str
    error: JobError | None = None
    attempts: int
    max_attempts: int
    enqueued_at: datetime
    died_at: datetime
    idempotency_key: str | None = None
    topic: str | None = None
    message_group: str | None = None


def subscribe_dead(
    queue: str | None = None, *, condition: str | None = None, metadata: dict[str, Any] | None = None
) -> TriggerDeclaration:
    """Run the function with a `DeadJob` when a job has died; `None` means in any queue."""
    config = _given({"queue": queue, "condition_function_id": condition})
    return TriggerDeclaration(type="queue:dead", config=config, metadata=metadata)


def _given(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
