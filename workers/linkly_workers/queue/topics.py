"""Subscriptions and published messages in the database: what `store.py` is for jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from linkly_workers._scripts import not_committed
from linkly_workers.queue.jobs import NewJob, Reason, error_text
from linkly_workers.queue.store import EXPECTATION_FAILED, QueueStore, job_row
from linkly_workers.queue.stored import QueueRow, Room
from linkly_workers.queue.terms import Terms

SUBSCRIPTION = "subscription"
KEPT = "kept"
"""Kind and name of the queue of messages whose topic has no subscription."""

LINE = ""
"""The message group of all jobs of a fifo subscription."""


class Key(msgspec.Struct, frozen=True):
    """Which subscription."""

    topic: str
    namespace: str
    function_id: str


class Full(msgspec.Struct, kw_only=True):
    """A subscription that has no room for a message.

    Attributes:
        id: The store's number.
        name: Of the topic.
        namespace: Of the function.
        function_id: Which one.
        lane: The store's number of its lane.
        jobs: How many have not ended.
    """

    id: int
    name: str
    namespace: str
    function_id: str
    lane: int
    jobs: int


class Topics:
    """Topics of a store.

    Args:
        store: Where the jobs are.
        room: How much each subscription holds.
        keep: So many messages are kept that nobody has subscribed to ...
        keep_ms: ... for so long.
    """

    def __init__(self, store: QueueStore, room: Room, keep: int, keep_ms: int) -> None:
        self._store = store
        self._scripts = store.scripts
        self.room = room
        self._keep = keep
        self._keep_ms = keep_ms
        self._kept_lane = 0

    async def open(self) -> None:
        """Make the queue of kept messages."""
        row = await self._store.make_queue(KEPT, KEPT, Room(self._keep, self.room.max_bytes))
        self._store.kept = row.id
        self._kept_lane = (await self._store.lane(row.id, "", "")).id

    # --- subscriptions -------------------------------------------------------------------------------------

    async def subscribe(self, key: Key, terms: Terms, *, earliest: bool) -> QueueRow:
        """Make a subscription, or one that is there anew; return it.

        Args:
            key: Which one.
            terms: What it asks for; nothing of it is active if it was of another type so far.
            earliest: If it gets no messages yet, those that its topic has kept are its own.
        """
        values = msgspec.structs.asdict(key)
        found = await self._find(key)
        if found is None:
            await self._scripts.execute("make_subscription", {**values, "now": self._store.now()})
            found = await self._find(key)
            assert found is not None
        await self._store.counted_here(found.id, self.room)
        lane = await self._store.lane(found.id, key.namespace, key.function_id)
        is_line = terms.type == "fifo"
        turned = found.has_settings and Terms.stored(found.settings).type != terms.type
        values |= {"queue": found.id, "lane": lane.id, "message_group": LINE if is_line else None}
        values |= {"settings": terms.text()}
        values |= {"kept": self._store.kept, "engine": self._store.engine}
        scripts = ["lock_topic_alone", "subscribe"]
        if turned:
            scripts.append("line_up")
        if earliest and found.ended_at is not None:
            scripts.append("take_kept")
        statements = [each for script in scripts for each in await self._scripts.script(script, values)]
        await self._store.change(found.id, [LINE] if is_line or turned else [], statements)
        return msgspec.structs.replace(found, settings=terms.text(), ended_at=None)

    async def unsubscribe(self, row: QueueRow) -> None:
        """Note that a subscription gets nothing more."""
        values = {"queue": row.id, "topic": row.name, "now": self._store.now()}
        scripts = ("lock_topic_alone", "unsubscribe")
        await self._store.change(
            row.id, [], [s for script in scripts for s in await self._scripts.script(script, values)]
        )

    async def _find(self, key: Key) -> QueueRow | None:
        return next(
            (row for row in await self._store.queues() if row.kind == SUBSCRIPTION and key_of(row) == key), None
        )

    # --- messages ------------------------------------------------------------------------------------------

    async def publishing(self, message: NewJob, topic: str) -> list[dict[str, Any]]:
        """Return the statements that accept a message for every subscription of a topic, all or none.

        For a transaction, which they fail if a subscription has no room; the rows of the results, those of one column,
        are the queues that have got it.
        """
        values = {**job_row(message), "topic": topic, "engine": self._store.engine, "kept": self._store.kept}
        values |= {"kept_lane": self._kept_lane, "expires_at": self._store.now() + self._keep_ms}
        values |= msgspec.structs.asdict(self.room)
        [full] = await self._scripts.script("full", values)
        return [
            *await self._scripts.script("lock_topic", values),
            {**full, "expect_rows": 0},
            *await self._scripts.script("publish", values),
        ]

    async def publish(self, messages: Sequence[tuple[str, NewJob]]) -> Counter[int] | None:
        """Accept messages, each for every subscription of its topic; without one it is kept.

        Returns:
            How many each queue has got. `None`: nothing was accepted, because a subscription has no room.
        """
        in_order = sorted(messages, key=lambda each: each[0])  # so that no two engines wait for each other's topics
        statements = [each for topic, message in in_order for each in await self.publishing(message, topic)]
        answer = await self._scripts.run(statements)
        if not answer["committed"]:
            if (answer.get("error") or {}).get("code") == EXPECTATION_FAILED:
                return None
            raise not_committed(answer)
        return Counter(row[0] for result in answer["results"] for row in result["rows"] if len(row) == 1)

    async def full(self, topic: str, size: int) -> list[Full]:
        """Return the subscriptions of a topic that have no room for a message of so many bytes."""
        values: dict[str, Any] = {"topic": topic, "size": size, **msgspec.structs.asdict(self.room)}
        return msgspec.convert(await self._scripts.query("full", values), list[Full])

    async def bury_oldest(self, full: Full, most: int) -> list[int]:
        """Let the oldest jobs of a subscription be dead that wait; return their positions."""
        message = "the subscription had no room for newer messages (`when_full: dead_letter`)"
        values: dict[str, Any] = {"queue": full.id, "lane": full.lane, "most": most, "engine": self._store.engine}
        values |= {"now": self._store.now(), "reason": Reason.TOO_MANY.value}
        values["error"] = error_text({"code": Reason.TOO_MANY.value, "message": message})
        statements = await self._scripts.script("bury_oldest", values)
        return [row[0] for row in (await self._store.change(full.id, [LINE], statements))[-1]["rows"]]

    async def bound_kept(self) -> None:
        """End the oldest kept messages if there are too many; a tenth more, so that this is not done each time."""
        too_many = (await self._store.held(self._store.kept)).max_jobs - self._keep
        if too_many > 0:
            most = too_many + self._keep // 10
            values = {"kept": self._store.kept, "engine": self._store.engine, "now": self._store.now(), "most": most}
            await self._scripts.transaction("drop_kept", values)


def key_of(row: QueueRow) -> Key:
    """Return which subscription a stored queue is."""
    return Key(row.name, row.namespace, row.function_id)
