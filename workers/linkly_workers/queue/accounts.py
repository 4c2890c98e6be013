"""How many jobs each queue has, what has become of its others, and whether counters and rows agree."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec

from linkly_workers.queue.jobs import Lane, State, unpack_head
from linkly_workers.queue.queues import Queues
from linkly_workers.queue.rates import Rates
from linkly_workers.queue.records import Records, json_list
from linkly_workers.queue.rows import Absent, Difference, LastMinute, QueueInfo, Verification, Verified
from linkly_workers.queue.store import QueueStore
from linkly_workers.queue.stored import QueueRow

ENDS = ("done", "dead", "cancelled", "discarded", "expired")


class _Live(msgspec.Struct):
    """Jobs of one function in one state, and the position of the first of them; the columns of script `depth`."""

    queue: int
    namespace: str
    function_id: str
    state: State
    jobs: int
    first: int


class Accounts:
    """The accounts of a store.

    Args:
        store: Where the jobs are.
        queues: Which are served.
        records: Reads jobs.
        rates: What has happened.
    """

    def __init__(self, store: QueueStore, queues: Queues, records: Records, rates: Rates) -> None:
        self._store = store
        self._queues = queues
        self._records = records
        self._rates = rates

    async def of(self, rows: list[QueueRow]) -> list[QueueInfo]:
        """Return what there is to say of queues."""
        live: dict[int, list[_Live]] = defaultdict(list)
        for each in msgspec.convert(await self._store.scripts.query("depth", {}), list[_Live]):
            live[each.queue].append(each)
        counts = {row["queue"]: row for row in await self._store.scripts.query("counts", {})}
        first = {
            row.id: min((each.first for each in live[row.id] if each.state is State.WAITING), default=0) for row in rows
        }
        asked = {"positions": json_list([position for position in first.values() if position])}
        heads = {row["position"]: row["head"] for row in await self._store.scripts.query("heads", asked)}
        return [self._info(row, live[row.id], counts.get(row.id, {}), heads.get(first[row.id])) for row in rows]

    def _info(self, row: QueueRow, live: list[_Live], counts: dict[str, Any], head: str | None) -> QueueInfo:
        served = self._queues.served(row.id)
        depth = {state: sum(each.jobs for each in live if each.state is state) for state in State}
        absent: dict[tuple[str, str], int] = defaultdict(int)
        for each in live:
            lane = Lane(0, row.id, each.namespace, each.function_id)
            if each.function_id and each.state is not State.ACTIVE and not self._queues.functions.serve(lane):
                absent[each.function_id, each.namespace] += each.jobs
        oldest = None
        if head is not None:
            oldest = max(0, self._store.now() - unpack_head(msgspec.convert(head, bytes)).enqueued_at)
        minute = [self._rates.last_minute(row.id, what) for what in ("accepted", "done", "dead")]
        return QueueInfo(
            queue=row.title,
            kind=row.kind,
            configured=served is not None and row.ended_at is None,
            paused=row.paused,
            waiting=depth[State.WAITING],
            delayed=depth[State.DELAYED],
            retrying=depth[State.RETRYING],
            active=depth[State.ACTIVE],
            oldest_waiting_ms=oldest,
            last_minute=LastMinute(*minute),
            absent=[Absent(*key, jobs) for key, jobs in sorted(absent.items())],
            late=0 if served is None else served.consumer.late,
            settings=None if served is None else served.settings,
            **{name: counts.get(name, 0) for name in ("accepted", *ENDS, "bytes")},
        )

    async def verify(self) -> Verification:
        """Compare the counters with the rows."""
        rows: dict[int, dict[int, dict[str, int]]] = defaultdict(dict)
        for row in await self._store.scripts.query("verify", {}):
            rows[row["queue"]][row["state"]] = row
        accounts: list[Verified] = []
        differences: list[Difference] = []
        for queue, by_state in sorted(rows.items()):
            account, found = await self._verified(queue, by_state)
            accounts.append(account)
            differences += found
        return Verification(not differences, accounts, differences)

    async def _verified(self, queue: int, by_state: dict[int, dict[str, int]]) -> tuple[Verified, list[Difference]]:
        counted = by_state.get(-1, {})
        rows = {state.name.lower(): by_state.get(state, {}).get("jobs", 0) for state in State}
        live = [state for state in State if state <= State.ACTIVE]
        account = Verified(
            queue=await self._records.title(queue),
            accepted=counted.get("accepted", 0),
            **{state.name.lower(): rows[state.name.lower()] for state in live},
            **{name: counted.get(name, 0) for name in ENDS},
        )
        ended = sum(counted.get(name, 0) for name in ENDS)
        kept = [(name, counted.get(name, 0), rows[name]) for name in ENDS if name != "dead"]
        compared = [
            ("jobs that have not ended", account.accepted - ended, sum(rows[state.name.lower()] for state in live)),
            ("bytes", counted.get("bytes", 0), sum(by_state.get(state, {}).get("bytes", 0) for state in live)),
            ("dead", account.dead, rows["dead"]),
            ("jobs of message groups that are no line", 0, by_state.get(-2, {}).get("jobs", 0)),
            # Rows are removed some time after their end: there may be fewer, and never more.
            *[(name, number, found) for name, number, found in kept if found > number],
        ]
        return account, [Difference(account.queue, *each) for each in compared if each[1] != each[2]]
