"""What a subscriber asks for, and how its subscription is served."""

from __future__ import annotations

from typing import Literal

import msgspec

from linkly.queue import SubscriberQueue, SubscriberTrigger
from linkly_workers.queue.settings import QueueSettings, SubscriptionSettings

_TYPES: dict[str | None, Literal["standard", "fifo"]] = {
    "fifo": "fifo",
    "standard": "standard",
    "concurrent": "standard",
}


class Terms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a subscriber asks for, as it is stored with its subscription; `None`: as the worker is set.

    Attributes:
        type: Always stored, because publishing reads it.
        max_attempts: Starts of a job.
        concurrency: Jobs at a time; 0 pauses.
        backoff_ms: Before the second attempt.
        condition_function_id: Is asked first.
    """

    type: Literal["standard", "fifo"]
    max_attempts: int | None = None
    concurrency: int | None = None
    backoff_ms: int | None = None
    condition_function_id: str | None = None

    @classmethod
    def of(cls, trigger: SubscriberTrigger, defaults: SubscriptionSettings) -> Terms:
        """Return those of a trigger's config, where `maxRetries` are one less than the attempts."""
        queue = trigger.queue_config or SubscriberQueue()
        retries = trigger.max_retries if queue.max_retries is None else queue.max_retries
        return cls(
            type=_TYPES.get(queue.type, defaults.type),
            max_attempts=None if retries is None else retries + 1,
            concurrency=queue.concurrency,
            backoff_ms=trigger.backoff_ms if queue.backoff_delay_ms is None else queue.backoff_delay_ms,
            condition_function_id=trigger.condition_function_id,
        )

    @classmethod
    def stored(cls, text: str) -> Terms:
        """Return them from the store."""
        return msgspec.json.decode(text, type=cls)

    def text(self) -> str:
        """Return them as they are stored."""
        return msgspec.json.encode(self).decode()

    def settings(self, defaults: SubscriptionSettings) -> QueueSettings:
        """Return how a subscription with these terms is served; `concurrency` may be 0 here."""
        return QueueSettings(
            type=self.type,
            max_retries=_or(self.max_attempts, defaults.max_attempts),
            concurrency=_or(self.concurrency, defaults.concurrency),
            backoff_ms=_or(self.backoff_ms, defaults.backoff_ms),
            timeout_ms=defaults.timeout_ms,
            max_jobs=defaults.max_jobs,
            max_bytes=defaults.max_bytes,
        )


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
