"""`database::atomic`: operations of several workers, all or none, in one transaction.

The workers that take part turn their operations into statements (`linkly.atomic`), which are run together with those of
the caller, in the order of the operations; no transaction is open while they do so. What they have relied on is stated
by `expect_rows`: where others were first, nothing is written, and they are asked again.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec

from linkly import Bus, function
from linkly.atomic import (
    AtomicRequest,
    AtomicResult,
    Call,
    Committed,
    Conflict,
    ExpectationFailed,
    NotAtomic,
    Operation,
    Prepare,
    Prepared,
    participant,
)
from linkly.context import current_invocation
from linkly.errors import FunctionNotFound, InvalidPayload, LinklyError, OutcomeUnknown
from linkly.invocation import Invocation, Json, trace_of
from linkly.schema import INSTEAD
from linkly_workers.database.backend import Database, Result
from linkly_workers.database.databases import Databases
from linkly_workers.database.errors import QueryTimeout
from linkly_workers.database.events import RowChangedEvents
from linkly_workers.database.lines import Lines
from linkly_workers.database.remembered import Remembered, digest_of
from linkly_workers.database.sessions import Sessions
from linkly_workers.database.shapes import Execute, StatementOutcome
from linkly_workers.database.values import as_values, check_parameters

log = logging.getLogger("linkly.database")

ATTEMPTS = 100
"""Those of this engine stand in line after the first one; others may be first again and again."""

PAUSES_S = (0.02, 0.1)
"""Before a transaction is sent again that failed without a trace and may succeed: a deadlock, a server that stops."""

_PLAIN = Execute(sql="")


class _Plan(msgspec.Struct):
    """What is to be run for some operations.

    Attributes:
        statements: In order, with their values.
        expected: The rows of each.
        places: Which operation each statement belongs to.
        answers: What each operation is answered; `None` for a statement of the caller's, whose result it is.
        after: What each worker that takes part wants to be told after the commit.
        about: Names of what they have read and write over.
    """

    statements: list[tuple[Any, list[Any]]] = []
    expected: list[int | None] = []
    places: list[int] = []
    answers: list[Json | None] = []
    after: dict[str, Json] = {}
    about: list[str] = []


class _Keeping(msgspec.Struct):
    """The statement that keeps the answer, and its values but for the last one."""

    statement: Any
    values: list[Any]


class Atomic:
    """Runs operations all or none."""

    _bus: Bus

    def __init__(self, databases: Databases, events: RowChangedEvents, sessions: Sessions) -> None:
        self._databases = databases
        self._sessions = sessions
        self._events = events
        self._remembered: dict[str, Remembered] = {}
        self._lines = Lines()
        self._telling: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def opened(self, bus: Bus) -> AsyncIterator[None]:
        """Serve; at the end tell what has been committed."""
        self._bus, self._remembered = bus, {}
        try:
            yield
        finally:
            await self.drain()

    async def drain(self) -> None:
        """Wait until the workers that took part have been told of what was committed."""
        while self._telling:
            await asyncio.wait(self._telling)

    @function("database::atomic")
    async def atomic(self, request: AtomicRequest) -> AtomicResult:
        """Run SQL statements, changes of state, jobs and messages in one transaction: all of them, or none.

        Answered when all of it is on disk. A failure is an error, whose `failed_index` says which operation failed;
        nothing was written then.

        Raises:
            ExpectationFailed: A statement has not the rows that it expects.
            NotAtomic: A function does not take part, or keeps what it keeps in another place than the database.
            Conflict: Others have written first, every time.
            KeyReused: The idempotency key belongs to other operations.
            DriverError: The database refused a statement.
            UnknownDatabase: There is no such database.
            QueryTimeout: It took longer than `timeout_ms`.
            OutcomeUnknown: It may be written or not; send it again with the same idempotency key.
        """
        invocation = current_invocation.get()
        if invocation is not None and invocation.not_finite:
            raise InvalidPayload(
                f"operations: there is NaN or Infinity in them, and JSON has no such number; {INSTEAD}"
            )
        _check(request.operations)
        if request.transaction_id is not None:
            return await self._concluded(request, request.transaction_id)
        database = self._databases.find(request.db)
        if request.idempotency_key is None:
            return await self._repeated(database, request, None)
        remembered = self._remembered.get(database.name)
        if remembered is None:
            remembered = self._remembered[database.name] = Remembered(self._bus, database.name)
        await remembered.open()
        digest = digest_of(request.operations)
        sql, values = await remembered.keeping(request.idempotency_key, digest)
        keeping = _Keeping(database.statement(sql), check_parameters(values))
        try:
            result = await self._repeated(database, request, keeping)
        except OutcomeUnknown:
            raise
        except LinklyError:
            kept = await remembered.find(request.idempotency_key, digest)
            if kept is None:
                raise
            return kept
        self._own(remembered.sweep(), "forget old answers")
        return result

    async def _repeated(
        self, database: Database[Any], request: AtomicRequest, keeping: _Keeping | None
    ) -> AtomicResult:
        """Run operations, and once more as long as others are first."""
        end = self._bus.clock.monotonic() + request.timeout_ms / 1000

        def left_ms() -> int:
            if not request.timeout_ms:
                return 0
            left = int((end - self._bus.clock.monotonic()) * 1000)
            if left <= 0:
                raise _too_late(database, request.timeout_ms)
            return left

        plan = await self._planned(database, request, 0, left_ms())
        async with AsyncExitStack() as line:
            in_line = self._lines.any_for(plan.about)
            if in_line:
                await line.enter_async_context(self._lines.turn(plan.about))
                plan = await self._planned(database, request, 0, left_ms())
            pauses = iter(PAUSES_S)
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    return await self._run(database, plan, left_ms(), keeping, request.origin)
                except LinklyError as error:
                    pause_s = _pause_after(error, _placed(error, plan.places), request, pauses)
                if pause_s:
                    await self._bus.clock.sleep(pause_s)
                if not in_line:
                    in_line = True
                    await line.enter_async_context(self._lines.turn(plan.about))
                plan = await self._planned(database, request, attempt, left_ms())
        raise _conflict(ATTEMPTS)

    async def _concluded(self, request: AtomicRequest, transaction_id: str) -> AtomicResult:
        """Run operations as the last ones of an open transaction; what it has read cannot be repeated here."""
        if request.idempotency_key is not None:
            raise InvalidPayload("idempotency_key: what a transaction over several calls has read is not kept with it")
        database = self._sessions.database_of(transaction_id)
        places: list[int] = []
        try:
            plan = await self._planned(database, request, 0, request.timeout_ms)
            places = plan.places
            told = self._telling_of(plan, self._events.following(database.name, origin=request.origin))
            results = await self._sessions.conclude(transaction_id, plan.statements, plan.expected, told)
        except BaseException as error:
            await self._sessions.abandon(transaction_id)
            place = _placed(error, places) if isinstance(error, LinklyError) and places else None
            if isinstance(error, ExpectationFailed) and request.operations[place or 0].sql is None:
                raise _conflict(1) from error
            raise
        return AtomicResult(self._answers(database, plan, results))

    async def _planned(self, database: Database[Any], request: AtomicRequest, attempt: int, left_ms: int) -> _Plan:
        calls: dict[str, list[Call]] = {}
        places: dict[str, list[int]] = {}
        for place, each in enumerate(request.operations):
            if each.function_id is not None:
                worker = participant(each.function_id)
                payload = Json(b"{}") if each.payload is msgspec.UNSET else each.payload
                calls.setdefault(worker, []).append(Call(each.function_id, payload))
                places.setdefault(worker, []).append(place)
        plan, prepared = _Plan(), {}
        for worker, operations in calls.items():
            timeout_s = left_ms / 1000 if left_ms else None
            try:
                found = await self._prepared(worker, Prepare(database.name, operations, attempt), timeout_s)
            except LinklyError as error:
                _placed(error, places[worker])
                raise
            prepared[worker] = iter(found.operations)
            plan.about += [f"{database.name} {worker} {name}" for name in found.about]
            if found.after is not msgspec.UNSET:
                plan.after[worker] = found.after
        for place, each in enumerate(request.operations):
            if each.sql is not None:
                plan.answers.append(None)
                _add(plan, database, place, each.sql, each.params, each.expect_rows)
            else:
                operation = next(prepared[participant(each.function_id or "")])
                plan.answers.append(operation.result)
                for statement in operation.statements:
                    _add(plan, database, place, statement.sql, statement.params, statement.expect_rows)
        return plan

    async def _prepared(self, worker: str, request: Prepare, timeout_s: float | None) -> Prepared:
        try:
            found = await self._bus.trigger(f"{worker}::prepare", request, result_type=Prepared, timeout_s=timeout_s)
        except FunctionNotFound as error:
            raise NotAtomic(
                f"`{request.operations[0].function_id}` cannot be part of a transaction: nobody serves "
                f"`{worker}::prepare`. Functions of `state` and `queue` take part, where these workers run; call "
                "others before or after it",
                details={"function_id": request.operations[0].function_id, "failed_index": 0},
            ) from error
        if len(found.operations) != len(request.operations):
            raise NotAtomic(
                f"`{worker}::prepare` has answered {len(found.operations)} operations, and was asked for "
                f"{len(request.operations)}"
            )
        return found

    async def _run(
        self, database: Database[Any], plan: _Plan, left_ms: int, keeping: _Keeping | None, origin: str | None
    ) -> AtomicResult:
        def kept(results: Sequence[Result]) -> tuple[Any, list[Any]]:
            assert keeping is not None
            return keeping.statement, [*keeping.values, msgspec.json.encode(self._answers(database, plan, results))]

        following = self._events.following(database.name, [each for each, _ in plan.statements], origin)
        told = self._telling_of(plan, following)
        conclude = None if keeping is None else kept
        results = await database.transaction(plan.statements, left_ms, told, None, plan.expected, conclude)
        return AtomicResult(self._answers(database, plan, results))

    def _answers(self, database: Database[Any], plan: _Plan, results: Sequence[Result]) -> list[Any]:
        integers = self._databases.integers(database.name)
        found: list[Any] = list(plan.answers)
        for place, result in zip(plan.places, results, strict=True):
            if plan.answers[place] is None:
                rows = [list(row) for row in as_values(result, _PLAIN, integers)]
                found[place] = StatementOutcome(result.affected_rows, rows)
        return found

    def _telling_of(
        self, plan: _Plan, following: Callable[[Sequence[Result]], None] | None
    ) -> Callable[[Sequence[Result]], None] | None:
        """Return what is told of the commit; it is also where the caller has gone meanwhile."""
        if not plan.after:
            return following
        invocation = trace_of(current_invocation.get())

        def committed(results: Sequence[Result]) -> None:
            if following is not None:
                following(results)
            for worker, after in plan.after.items():
                self._own(self._tell(worker, after, invocation), f"tell {worker} of a commit")

        return committed

    async def _tell(self, worker: str, after: Json, invocation: Invocation | None) -> None:
        current_invocation.set(invocation)
        try:
            await self._bus.trigger(f"{worker}::committed", Committed(after))
        except LinklyError as error:
            log.warning("`%s::committed` failed, the commit stands: %s", worker, error)

    def _own(self, work: Any, name: str) -> None:
        """Have a task that goes on when its caller goes away, and has nothing of its call."""
        task = asyncio.get_running_loop().create_task(work, name=name, context=contextvars.Context())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)


def _check(operations: Sequence[Operation]) -> None:
    for place, each in enumerate(operations):
        if (each.sql is None) == (each.function_id is None):
            raise InvalidPayload(f"operations[{place}]: say either `sql` or `function_id`")


def _add(
    plan: _Plan, database: Database[Any], place: int, sql: str, params: list[Any] | str, expect_rows: int | None
) -> None:
    try:
        plan.statements.append((database.statement(sql), check_parameters(params)))
    except LinklyError as error:
        error.details["failed_index"] = place
        raise
    plan.expected.append(expect_rows)
    plan.places.append(place)


def _placed(error: LinklyError, places: Sequence[int]) -> int | None:
    """Say which operation has failed in place of which statement; `None`: it was no operation."""
    index = error.details.pop("failed_index", None)
    if not isinstance(index, int) or index >= len(places):
        return None
    error.details["failed_index"] = places[index]
    error.message = error.message.replace(f"statements[{index}]", f"operations[{places[index]}]")
    return places[index]


def _pause_after(error: LinklyError, place: int | None, request: AtomicRequest, pauses: Iterator[float]) -> float:
    """Return after how many seconds operations that have failed are run once more; raise what that would not help."""
    if isinstance(error, ExpectationFailed) and request.operations[place or 0].sql is None:
        return 0
    if isinstance(error, ExpectationFailed) or not error.details.get("retryable"):
        raise error
    pause_s = next(pauses, None)
    if pause_s is None:
        raise error
    return pause_s


def _conflict(attempts: int) -> Conflict:
    return Conflict(
        f"others have written first, {attempts} times; nothing was written, try it again",
        details={"attempts": attempts, "retryable": True},
    )


def _too_late(database: Database[Any], timeout_ms: int) -> QueryTimeout:
    return QueryTimeout(
        f"others have written first for timeout_ms: {timeout_ms}; nothing was written",
        details={"db": database.name, "timeout_ms": timeout_ms},
    )
