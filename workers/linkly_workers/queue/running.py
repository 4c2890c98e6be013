"""One attempt of one job: its function is called, and what comes of that decides what happens to the job."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from linkly.bus import Bus
from linkly.clock import Clock
from linkly.context import current_invocation
from linkly.errors import CallTimeout, FunctionNotFound, HandlerFailed, InvocationStopped, LinklyError
from linkly.firing import condition_met
from linkly.invocation import Invocation, Json
from linkly.outcome import error_body
from linkly.timestamps import time_text
from linkly_workers.queue.backoff import backoff_ms
from linkly_workers.queue.jobs import Claimed, Ended, Lane, Reason, State, unpack_head
from linkly_workers.queue.settings import QueueSettings

log = logging.getLogger("linkly.queue")

FOR_GOOD, LATER = "JOB_FAILED", "JOB_RETRY_LATER"
"""Codes by which a handler decides: no further attempt, or one after `retry_after_ms`."""


LATEST_MS = 1 << 53
"""What a handler may ask for as `retry_after_ms`, as `delay_ms` of an enqueue; more of it, infinity too, is this."""

GRACE_S = 10.0
"""How long a handler whose time is over may take to end, before its job may be tried again."""

_REASONS = {
    FOR_GOOD: Reason.REFUSED,
    CallTimeout.code: Reason.TIMED_OUT,
    InvocationStopped.code: Reason.WORKER_LOST,
}


class Policy(msgspec.Struct, frozen=True):
    """How the jobs of a queue are run.

    Attributes:
        queue: Its name, or the topic's with the function's.
        max_attempts: Starts of a job.
        backoff_ms: See `backoff`.
        timeout_ms: Of an attempt.
        condition_function_id: Of a subscription: only a literal `false` leaves the message out, which is done then.
    """

    queue: str
    max_attempts: int
    backoff_ms: int
    timeout_ms: int
    condition_function_id: str | None = None

    @classmethod
    def of(cls, title: str, settings: QueueSettings, condition_function_id: str | None) -> Policy:
        """Return that of a queue."""
        return cls(title, settings.max_attempts, settings.backoff_ms, settings.timeout_ms, condition_function_id)


async def run_job(
    bus: Bus, job: Claimed, lane: Lane, policy: Policy, is_gone: Callable[[Lane], Awaitable[bool]]
) -> Ended:
    """Run an attempt and say how it ended; a job whose function has just gone is given back."""
    payload = Json(job.payload.encode())
    try:
        metadata = {"job": _about(job, lane, policy)}
        timeout_s = policy.timeout_ms / 1000
        if await condition_met(bus, policy.condition_function_id, payload, lane.namespace, timeout_s=timeout_s):
            await bus.trigger(
                lane.function_id,
                payload,
                namespace=lane.namespace,
                metadata=metadata,
                timeout_s=timeout_s,
                grace_s=GRACE_S,
                result_type=Json,
            )
    except LinklyError as error:
        if error.code == FunctionNotFound.code and await is_gone(lane):
            return _ended(job, State.WAITING, returned=True)
        return failed(job, policy, error, bus.clock)
    except Exception as error:
        log.exception("job %s for `%s` failed", job.id, lane.function_id)
        return failed(job, policy, HandlerFailed.wrap(error), bus.clock)
    return _ended(job, State.DONE)


def _about(job: Claimed, lane: Lane, policy: Policy) -> dict[str, Any]:
    """Return what a job's function is told of it, and enter the trace of whoever enqueued it.

    The deadline and the origin of that call do not travel.
    """
    head = unpack_head(job.head)
    current_invocation.set(Invocation(function_id=lane.function_id, traceparent=head.traceparent, baggage=head.baggage))
    return {
        "id": job.id,
        "queue": policy.queue,
        "attempt": job.attempt,
        "max_attempts": policy.max_attempts,
        "enqueued_at": time_text(head.enqueued_at / 1000),
        "idempotency_key": head.key,
        "topic": head.topic,
        "message_group": job.message_group,
    }


def failed(job: Claimed, policy: Policy, error: LinklyError, clock: Clock) -> Ended:
    """Say what becomes of a job whose attempt has failed."""
    text = bytes(memoryview(error_body(error))).decode()
    if error.code == FOR_GOOD or job.attempt >= policy.max_attempts:
        return _ended(job, State.DEAD, error=text, reason=_REASONS.get(error.code, Reason.FAILED))
    wait_ms = backoff_ms(job.attempt, policy.backoff_ms, random.random)
    after = error.details.get("retry_after_ms")
    if error.code == LATER and isinstance(after, (int, float)) and after >= 0:
        wait_ms = int(min(after, LATEST_MS))
    return _ended(job, State.RETRYING, error=text, due_at=int(clock.time() * 1000) + wait_ms)


def _ended(
    job: Claimed,
    state: State,
    *,
    error: str | None = None,
    reason: Reason | None = None,
    due_at: int | None = None,
    returned: bool = False,
) -> Ended:
    return Ended(
        position=job.position,
        starts=job.starts,
        state=state,
        due_at=due_at,
        error=error,
        reason=reason,
        returned=returned,
        message_group=job.message_group,
    )
