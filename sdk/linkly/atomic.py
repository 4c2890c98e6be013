"""Operations that happen all or none: what `database::atomic` and the workers that take part in it say to one another.

A worker takes part by two internal functions. `<worker>::prepare` gets the operations that are its own (`Prepare`) and
answers the statements that carry them out, with what each operation is answered (`Prepared`). It may read; what it
relies on it states as `expect_rows`, for example of an UPDATE over the version that it has read. It must not write, and
it may be called again. An error's `details.failed_index` says which of its operations is at fault.

`<worker>::committed` (`Committed`) is called once after the commit with what `prepare` has asked for, but not after a
crash: what must not be lost is among the statements.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec

from linkly.baggage import TRANSACTION, member, with_member
from linkly.errors import LinklyError
from linkly.invocation import Invocation, Json

MOST_OPERATIONS = 1000

Rows = Annotated[int, msgspec.Meta(ge=0)]
Milliseconds = Annotated[int, msgspec.Meta(ge=1)]

_WORKERS = {"iii::durable::publish": "queue"}
"""Who takes part with functions whose ids do not begin with its name."""


class ExpectationFailed(LinklyError):
    """A statement has not changed as many rows as its `expect_rows` says, or not found as many; nothing was written."""

    code = "EXPECTATION_FAILED"


class NotAtomic(LinklyError):
    """An operation cannot be part of the transaction; the message names what to change. Nothing was written."""

    code = "NOT_ATOMIC"


class Conflict(LinklyError):
    """Others have written first, every time; nothing was written, and the same may succeed a little later."""

    code = "CONFLICT"


class WouldWaitForItself(LinklyError):
    """A call inside an interactive transaction needs the writer that this very transaction holds."""

    code = "would_wait_for_itself"


class KeyReused(LinklyError):
    """The idempotency key belongs to other operations; nothing was written."""

    code = "IDEMPOTENCY_KEY_REUSED"


class Operation(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One operation: a statement, or a call of a function that takes part.

    Attributes:
        sql: One statement. Parameters are ? in order, or $1, $2 by number.
        params: Values of the parameters.
        expect_rows: So many rows the statement has to change, or to answer if it changes none by its nature.
        function_id: In place of `sql`: a function of a worker that takes part.
        payload: What the function gets.
    """

    sql: str | None = None
    params: list[Any] | str = []
    expect_rows: Rows | None = None
    function_id: str | None = None
    payload: Json | msgspec.UnsetType = msgspec.UNSET


class AtomicRequest(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Operations that happen all or none.

    Attributes:
        operations: In order.
        db: Name of a configured database; may be left out if there is only one, or one called primary.
        idempotency_key: The answer is kept under it for 24 hours, in the same commit: who sends the same once more gets
            that answer, and nothing happens.
        timeout_ms: It may wait and run for this time, at most an hour; 0 for no limit of its own.
        transaction_id: An open transaction (`database::beginTransaction`): they are its last statements, and it is
            committed, or rolled back; if others were first it fails.
        origin: Who changes it, in a word of his own; `database::row-changed` tells it, and can leave it out.
    """

    operations: Annotated[
        list[Operation],
        msgspec.Meta(
            max_length=MOST_OPERATIONS, examples=[[{"sql": "CREATE TABLE IF NOT EXISTS notes (text VARCHAR(99))"}]]
        ),
    ]
    db: Annotated[str | None, msgspec.Meta(examples=["primary"])] = None
    idempotency_key: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | None = None
    timeout_ms: Annotated[int, msgspec.Meta(ge=0)] = 30_000
    transaction_id: str | None = None
    origin: str | None = None


class AtomicResult(msgspec.Struct):
    """What was done.

    Attributes:
        results: One entry an operation: `{affected_rows, rows}` of a statement, of a function what it answers.
        repeated: It was done before, under the same idempotency key; these are the results of that time.
    """

    results: list[Any]
    repeated: bool = False


class Call(msgspec.Struct):
    """One operation of a worker that takes part."""

    function_id: str
    payload: Json


class Prepare(msgspec.Struct):
    """Operations to turn into statements: the payload of `<worker>::prepare`.

    Attributes:
        db: The database in which they happen.
        operations: In order; each sees what those in front of it have done.
        attempt: How often others were first, and this is asked once more.
    """

    db: str
    operations: list[Call]
    attempt: int = 0


class GuardedStatement(msgspec.Struct, omit_defaults=True):
    """A statement, and how many rows it has to change or to find for the transaction to be committed."""

    sql: str
    params: list[Any] = []
    expect_rows: int | None = None


class PreparedOperation(msgspec.Struct):
    """One operation, ready to run: its statements, and what it is answered if they are committed."""

    statements: list[GuardedStatement]
    result: Json


class Prepared(msgspec.Struct, omit_defaults=True):
    """What `<worker>::prepare` answers.

    Attributes:
        operations: One for each that was given.
        after: What `<worker>::committed` wants to be told; left out: it need not be called.
        about: Names of what was read and is to be written over; where a race was lost, calls about the same go one
            after another.
    """

    operations: list[PreparedOperation]
    after: Json | msgspec.UnsetType = msgspec.UNSET
    about: list[str] = []


class Committed(msgspec.Struct):
    """Operations that were committed: the payload of `<worker>::committed`."""

    after: Json


class Inside(NamedTuple):
    """The interactive transaction that a call was made in: its id and its database."""

    transaction_id: str
    db: str

    def error(self) -> WouldWaitForItself:
        """Return the error of a call that would wait for its end."""
        return WouldWaitForItself(
            f"this call is made inside transaction `{self.transaction_id}`, which keeps all others from writing to "
            f"database `{self.db}` until it ends, and the call would wait for that; collect it (`tx.trigger`, "
            "`tx.execute`), run it in the transaction (`tx.query`), or call it before or after",
            details={"transaction_id": self.transaction_id, "db": self.db},
        )


def inside(invocation: Invocation | None) -> Inside | None:
    """Return the interactive transaction in which a call was made."""
    if invocation is None or invocation.baggage is None:
        return None
    found = member(invocation.baggage, TRANSACTION)
    if found is None:
        return None
    transaction_id, _, db = found.partition(".")
    try:
        return Inside(transaction_id, bytes.fromhex(db).decode())
    except ValueError:
        return None


def made_inside(invocation: Invocation | None, transaction: Inside) -> Invocation:
    """Return what the calls that are made in an interactive transaction belong to."""
    value = f"{transaction.transaction_id}.{transaction.db.encode().hex()}"
    if invocation is None:
        return Invocation(function_id="", baggage=with_member(None, TRANSACTION, value))
    return msgspec.structs.replace(invocation, baggage=with_member(invocation.baggage, TRANSACTION, value))


def participant(function_id: str) -> str:
    """Return the name of the worker that takes part with a function."""
    return _WORKERS.get(function_id) or function_id.partition("::")[0]
