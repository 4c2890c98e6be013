"""Collects operations and sends them as one `database::atomic`.

    async with linkly.atomic(bus, db="primary") as tx:
        tx.execute("INSERT INTO orders (id) VALUES (?)", ["o1"], expect_rows=1)
        count = tx.update_state("orders", "count", [{"type": "increment", "path": "n", "by": 1}])
        tx.trigger("mail::send", {"order": "o1"}, action=Enqueue("mails"))
    print(count.result["new_value"])

All of it happens or nothing. A row exists if and only if its jobs and events were accepted; handlers run at least once.

Facts: docs/workers.md#all-or-none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Literal, overload

from linkly.atomic import AtomicRequest, AtomicResult, Inside, NotAtomic, Operation, made_inside
from linkly.bus import Action, Bus, Enqueue
from linkly.context import current_invocation
from linkly.errors import LinklyError
from linkly.schema import as_json

TIMEOUT_S = 30.0
INTERACTIVE_S = 2.0


class Pending:
    """An operation of a block."""

    _result: Any

    def __init__(self) -> None:
        self._is_known = False

    @property
    def result(self) -> Any:
        """What it was answered: `{"affected_rows": n, "rows": [[...]]}` of a statement, else what the function answers.

        Raises:
            LookupError: The block has not ended, or not well.
        """
        if not self._is_known:
            raise LookupError(
                "an operation has its result once the `async with linkly.atomic(...)` block has ended well"
            )
        return self._result

    def answered(self, result: Any) -> None:
        """Note its result; the end of the block does."""
        self._result, self._is_known = result, True


class Atomic:
    """The operations of a block, in order; nothing is sent before its end.

    Attributes:
        repeated: After the block: all of it had been done before, under the same idempotency key.
    """

    def __init__(self) -> None:
        self.repeated = False
        self._operations: list[Operation] = []
        self._pending: list[Pending] = []

    def execute(self, sql: str, params: Sequence[Any] = (), *, expect_rows: int | None = None) -> Pending:
        """Add a statement.

        Args:
            sql: One statement; parameters are `?` in order, or `$1`, `$2` by number.
            params: Values of the parameters.
            expect_rows: So many rows it has to change, or to answer if it changes none; else nothing happens.
        """
        return self._add(Operation(sql=sql, params=list(params), expect_rows=expect_rows))

    def trigger(self, function_id: str, payload: object = None, *, action: Action | None = None) -> Pending:
        """Add a call of a function that takes part, or with `action=Enqueue(queue)` a job of any function.

        Args:
            function_id: `service::name`.
            payload: A value with a JSON form.
            action: `Enqueue(queue)`: the call is accepted by a queue; its result is the receipt.

        Raises:
            NotAtomic: The action cannot be part of a transaction.
        """
        if action is None:
            return self._add(Operation(function_id=function_id, payload=as_json(payload)))
        if not isinstance(action, Enqueue):
            raise NotAtomic(f"{action!r} cannot be part of a transaction: nobody knows whether it happens; use Enqueue")
        options = {name: value for name in action.__struct_fields__ if (value := getattr(action, name)) is not None}
        job = {"function_id": function_id, "payload": as_json(payload), **options}
        return self._add(Operation(function_id="queue::enqueue", payload=as_json(job)))

    def publish(self, topic: str, data: object) -> Pending:
        """Add a message for everybody who has subscribed to a durable topic."""
        return self.trigger("iii::durable::publish", {"topic": topic, "data": as_json(data)})

    def set_state(self, scope: str, key: str, value: object) -> Pending:
        """Add `state::set`."""
        return self.trigger("state::set", {"scope": scope, "key": key, "value": as_json(value)})

    def update_state(self, scope: str, key: str, ops: Sequence[Mapping[str, Any]]) -> Pending:
        """Add `state::update`."""
        return self.trigger("state::update", {"scope": scope, "key": key, "ops": ops})

    def delete_state(self, scope: str, key: str) -> Pending:
        """Add `state::delete`."""
        return self.trigger("state::delete", {"scope": scope, "key": key})

    def _add(self, operation: Operation) -> Pending:
        pending = Pending()
        self._operations.append(operation)
        self._pending.append(pending)
        return pending

    async def send(
        self, bus: Bus, db: str | None, timeout_s: float, key: str | None, transaction_id: str | None = None
    ) -> None:
        """Send what was collected, if there is anything, and note the results; the end of the block does.

        Raises:
            LinklyError: As `database::atomic`.
        """
        if not self._operations and transaction_id is None:
            return
        request = AtomicRequest(
            operations=self._operations,
            db=db,
            idempotency_key=key,
            transaction_id=transaction_id,
            timeout_ms=max(1, int(timeout_s * 1000)),
        )
        answer = await bus.trigger("database::atomic", request, result_type=AtomicResult, timeout_s=timeout_s)
        self.repeated = answer.repeated
        for pending, result in zip(self._pending, answer.results, strict=True):
            pending.answered(result)


class InteractiveAtomic(Atomic):
    """The operations of a block that reads as well: inside one transaction, which stands until the block ends."""

    def __init__(self, bus: Bus, transaction_id: str) -> None:
        super().__init__()
        self._bus = bus
        self._transaction_id = transaction_id

    async def query(self, sql: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Run a statement now, inside the transaction, and return its rows.

        It sees the statements that were run by `query`, not the operations that are collected.

        Raises:
            LinklyError: As `database::transactionQuery`.
        """
        request = {"transaction_id": self._transaction_id, "sql": sql, "params": list(params)}
        answer = await self._bus.trigger("database::transactionQuery", request)
        rows: list[dict[str, Any]] = answer["rows"]
        return rows


@overload
def atomic(
    bus: Bus,
    db: str | None = None,
    *,
    idempotency_key: str | None = None,
    timeout_s: float | None = None,
    interactive: Literal[False] = False,
) -> AbstractAsyncContextManager[Atomic]: ...


@overload
def atomic(
    bus: Bus,
    db: str | None = None,
    *,
    timeout_s: float | None = None,
    interactive: Literal[True],
) -> AbstractAsyncContextManager[InteractiveAtomic]: ...


def atomic(
    bus: Bus,
    db: str | None = None,
    *,
    idempotency_key: str | None = None,
    timeout_s: float | None = None,
    interactive: bool = False,
) -> AbstractAsyncContextManager[Atomic]:
    """Collect operations, and run them all or none when the block ends; an exception inside sends nothing.

    Args:
        bus: Where to.
        db: Name of a configured database; may be left out if there is only one, or one called primary.
        idempotency_key: Who runs the same operations once more under it, because the outcome was unknown, gets the
            first answer, and nothing happens.
        timeout_s: How long the end of the block may take, by default 30; of an interactive block all of it, by
            default 2.
        interactive: The block reads in between, by `await tx.query(...)`. What it has read is still true at its end,
            or it fails. A database with one writer keeps all others from writing meanwhile, so the block has to be
            short; a call inside it that would wait for that writer fails at once (`would_wait_for_itself`).

    Raises:
        LinklyError: At the end of the block, as `database::atomic`; nothing happened, but for `outcome_unknown`, a
            time-out and a lost connection.
    """
    if interactive:
        return _interactive(bus, db, INTERACTIVE_S if timeout_s is None else timeout_s)
    return _collected(bus, db, TIMEOUT_S if timeout_s is None else timeout_s, idempotency_key)


@asynccontextmanager
async def _collected(bus: Bus, db: str | None, timeout_s: float, key: str | None) -> AsyncIterator[Atomic]:
    tx = Atomic()
    yield tx
    await tx.send(bus, db, timeout_s, key)


@asynccontextmanager
async def _interactive(bus: Bus, db: str | None, timeout_s: float) -> AsyncIterator[InteractiveAtomic]:
    begin = {"db": db, "isolation": "serializable", "timeout_ms": max(1, int(timeout_s * 1000))}
    opened = (await bus.trigger("database::beginTransaction", begin, timeout_s=timeout_s))["transaction"]
    transaction = Inside(opened["id"], opened["db"])
    tx = InteractiveAtomic(bus, transaction.transaction_id)
    before = current_invocation.set(made_inside(current_invocation.get(), transaction))
    try:
        yield tx
        await tx.send(bus, db, timeout_s, None, transaction.transaction_id)
    except BaseException:
        with suppress(LinklyError):  # it has ended already
            await bus.trigger("database::rollbackTransaction", {"transaction_id": transaction.transaction_id})
        raise
    finally:
        current_invocation.reset(before)
