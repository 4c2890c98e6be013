"""Errors of the queue worker, with iii's codes where it has some."""

from __future__ import annotations

from linkly.errors import LinklyError


class QueueNotFound(LinklyError):
    """No queue of this name is configured."""

    code = "queue_not_found"


class QueueFull(LinklyError):
    """The queue has no room; the same may be accepted later."""

    code = "queue_full"


class KeyUsed(LinklyError):
    """An idempotency key was used before, for another job."""

    code = "idempotency_key_used"


class TooLargeToBegin(LinklyError):
    """The payloads of the jobs of a claim are larger together than what the database hands out; nothing was written."""

    code = "too_large_to_begin"


class JobNotFound(LinklyError):
    """There is no job with this id, or it was removed some time after its end."""

    code = "job_not_found"


class TopicNotSet(LinklyError):
    """A message without a topic."""

    code = "topic_not_set"


class QueueNotSet(LinklyError):
    """A request that does not say which queue."""

    code = "queue_not_set"


class MessageIdNotSet(LinklyError):
    """A request that does not say which message."""

    code = "message_id_not_set"


class TopicRequired(LinklyError):
    """A request that does not say which topic or queue."""

    code = "topic_required"
