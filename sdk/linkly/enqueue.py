"""The action of a call that goes through a queue, as its caller writes it (docs/protocol.md 3.4).

This module must never know sockets, codecs, the bus or the engine.
"""

from __future__ import annotations

from datetime import datetime

import msgspec


class Enqueue(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="enqueue"):
    """Action of a call that goes through a durable queue; it is answered with a `Receipt`.

    A time is a `datetime` with its zone, or RFC 3339 text with one; the past means now. What a queue makes of the
    options is said by its worker.

    Attributes:
        queue: Its name.
        delay_ms: The job becomes due after this time.
        run_at: The job becomes due at this time.
        priority: Among the jobs of the queue that are due.
        idempotency_key: A second enqueue under this key is answered with the first one's receipt.
        expires_at: A job that has not begun by then is not run.
        message_group: The jobs of one group of a fifo queue are run one after the other.
    """

    queue: str
    delay_ms: int | None = None
    run_at: datetime | str | None = None
    priority: int | None = None
    idempotency_key: str | None = None
    expires_at: datetime | str | None = None
    message_group: str | None = None
