"""What the store asks and answers: queues, what happened to jobs and where, how much a queue holds.

It knows no database.
"""

from __future__ import annotations

import msgspec

from linkly_workers.queue.jobs import Claimed, Ended, Reason, State, error_text
from linkly_workers.queue.settings import QueueSettings


class QueueRow(msgspec.Struct):
    """A queue as it is stored.

    Attributes:
        id: Its number.
        kind: `queue`, or `subscription`: what one function has of a topic.
        name: Of the queue or of the topic.
        namespace: Of the function.
        function_id: Of a subscription.
        settings: Of a subscription, JSON text: they outlive its worker.
        paused: Nothing of it is started.
        made_at: Milliseconds since the epoch.
        ended_at: When its subscriber took it back; what is left of it waits.
    """

    id: int
    kind: str
    name: str
    namespace: str
    function_id: str
    settings: str
    paused: bool
    made_at: int
    ended_at: int | None

    @property
    def has_settings(self) -> bool:
        """Whether it was ever subscribed."""
        return self.settings != "{}"

    @property
    def title(self) -> str:
        """What it is called: a named queue's name, else `topic::function@namespace`, as iii's listings have it."""
        return f"{self.name}::{self.function_id}@{self.namespace}" if self.function_id else self.name


class Room(msgspec.Struct, frozen=True):
    """How much a queue may hold, or holds: jobs that have not ended, and bytes of their payloads."""

    max_jobs: int
    max_bytes: int

    @classmethod
    def of(cls, settings: QueueSettings) -> Room:
        """Return what the settings say."""
        return cls(settings.max_jobs, settings.max_bytes)


class Turn(msgspec.Struct):
    """What a turn has brought: positions of the attempts whose end was taken, and the jobs that begin."""

    taken: set[int]
    claimed: list[Claimed]


class Seen(msgspec.Struct):
    """What a look at a shared database has found.

    Attributes:
        lanes: Numbers of those that have jobs which can start.
        due_at: When a job is due next.
        are_lost: Jobs are active without a lease.
        version: Another one if a queue was made, changed, paused or ended.
    """

    lanes: list[int]
    due_at: int | None
    are_lost: bool
    version: int


class Due(msgspec.Struct):
    """A job whose time has come.

    Attributes:
        position: Of the job.
        queue: In which it is.
        message_group: In which it stands.
        expires: It is of no use any more; else it waits its turn from now on.
    """

    position: int
    queue: int
    message_group: str | None
    expires: bool


class Lost(msgspec.Struct):
    """A job that ran when its engine ended.

    Attributes:
        position, starts, engine: The attempt's token.
        returned: Starts that do not count.
        queue: In which it is.
        message_group: In which it stands.
    """

    position: int
    starts: int
    engine: int
    returned: int
    queue: int
    message_group: str | None

    def ended(self, max_attempts: int) -> Ended:
        """Say what becomes of it: dead, if it has no start left."""
        error = None
        state, reason = State.WAITING, None
        if self.starts - self.returned >= max_attempts:
            state, reason = State.DEAD, Reason.WORKER_LOST
            message = f"the engine ended while the job ran, for the last of {max_attempts} attempts"
            error = error_text({"code": "worker_lost", "message": message})
        return Ended(
            position=self.position,
            starts=self.starts,
            state=state,
            reason=reason,
            error=error,
            message_group=self.message_group,
        )


class Moving(msgspec.Struct):
    """A job that begins anew.

    Attributes:
        position: Where it is.
        lane: Where it goes.
        message_group: Where it stands then.
        was_in: Where it stands now.
    """

    position: int
    lane: int
    message_group: str | None
    was_in: str | None
