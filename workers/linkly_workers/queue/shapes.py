"""Requests and results of the queue worker (docs/workers.md#queue)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from linkly.invocation import DEFAULT_NAMESPACE, Json

QueueName = Annotated[str, msgspec.Meta(examples=["default"])]
FunctionId = Annotated[str, msgspec.Meta(examples=["state::set"])]


class When(msgspec.Struct, kw_only=True):
    """How a job is to run.

    Attributes:
        delay_ms: It waits so long at least.
        run_at: It waits until then: RFC 3339 with a zone; the past means now.
        expires_at: It does not begin after that.
        priority: Jobs of a higher one start first; not in a fifo queue.
        idempotency_key: The same key with the same function and payload is the same job, for a day by default.
        message_group: The line it stands in, in a fifo queue; else the field says it that the queue's setting names.
    """

    delay_ms: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None
    run_at: str | None = None
    expires_at: str | None = None
    priority: Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)] | None = None
    idempotency_key: Annotated[str, msgspec.Meta(min_length=1, max_length=512)] | None = None
    message_group: Annotated[str, msgspec.Meta(min_length=1, max_length=512)] | None = None


class ActionRequest(When, kw_only=True, rename={"receipt": "messageReceiptId"}):
    """What the engine makes of the enqueue action: iii's shape, and what linkly's action adds.

    Attributes:
        queue: Its name.
        function_id: What is to run.
        data: Its payload.
        receipt: Id that the engine has given the job.
        traceparent: Trace of the caller.
        baggage: The same.
        namespace: Of the function.
    """

    queue: str
    function_id: str
    data: Json | msgspec.UnsetType = msgspec.UNSET
    receipt: str | None = None
    traceparent: str | None = None
    baggage: str | None = None
    namespace: str = DEFAULT_NAMESPACE


class Enqueue(When, kw_only=True):
    """A call that a queue is to make.

    Attributes:
        function_id: What is to run; it need not exist yet.
        payload: Its payload.
        queue: Name of a configured queue.
        namespace: Of the function.
    """

    function_id: FunctionId
    payload: Json | msgspec.UnsetType = msgspec.UNSET
    queue: QueueName = "default"
    namespace: str = DEFAULT_NAMESPACE


class EnqueueMany(msgspec.Struct):
    """Calls that queues are to make: all of them are accepted or none.

    Attributes:
        jobs: What `queue::enqueue` takes, each.
    """

    jobs: Annotated[list[Enqueue], msgspec.Meta(min_length=1, max_length=10_000)]


class Receipt(msgspec.Struct, rename="camel"):
    """The job is on disk; with its id `queue::job`, `queue::wait` and `queue::cancel` find it."""

    message_receipt_id: str


class Receipts(msgspec.Struct, rename="camel"):
    """The ids of jobs, in the order in which they were asked for."""

    message_receipt_ids: list[str]


class Configured(msgspec.Struct):
    """What others may use: the name of the database with the jobs, and those of the named queues."""

    db: str
    queues: list[str]


class JobId(msgspec.Struct):
    """Which job: its receipt."""

    id: Annotated[str, msgspec.Meta(examples=["6f1c1bd1-4e2b-4d7a-9f6d-0f5f5e8f7c11"])]


class JobRow(msgspec.Struct, kw_only=True):
    """A job as it is now.

    Attributes:
        id: Its receipt.
        queue: Name of its queue; of a subscription `topic::function@namespace`.
        function_id: What runs.
        namespace: Of the function.
        state: waiting, delayed, retrying, active, done, dead, cancelled, discarded or expired.
        attempts: How often it was started, but for starts that were given back.
        enqueued_at: RFC 3339.
        due_at: When it may run, if it waits for a time.
        started_at: Of its last attempt.
        finished_at: When it came to its end.
        expires_at: When it is of no use any more.
        priority: Higher ones start first.
        message_group: The line it stands in.
        idempotency_key: As it was given.
        topic: It was published to.
        reason: Why it is dead.
        error: Of its last attempt that failed.
        payload: What the function gets.
    """

    id: str
    queue: str
    function_id: str
    namespace: str
    state: str
    attempts: int
    enqueued_at: str
    due_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    expires_at: str | None = None
    priority: int = 0
    message_group: str | None = None
    idempotency_key: str | None = None
    topic: str | None = None
    reason: str | None = None
    error: Any = None
    payload: Any = None


class Publish(msgspec.Struct):
    """A message for everybody who has subscribed to a topic.

    Attributes:
        topic: Its name.
        data: What the subscribers' functions get.
    """

    data: Json
    topic: str = ""
