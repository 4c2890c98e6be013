"""Requests and results of the functions that look at queues and jobs and repair them (docs/workers.md#queue)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from linkly_workers.queue.shapes import JobRow

StateName = Literal["waiting", "delayed", "retrying", "active", "done", "dead", "cancelled", "discarded", "expired"]
Limit = Annotated[int, msgspec.Meta(ge=1, le=1000)]


class WaitRequest(msgspec.Struct):
    """Which job, and how long to wait for its end.

    Attributes:
        id: Its receipt.
        timeout_ms: After that the job is answered as it is then.
    """

    id: str
    timeout_ms: Annotated[int, msgspec.Meta(ge=0, le=86_400_000)] = 25_000


class CancelResult(msgspec.Struct):
    """What became of a job.

    Attributes:
        cancelled: Whether this call has ended it; `false`: it had ended before, as `job` says.
        job: As it is now.
    """

    cancelled: bool
    job: JobRow


class JobsRequest(msgspec.Struct):
    """Which jobs.

    Attributes:
        queue: Of this queue; none: of all.
        state: In this state; none: in any.
        function_id: Of this function; none: of any.
        limit: So many at most.
        cursor: What the answer before has as next_cursor; none: from the first one on.
    """

    queue: str | None = None
    state: StateName | None = None
    function_id: str | None = None
    limit: Limit = 100
    cursor: str | None = None


class Jobs(msgspec.Struct):
    """Some jobs.

    Attributes:
        jobs: In order; `queue::jobs` answers them without their payloads.
        next_cursor: Gets those behind these; null when there are none.
    """

    jobs: list[JobRow]
    next_cursor: str | None


class DeadFilter(msgspec.Struct, kw_only=True):
    """Which dead letters; what is left out matches all.

    Attributes:
        queue: Of this queue.
        function_id: Of this function.
        reason: Why they are dead: failed, refused, timed_out, worker_lost, no_function or too_many.
        error: A text that stands in the error of the last attempt.
        died_after: Dead since this time, RFC 3339 with a zone.
        died_before: Dead before this time.
    """

    queue: str | None = None
    function_id: str | None = None
    reason: str | None = None
    error: str | None = None
    died_after: str | None = None
    died_before: str | None = None


class DeadRequest(DeadFilter, kw_only=True):
    """Which dead letters, and how many of them.

    Attributes:
        limit: So many at most.
        cursor: What the answer before has as next_cursor; none: from the first one on.
    """

    limit: Limit = 100
    cursor: str | None = None


class Chosen(DeadFilter, kw_only=True):
    """Which jobs something is done with: those with these ids, or all that a filter matches.

    Attributes:
        ids: Receipts; those that are not dead are passed over.
        waiting: Those that wait for their turn or for a time, too.
    """

    ids: Annotated[list[str], msgspec.Meta(min_length=1, max_length=1000)] | None = None
    waiting: bool = False


class Redrive(Chosen, kw_only=True):
    """Which jobs begin anew.

    Attributes:
        into: In this queue; none: in their own.
    """

    into: str | None = None


class Redriven(msgspec.Struct):
    """How many jobs began anew."""

    redriven: int


class Discarded(msgspec.Struct):
    """How many jobs were thrown away."""

    discarded: int


class QueueName(msgspec.Struct):
    """Which queue: its name; of a subscription `topic::function@namespace`."""

    queue: Annotated[str, msgspec.Meta(examples=["default"])]


class Paused(msgspec.Struct):
    """Whether a queue starts nothing."""

    queue: str
    paused: bool


class Absent(msgspec.Struct):
    """Jobs that wait for a function that nobody serves."""

    function_id: str
    namespace: str
    jobs: int


class LastMinute(msgspec.Struct):
    """What has happened to the jobs of a queue within a minute, on this engine."""

    accepted: int = 0
    done: int = 0
    dead: int = 0


class QueueInfo(msgspec.Struct, kw_only=True):
    """A queue as it is now.

    Attributes:
        queue: Its name; of a subscription `topic::function@namespace`.
        kind: queue or subscription.
        configured: Whether it is served; the jobs of one that is not wait.
        paused: Whether it starts nothing.
        waiting: Jobs that wait for their turn.
        delayed: Jobs that wait for their time.
        retrying: Jobs that wait for their next attempt.
        active: Jobs that run.
        dead: Dead letters that are kept.
        accepted: Jobs it has ever accepted.
        done: Jobs that are done.
        cancelled: Jobs that were cancelled.
        discarded: Jobs that were thrown away, dead letters that were not kept any longer among them.
        expired: Jobs that were of no use any more before they began.
        bytes: Payloads of the jobs that have not ended.
        oldest_waiting_ms: How long ago the oldest job that waits for its turn was accepted.
        last_minute: What has happened on this engine.
        absent: Jobs whose function nobody serves.
        late: Attempts on this engine that ended when they did not count any more.
        settings: How it is served, if it is.
    """

    queue: str
    kind: str
    configured: bool
    paused: bool
    waiting: int
    delayed: int
    retrying: int
    active: int
    dead: int
    accepted: int
    done: int
    cancelled: int
    discarded: int
    expired: int
    bytes: int
    oldest_waiting_ms: int | None
    last_minute: LastMinute
    absent: list[Absent]
    late: int
    settings: Any = None


class Queues(msgspec.Struct):
    """Every queue that there is, or was."""

    queues: list[QueueInfo]


class Verified(msgspec.Struct, kw_only=True):
    """The account of a queue: accepted is the sum of all others."""

    queue: str
    accepted: int
    waiting: int
    delayed: int
    retrying: int
    active: int
    done: int
    dead: int
    cancelled: int
    discarded: int
    expired: int


class Difference(msgspec.Struct):
    """Something that does not agree.

    Attributes:
        queue: Its name.
        what: What was compared.
        counted: What the counters say.
        found: What the rows say.
    """

    queue: str
    what: str
    counted: int
    found: int


class Verification(msgspec.Struct):
    """Whether counters and rows agree."""

    ok: bool
    queues: list[Verified]
    differences: list[Difference]
