"""Jobs in a database of the `database` worker: everything that is asked of it, and nothing that decides.

Each method is one transaction, in which the counters change with the rows. A transaction of which nobody knows whether
it happened raises what the database says; whoever asked finds out by `active_here`, and by the ids of its jobs.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, TypeVar

import msgspec

from linkly.atomic import inside
from linkly.clock import Clock
from linkly.context import current_invocation
from linkly_workers._scripts import ROWS, Keeper, Scripts, Trigger, not_committed
from linkly_workers.queue.errors import TooLargeToBegin
from linkly_workers.queue.jobs import Claimed, Ended, Lane, NewJob, Reason, State, pack_head
from linkly_workers.queue.stored import Due, Lost, Moving, QueueRow, Room, Seen, Turn

JOBS = Keeper("queue", "jobs", "linkly_workers.queue.sql", "db: NAME", isolation="read_committed")

MOST_ROWS = ROWS[-1]
DUE_AT_ONCE = 1000
"""Jobs that become due in one transaction."""

T = TypeVar("T")


class QueueStore:
    """The jobs of one database.

    Args:
        trigger: Calls `database::*`.
        db: Which database.
        clock: For the times of jobs.
        lease_ms: How long others leave alone what this engine runs, where several share the database.

    Attributes:
        room: How much a queue may hold, by its number.
        engine: Number of this engine.
        kept: Number of the queue of messages that nobody has subscribed to.
    """

    def __init__(self, trigger: Trigger, db: str, clock: Clock, lease_ms: int) -> None:
        self._trigger = trigger
        self._db = db
        self._scripts = Scripts(trigger, db, JOBS)
        self._lease_ms = lease_ms
        self._name = ""
        self._clock = clock
        self._lanes: dict[tuple[int, str, str], Lane] = {}
        self._lanes_are_old = False
        self._making = asyncio.Lock()
        self.room: dict[int, Room] = {}
        self.engine = 0
        self.kept = 0

    @property
    def scripts(self) -> Scripts:
        """What runs the scripts, for what else is kept in this database."""
        return self._scripts

    def now(self) -> int:
        """Return the time, milliseconds since the epoch."""
        return int(self._clock.time() * 1000)

    # --- queues and lanes ----------------------------------------------------------------------------------

    async def open(self, name: str) -> None:
        """Make the tables and enter this engine.

        Raises:
            ConfigError: There is no such database, or the tables cannot be made in it.
        """
        await self._scripts.migrate()
        self._name = name
        [[row]] = [
            each["rows"] for each in await self._scripts.transaction("make_engine", {"name": name, "now": self.now()})
        ]
        self.engine = row[0]
        await self._read_lanes()

    async def has_engine(self, name: str) -> bool:
        """Return whether an engine of this name has entered this database."""
        return bool(await self._scripts.query("engine", {"name": name}))

    async def queues(self) -> list[QueueRow]:
        """Return every queue that there is, or was."""
        return msgspec.convert(await self._scripts.query("queues", {}), list[QueueRow], strict=False)

    async def make_queue(
        self, kind: str, name: str, room: Room, namespace: str = "", function_id: str = "", settings: str = "{}"
    ) -> QueueRow:
        """Make a queue, or give one that is there its settings; return it."""
        values = {"kind": kind, "name": name, "namespace": namespace, "function_id": function_id, "settings": settings}
        await self._scripts.execute("make_queue", {**values, "now": self.now()})
        key = (kind, name, namespace, function_id)
        [row] = [
            each for each in await self.queues() if (each.kind, each.name, each.namespace, each.function_id) == key
        ]
        await self.counted_here(row.id, room)
        return row

    async def counted_here(self, queue: int, room: Room) -> None:
        """Make the row in which this engine counts what happens to a queue."""
        await self._scripts.execute("counted_here", {"queue": queue, "engine": self.engine})
        self.room[queue] = room

    async def pause(self, queue: int, *, paused: bool) -> None:
        """Note whether anything of a queue may start."""
        await self._scripts.execute("pause", {"queue": queue, "paused": int(paused)})

    async def lane(self, queue: int, namespace: str, function_id: str) -> Lane:
        """Return the lane of a function in a queue; one that is not there is made, in the transaction of the caller."""
        key = (queue, namespace, function_id)
        made_in = inside(current_invocation.get())
        if key not in self._lanes and made_in is not None and made_in.db == self._db:
            return await self._lane_inside(made_in.transaction_id, key)
        if key not in self._lanes:
            async with self._making:
                if key not in self._lanes:
                    values = {"queue": queue, "namespace": namespace, "function_id": function_id}
                    await self._scripts.execute("make_lane", values)
                    await self._read_lanes()
        return self._lanes[key]

    async def _lane_inside(self, transaction_id: str, key: tuple[int, str, str]) -> Lane:
        values = {"queue": key[0], "namespace": key[1], "function_id": key[2]}
        asked = {"transaction_id": transaction_id, "integers": "number"}
        for statement in await self._scripts.script("make_lane", values):
            await self._trigger("database::transactionExecute", {**asked, **statement})
        [statement] = await self._scripts.script("lanes")
        rows = (await self._trigger("database::transactionQuery", {**asked, **statement}))["rows"]
        found = msgspec.convert(rows, list[Lane])
        return next(lane for lane in found if (lane.queue, lane.namespace, lane.function_id) == key)

    def lanes_made(self, numbers: Iterable[int]) -> None:
        """Note that there are lanes that were made in a transaction, which is committed now, or by another engine."""
        self._lanes_are_old |= not {lane.id for lane in self._lanes.values()}.issuperset(numbers)

    async def lanes(self, queue: int | None = None) -> list[Lane]:
        """Return the lanes of a queue, or all, as far as this engine was told of them."""
        if self._lanes_are_old:
            await self._read_lanes()
        return [lane for lane in self._lanes.values() if queue in (None, lane.queue)]

    async def _read_lanes(self) -> None:
        self._lanes_are_old = False  # what is noted meanwhile may come too late for this
        try:
            lanes = msgspec.convert(await self._scripts.query("lanes", {}), list[Lane])
        except BaseException:
            self._lanes_are_old = True
            raise
        self._lanes = {(lane.queue, lane.namespace, lane.function_id): lane for lane in lanes}

    # --- accepting -----------------------------------------------------------------------------------------

    async def accepting(self, jobs: Sequence[NewJob], window_ms: int) -> list[dict[str, Any]]:
        """Return the statements that accept jobs, all or none: for a transaction, which they fail if they cannot.

        The last result of each `accept_with_key`, the only ones with rows, is the receipt that its key has.
        """
        statements: list[dict[str, Any]] = []
        by_queue: dict[int, list[NewJob]] = {}
        for job in jobs:
            by_queue.setdefault(job.queue, []).append(job)
        for queue, mine in sorted(by_queue.items()):
            groups = [job.message_group for job in mine]
            statements += await self._locking(queue, groups)
            # In order, which is that of groups.
            for has_key, some in groupby(mine, lambda job: job.head.key is not None):
                for part in [[job] for job in some] if has_key else _in_parts(list(some)):
                    statements += await (self._with_key(part[0], window_ms) if has_key else self._without_key(part))
            statements += await self._regrouping(queue, groups)
        return statements

    async def _without_key(self, jobs: Sequence[NewJob]) -> list[dict[str, Any]]:
        queue = jobs[0].queue
        values = {
            "into": queue,
            "jobs": len(jobs),
            "all_bytes": sum([job.size for job in jobs]),
            **self._counted(queue),
            "id": [job.id for job in jobs],
            "lane": [job.lane for job in jobs],
            "priority": [job.priority for job in jobs],
            "message_group": [job.message_group for job in jobs],
            "due_at": [job.due_at for job in jobs],
            "expires_at": [job.expires_at for job in jobs],
            "size": [job.size for job in jobs],
            "head": [_blob(pack_head(job.head)) for job in jobs],
            "payload": [job.payload for job in jobs],
        }
        first, *rest = await self._scripts.script("accept", values)
        return [{**first, "expect_rows": 1}, *rest]

    async def _with_key(self, job: NewJob, window_ms: int) -> list[dict[str, Any]]:
        values = {"key": job.head.key, "digest": _blob(job.digest), "window_ms": window_ms, "now": self.now()}
        values |= job_row(job) | self._counted(job.queue)
        *writes, receipt = await self._scripts.script("accept_with_key", values)
        return [*writes, {**receipt, "expect_rows": 1}]

    def _counted(self, queue: int) -> dict[str, int]:
        return {"engine": self.engine, **msgspec.structs.asdict(self.room[queue])}

    async def accept(self, jobs: Sequence[NewJob], window_ms: int) -> list[str] | None:
        """Accept jobs, all or none.

        Returns:
            Their receipts, which are those of earlier jobs where a key was used before. `None`: nothing was accepted,
            because a queue has no room, or a key was used for something else.

        Raises:
            HandlerFailed, Unavailable: The database did not commit; nothing was accepted.
        """
        statements = await self.accepting(jobs, window_ms)
        answer = await self._scripts.run(statements)
        if not answer["committed"]:
            if (answer.get("error") or {}).get("code") == EXPECTATION_FAILED:
                return None
            raise not_committed(answer)
        receipts = iter([result["rows"][0][0] for result in answer["results"] if result["rows"]])
        by_key = {id(job): next(receipts) for job in _by_queue(jobs) if job.head.key is not None}
        return [by_key.get(id(job), job.id) for job in jobs]

    def check_waits(self) -> None:
        """Refuse what would wait for the transaction in which it is called for.

        Raises:
            WouldWaitForItself: That one keeps all others from writing.
        """
        made_in = inside(current_invocation.get())
        if made_in is not None and made_in.db == self._db and not self._scripts.are_shared:
            raise made_in.error()

    async def is_there(self, job: NewJob) -> dict[str, Any]:
        """Return the statement that fails its transaction if a job was not accepted by those in front of it."""
        [statement] = await self._scripts.script("is_there", {"id": job.id})
        return {**statement, "expect_rows": 1}

    async def held(self, queue: int) -> Room:
        """Return what a queue holds now."""
        [row] = await self._scripts.query("held", {"queue": queue})
        return Room(row["jobs"], row["bytes"])

    async def receipt_of(self, queue: int, key: str) -> tuple[str, bytes] | None:
        """Return the receipt that an idempotency key has, and the digest of its job; `None`: nobody has used it."""
        rows = await self._scripts.query("key", {"queue": queue, "key": key, "now": self.now()})
        return (rows[0]["id"], msgspec.convert(rows[0]["digest"], bytes)) if rows else None

    async def receipts_of(self, jobs: Sequence[NewJob]) -> list[str] | None:
        """Return the receipts of jobs that were accepted together; `None`: they were not."""
        without_key = next((job for job in jobs if job.head.key is None), None)
        if without_key is not None and not await self._scripts.query("has_job", {"id": without_key.id}):
            return None
        receipts: list[str] = []
        for job in jobs:
            used = (job.id, job.digest) if job.head.key is None else await self.receipt_of(job.queue, job.head.key)
            if used is None or used[1] != job.digest:
                return None
            receipts.append(used[0])
        return receipts

    # --- running -------------------------------------------------------------------------------------------

    async def turn(
        self,
        queue: int,
        ended: Sequence[Ended],
        lanes: Sequence[Lane] = (),
        most: int = 0,
        *,
        groups: bool = False,
        engine: int | None = None,
    ) -> Turn:
        """Take the ends of attempts and begin new ones, in one transaction.

        Args:
            queue: Which one.
            ended: Whose token is not valid any more, that is left as it is.
            lanes: Of which jobs may begin.
            most: So many at most.
            groups: It is a queue of message groups.
            engine: Where the attempts ran that have ended; `None`: here.

        Raises:
            TooLargeToBegin: So many jobs are larger together than an answer of the database may be.
        """
        statements: list[dict[str, Any]] = []
        mine = {"queue": queue, "engine": self.engine, "now": self.now()}
        token = {} if engine is None else {"engine": engine}
        ends: list[int] = []
        groups_of_ends = [end.message_group for end in ended]
        statements += await self._locking(queue, groups_of_ends)
        for script, states, columns in _ENDS:
            for some in _in_parts([end for end in ended if end.state in states]):
                values = mine | token | {name: [_stored(getattr(end, name)) for end in some] for name in columns}
                statements += await self._scripts.script(script, values)
                ends.append(len(statements) - 1)
        statements += await self._regrouping(queue, groups_of_ends)
        claim = len(statements)
        if most and lanes:
            asked = {
                **mine,
                **self._lease(),
                "most": most,
                "lanes": msgspec.json.encode([lane.id for lane in lanes]).decode(),
            }
            statements += await self._scripts.script("claim_groups" if groups else "claim", asked)
        results = await self._run(statements)
        taken = {row[0] for place in ends for row in results[place]["rows"]}
        claimed = results[claim]["rows"] if claim < len(results) else []
        jobs = msgspec.convert(claimed, list[Claimed])
        return Turn(taken, sorted(jobs, key=lambda job: (-job.priority, job.position)))

    async def active_here(self, queue: int) -> list[Lost]:
        """Return the attempts of a queue that run on this engine, as far as the database knows."""
        rows = await self._scripts.query("active_here", {"engine": self.engine, "queue": queue})
        return msgspec.convert(rows, list[Lost])

    async def lost(self) -> list[Lost]:
        """Return the attempts of engines that are gone; to be called at the start where one has the database alone."""
        return msgspec.convert(await self._scripts.query("lost", {"engine": self.engine}), list[Lost])

    # --- sharing -------------------------------------------------------------------------------------------

    @property
    def is_shared(self) -> bool:
        """Whether other engines may have the same jobs."""
        return self._scripts.are_shared

    async def poll(self) -> Seen:
        """Look what others have changed; only where the database is shared, as all of this."""
        rows = await self._scripts.query("poll", {"engine": self.engine})
        numbers: dict[str, list[Any]] = {}
        for row in rows:
            numbers.setdefault(row["what"], []).append(row["number"])
        [due_at], [lost], [version] = (numbers[what] for what in ("due", "lost", "queues"))
        return Seen(numbers.get("lane", []), due_at, bool(lost), version)

    async def keep_lease(self) -> None:
        """Let others leave alone what runs here, for one lease more."""
        await self._scripts.transaction("keep_lease", self._lease())

    async def fold(self) -> None:
        """Put together what engines have counted that are gone."""
        await self._fold(leaving=0)

    async def leave(self) -> None:
        """Leave the database: nothing runs here any more."""
        await self._fold(leaving=self.engine)

    async def _fold(self, *, leaving: int) -> None:
        await self._scripts.transaction("fold", {"engine": self.engine, "leaving": leaving, "now": self.now()})

    def _lease(self) -> dict[str, Any]:
        return {"engine": self.engine, "name": self._name, "lease_ms": self._lease_ms, "now": self.now()}

    # --- repairing -----------------------------------------------------------------------------------------

    async def cancel(self, job_id: str, queue: int, message_group: str | None) -> bool:
        """End a job; its group goes on. Return whether it was: it had ended, or somebody is changing it."""
        locking = await self._locking(queue, (message_group,))
        values = {"id": job_id, "queue": queue, "engine": self.engine, "now": self.now()}
        script = await self._scripts.script("cancel", values)
        results = await self._run([*locking, *script, *await self._regrouping(queue, (message_group,))])
        return bool(results[len(locking) + len(script) - 1]["rows"])

    async def redrive(self, queue: int, into: int, moving: Sequence[Moving]) -> int:
        """Let jobs of a queue that are dead or wait begin anew in a queue; return how many."""
        values = {"queue": queue, "into": into, "engine": self.engine, "now": self.now()}
        columns = {name: [getattr(each, name) for each in moving] for name in ("position", "lane", "message_group")}
        groups: dict[int, set[str | None]] = {queue: {each.was_in for each in moving}}
        groups.setdefault(into, set()).update(each.message_group for each in moving)
        locking = [each for number in sorted(groups) for each in await self._locking(number, groups[number])]
        script = await self._scripts.script("redrive", values | columns)
        after = [each for number in sorted(groups) for each in await self._regrouping(number, groups[number])]
        results = await self._run([*locking, *script, *after])
        return len(results[len(locking) + len(script) - 1]["rows"])

    async def discard(self, queue: int, positions: Sequence[int], groups: Collection[str | None]) -> list[int]:
        """Throw jobs of a queue away that are dead or wait; return their positions."""
        values = {"queue": queue, "engine": self.engine, "now": self.now(), "position": positions}
        locking = await self._locking(queue, groups)
        script = await self._scripts.script("discard", values)
        results = await self._run([*locking, *script, *await self._regrouping(queue, groups)])
        return [row[0] for row in results[len(locking) + len(script) - 1]["rows"]]

    async def give_up(
        self, queue: int, positions: Sequence[int], groups: Collection[str | None], reason: Reason, error: str
    ) -> list[int]:
        """Let jobs of a queue that wait be dead; return their positions."""
        values = {"queue": queue, "engine": self.engine, "now": self.now(), "reason": reason, "error": error}
        locking = await self._locking(queue, groups)
        script = await self._scripts.script("give_up", {**values, "position": positions})
        results = await self._run([*locking, *script, *await self._regrouping(queue, groups)])
        return [row[0] for row in results[len(locking) + len(script) - 1]["rows"]]

    async def give_groups(
        self, queue: int, positions: Sequence[int], groups: Sequence[str | None], were: Sequence[str | None]
    ) -> None:
        """Let jobs of a queue that have not begun stand in other message groups."""
        changed = {*groups, *were}
        values = {"position": positions, "message_group": groups}
        await self._run(
            [
                *await self._locking(queue, changed),
                *await self._scripts.script("give_groups", values),
                *await self._regrouping(queue, changed),
            ]
        )

    # --- time ----------------------------------------------------------------------------------------------

    async def next_due(self) -> int | None:
        """Return when a job is due or expires next."""
        [row] = await self._scripts.query("next_due", {})
        at: int | None = row["at"]
        return at

    async def promote(self) -> list[Due]:
        """End what has expired and let those wait their turn whose time has come; return what was found.

        There may be more as long as it returns anything.
        """
        rows = await self._scripts.query("due", {"now": self.now(), "most": DUE_AT_ONCE})
        found = sorted(msgspec.convert(rows, list[Due], strict=False), key=lambda due: (due.queue, due.position))
        statements: list[dict[str, Any]] = []
        for queue, some in groupby(found, lambda due: due.queue):
            mine = list(some)
            # Of those that are kept the groups are topics, and no lines.
            groups = [] if queue == self.kept else [due.message_group for due in mine]
            statements += await self._locking(queue, groups)
            for script, expires in (("expire", True), ("promote", False)):
                for part in _in_parts([due.position for due in mine if due.expires is expires]):
                    values = {"queue": queue, "engine": self.engine, "now": self.now(), "position": part}
                    statements += await self._scripts.script(script, values)
            statements += await self._regrouping(queue, groups)
        await self._run(statements)
        return found

    async def _locking(self, queue: int, groups: Iterable[str | None]) -> list[dict[str, Any]]:
        """Return the statements that come before any that changes jobs of groups, in a transaction."""
        return await self._of_groups("lock_groups", queue, groups)

    async def _regrouping(self, queue: int, groups: Iterable[str | None]) -> list[dict[str, Any]]:
        """Return the statements that say anew which jobs are the heads of groups."""
        return await self._of_groups("regroup", queue, groups)

    async def _of_groups(self, script: str, queue: int, groups: Iterable[str | None]) -> list[dict[str, Any]]:
        names = sorted({name for name in groups if name is not None})
        values = {"queue": queue, "lease_ms": self._lease_ms}
        return [
            each for some in _in_parts(names) for each in await self._scripts.script(script, {**values, "name": some})
        ]

    async def change(
        self, queue: int, groups: Iterable[str | None], statements: Sequence[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Run statements in one transaction that change jobs of these groups of a queue; return their results."""
        names = list(groups)
        before, after = await self._locking(queue, names), await self._regrouping(queue, names)
        results = await self._run([*before, *statements, *after])
        return results[len(before) : len(before) + len(statements)]

    async def _run(self, statements: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not statements:
            return []
        answer = await self._scripts.run(statements)
        if not answer["committed"]:
            error = not_committed(answer)
            if (answer.get("error") or {}).get("code") == RESULT_TOO_LARGE:
                raise TooLargeToBegin(error.message) from error
            raise error
        results: list[dict[str, Any]] = answer["results"]
        return results


RESULT_TOO_LARGE = "RESULT_TOO_LARGE"
"""Code of a transaction whose rows are larger than the database worker's `max_result_bytes`; those of claims can be."""

EXPECTATION_FAILED = "EXPECTATION_FAILED"
"""Code of a transaction in which a statement changed another number of rows than it had to."""

_ENDS: tuple[tuple[str, frozenset[State], tuple[str, ...]], ...] = (
    ("finish", frozenset((State.DONE,)), ("position", "starts")),
    ("bury", frozenset((State.DEAD,)), ("position", "starts", "reason", "error")),
    ("put_back", frozenset((State.RETRYING, State.WAITING)), ("position", "starts", "due_at", "error", "returned")),
)
"""Script, for which ends, and the columns of its rows. The last statement of each answers whose end was taken."""


def _by_queue(jobs: Sequence[NewJob]) -> list[NewJob]:
    return sorted(jobs, key=lambda job: job.queue)


def job_row(job: NewJob) -> dict[str, Any]:
    """Return a job as scripts take it."""
    return {
        "id": job.id,
        "queue": job.queue,
        "lane": job.lane,
        "state": int(State.WAITING if job.due_at is None else State.DELAYED),
        "priority": job.priority,
        "message_group": job.message_group,
        "due_at": job.due_at,
        "expires_at": job.expires_at,
        "size": job.size,
        "head": _blob(pack_head(job.head)),
        "payload": job.payload,
    }


def _blob(value: bytes) -> dict[str, str]:
    return {"$blob": base64.b64encode(value).decode()}


def _stored(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def _in_parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), MOST_ROWS):
        yield items[start : start + MOST_ROWS]
