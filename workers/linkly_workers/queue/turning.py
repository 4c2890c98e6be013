"""A queue that is turned into fifo, or back: the jobs in it get message groups, or lose them.

The group of a job is what the field of its payload says. Jobs that do not have the field are one line, the group
without a name, in the order of their acceptance; new ones are refused. Priorities do not count in a fifo queue and are
dropped.
"""

from __future__ import annotations

from linkly.errors import InvalidPayload
from linkly.invocation import Json
from linkly_workers.queue.enqueueing import group_of
from linkly_workers.queue.queues import Queue
from linkly_workers.queue.records import Records
from linkly_workers.queue.store import MOST_ROWS, QueueStore


async def turn(store: QueueStore, records: Records, queue: Queue) -> int:
    """Give the jobs of a queue that have not begun the groups that it has, or none; return how many that were."""
    number, count = queue.row.id, 0
    script = "ungrouped" if queue.has_groups else "grouped"
    while rows := await store.scripts.query(script, {"queue": number, "most": MOST_ROWS}):
        positions = [row["position"] for row in rows]
        payloads = await records.payloads_at(positions) if queue.has_groups else {}
        groups = [_group(queue, payloads.get(position)) for position in positions]
        await store.give_groups(number, positions, groups, [row["message_group"] for row in rows])
        count += len(rows)
    return count


def _group(queue: Queue, payload: str | None) -> str | None:
    if payload is None:
        return "" if queue.has_groups else None
    try:
        return group_of(Json(payload.encode()), queue, None)
    except InvalidPayload:
        return ""
