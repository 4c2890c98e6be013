"""Settings of the queue worker (docs/workers.md#queue)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from linkly import Settings
from linkly.errors import ConfigError

AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]

DAY_MS = 86_400_000


class QueueSettings(Settings):
    """One named queue.

    Attributes:
        type: `standard`: jobs start in order and run side by side; `fifo`: those of a message group one by one.
        message_group_field: Of a fifo queue: the field of the payload that names the group.
        concurrency: Jobs that run at a time on this engine; of a fifo queue: groups.
        max_retries: How often a job is started in all, at least once (iii's name and iii's meaning).
        backoff_ms: Before the second attempt; doubled for each further one, up to an hour.
        timeout_ms: How long an attempt may take.
        max_jobs: More jobs that wait or run are refused.
        max_bytes: The same for the bytes of their payloads.
        keep_done: So many jobs that are done can still be looked up ...
        keep_done_ms: ... for so long.
        keep_dead_ms: How long a dead letter is kept.
        poll_interval_ms: How often an engine looks for what others have enqueued in a database that several share; one
            look serves all queues, so the shortest counts.
        max_priority: Accepted for iii's sake, without effect: a priority may be any number.
        priority_field: Field of the payload that says the priority, if the enqueue does not.
    """

    type: Literal["standard", "fifo"] = "standard"
    message_group_field: str | None = None
    concurrency: AtLeastOne = 10
    max_retries: NotNegative = 3
    backoff_ms: NotNegative = 1000
    timeout_ms: AtLeastOne = 1_800_000
    max_jobs: AtLeastOne = 1_000_000
    max_bytes: AtLeastOne = 1 << 30
    keep_done: NotNegative = 10_000
    keep_done_ms: NotNegative = 3_600_000
    keep_dead_ms: NotNegative = 14 * DAY_MS
    poll_interval_ms: AtLeastOne = 100
    max_priority: Annotated[int, msgspec.Meta(ge=1, le=255)] | None = None
    priority_field: str | None = None

    @property
    def max_attempts(self) -> int:
        """How often a job is started in all."""
        return max(1, self.max_retries)


class SubscriptionSettings(Settings):
    """Of durable topics: what subscribers do not say themselves, and what is kept for how long.

    Attributes:
        type: `standard`, or `fifo`: the messages of a subscription one by one, in order.
        max_attempts: How often a message is tried in all, if the subscriber does not say `maxRetries`.
        concurrency: Messages of one subscription at a time on this engine; 0 pauses.
        backoff_ms: Before the second attempt; doubled for each further one, up to an hour.
        timeout_ms: How long an attempt may take.
        max_jobs: So many messages wait and run in one subscription at most.
        max_bytes: The same for their bytes.
        when_full: `refuse` what is published then, or let the oldest that waits be a `dead_letter`.
        keep_unsubscribed: So many messages of topics without any subscription are kept ...
        keep_unsubscribed_ms: ... for so long, for the first one that begins `from: earliest`.
    """

    type: Literal["standard", "fifo"] = "standard"
    max_attempts: AtLeastOne = 3
    concurrency: NotNegative = 10
    backoff_ms: NotNegative = 1000
    timeout_ms: AtLeastOne = 1_800_000
    max_jobs: AtLeastOne = 1_000_000
    max_bytes: AtLeastOne = 1 << 30
    when_full: Literal["refuse", "dead_letter"] = "refuse"
    keep_unsubscribed: NotNegative = 10_000
    keep_unsubscribed_ms: AtLeastOne = 14 * DAY_MS


class AdapterSettings(Settings):
    """Where iii's config names a transport; here the store is a database, which `db` names."""

    name: Literal["builtin", "file_based", "in_memory"] = "builtin"
    config: dict[str, Any] | None = None


class QueueWorkerSettings(Settings):
    """Settings of the queue worker.

    Attributes:
        db: Which database keeps the jobs.
        queue_configs: The named queues; `default` is always there.
        subscriptions: Of durable topics.
        stop_grace_s: How long jobs may go on when the engine stops; what then runs still starts anew later.
        idempotency_window_ms: How long an idempotency key is remembered.
        max_payload_bytes: A job's payload may be so large.
        lease_ms: Where several engines share the database: what runs on one that is gone is taken over so late.
        absent_retention_ms: A job whose function nobody has served for so long is dead.
        adapter: Accepted for iii's sake, without effect.
    """

    db: str = "primary"
    queue_configs: dict[str, QueueSettings] = msgspec.field(default_factory=lambda: {"default": QueueSettings()})
    subscriptions: SubscriptionSettings = msgspec.field(default_factory=SubscriptionSettings)
    stop_grace_s: Annotated[float, msgspec.Meta(ge=0)] = 10.0
    idempotency_window_ms: AtLeastOne = DAY_MS
    max_payload_bytes: AtLeastOne = 4_194_304
    lease_ms: Annotated[int, msgspec.Meta(ge=1000, le=30_000)] = 30_000
    absent_retention_ms: AtLeastOne = 14 * DAY_MS
    adapter: AdapterSettings | None = None

    def queues(self) -> dict[str, QueueSettings]:
        """Return the named queues.

        Raises:
            ConfigError: A fifo queue does not say what its groups are.
        """
        for name, queue in self.queue_configs.items():
            if queue.type == "fifo" and not queue.message_group_field:
                raise ConfigError(f"Queue '{name}' is of type 'fifo' but 'message_group_field' is not set")
        return {"default": QueueSettings(), **self.queue_configs}
