"""Requests, results and errors of iii's functions that look at topics and dead letters, in its shapes."""

from __future__ import annotations

from typing import Annotated

import msgspec

from linkly.errors import LinklyError
from linkly.invocation import Json

BUILTIN, FUNCTION_QUEUE = "builtin", "function_queue"
"""What iii calls the kind of a topic and of a named queue."""


class TopicRequest(msgspec.Struct):
    """Which topic or named queue.

    Attributes:
        topic: Its name: a named queue comes first, then a topic, then a subscription as `topic::function@namespace`.
        queue: Another name of `topic`.
    """

    topic: str | None = None
    queue: str | None = None


class DeadMessagesRequest(TopicRequest):
    """Which dead letters.

    Attributes:
        offset: So many are left out, of those that have died first.
        limit: So many at most.
    """

    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50


class QueueRequest(msgspec.Struct):
    """Which named queue or topic.

    Attributes:
        queue: Its name, as in `TopicRequest`.
        topic: Another name of `queue`.
    """

    queue: str | None = None
    topic: str | None = None


class MessageRequest(QueueRequest):
    """Which dead letter.

    Attributes:
        message_id: Its id, as `engine::queue::dlq_messages` has it.
    """

    message_id: str | None = None


class TopicRow(msgspec.Struct):
    """A topic or a named queue.

    Attributes:
        name: Its name.
        broker_type: `builtin`.
        subscriber_count: How many functions have subscribed; of a named queue its `concurrency`.
    """

    name: str
    broker_type: str
    subscriber_count: int


class TopicStats(msgspec.Struct):
    """How many messages there are.

    Attributes:
        depth: That wait for their turn or run.
        consumer_count: How many functions have subscribed; of a named queue its `concurrency`.
        dlq_depth: That are dead.
        config: Nothing.
    """

    depth: int
    consumer_count: int
    dlq_depth: int
    config: None = None


class DeadTopicRow(msgspec.Struct):
    """A topic or a named queue, and how many dead letters it has.

    Attributes:
        topic: Its name.
        broker_type: `function_queue` for a named queue, else `builtin`.
        message_count: How many.
    """

    topic: str
    broker_type: str
    message_count: int


class DeadMessage(msgspec.Struct):
    """A dead letter.

    Attributes:
        id: Its id.
        payload: What the function would get.
        error: Code and message of its last attempt.
        failed_at: When it died, seconds since the epoch.
        retries: How often it was tried.
        size_bytes: Of the payload.
    """

    id: str
    payload: Json
    error: str
    failed_at: int
    retries: int
    size_bytes: int


class RedriveResult(msgspec.Struct):
    """How many dead letters began anew."""

    queue: str
    redriven: int


class MessageResult(msgspec.Struct):
    """Whether there was such a dead letter: 1 or 0."""

    queue: str
    message_id: str
    redriven: int


class ListTopicsFailed(LinklyError):
    """Topics cannot be listed; `details.code` says why, as of the errors below."""

    code = "list_topics_failed"


class TopicStatsFailed(LinklyError):
    """A topic cannot be looked at."""

    code = "topic_stats_failed"


class DeadTopicsFailed(LinklyError):
    """Dead letters cannot be counted."""

    code = "dlq_topics_failed"


class DeadMessagesFailed(LinklyError):
    """Dead letters cannot be read."""

    code = "dlq_messages_failed"


class RedriveFailed(LinklyError):
    """Dead letters did not begin anew."""

    code = "redrive_failed"


class RedriveMessageFailed(LinklyError):
    """A dead letter did not begin anew."""

    code = "redrive_message_failed"


class DiscardMessageFailed(LinklyError):
    """A dead letter was not thrown away."""

    code = "discard_message_failed"
