"""What a database has to be for the `database` worker: `Database`, and `Transaction` for one over several calls.

`backends` says how one is found and opened. A backend imports its driver and translates the driver's errors into those
of `errors`; the worker knows neither.

Every method may also raise `CancelledError`: a caller that goes away stops its statement, which then has written
nothing, unless it is being committed already. What the errors of a driver mean is for the backend to say:

* `DriverError`: the database refused a statement; `details` hold `driver` and `inner_code`, the driver's own code.
* `ResultTooLarge`: the rows of one call are larger than `max_result_bytes`.
* `InvalidParam`: a text that callers may not send (transaction control, what changes a connection that all callers
  share, what reaches outside the database), or a value that the database cannot hold.
* `QueryTimeout`: a statement waited and ran longer than its `timeout_ms`; it is stopped and has written nothing.
* `PoolTimeout`: no connection became free within the setting `pool.acquire_timeout_ms`.
* `OutcomeUnknown`: nobody can know whether it is written.
* `Overloaded`: too many wait; nothing was written.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from linkly_workers._sql.tokens import Dialect
from linkly_workers.database.copy_side import CopySide

Op = Literal["insert", "update", "delete", "other"]


class Statement(Protocol):
    """A text that the database accepts, with whatever it knows of it."""

    @property
    def text(self) -> str:
        """The SQL as it is run."""
        ...

    def rows_of(self, result: Any) -> int:
        """Return how many rows it has changed, or has as its result if it is one that changes none."""
        ...


class Result(Protocol):
    """What one statement did.

    Attributes:
        columns: Names of the columns of its rows, empty for a statement without rows.
        types: Declared types of these columns, `""` where the database does not say; empty if they were not asked for.
        rows: Its rows; a value is None, bool, int, float, str or bytes, or lists and dicts of these where the database
            has such types.
        affected_rows: Rows inserted, updated or deleted by the statement itself, not by triggers or foreign keys.
        change: Operation and table, if somebody asked for it and rows were changed; `other` without a table for what
            is none of the three.
    """

    columns: list[str]
    types: Sequence[str]
    rows: list[tuple[Any, ...]]
    affected_rows: int
    change: tuple[Op, str | None] | None

    @property
    def big_integers(self) -> Sequence[int]:
        """Return the places of the columns whose integers have 64 bits, whatever their values are now."""
        ...

    @property
    def last_insert_id(self) -> int | str | None:
        """Return the key of the last row that an INSERT made; `None` where there is none, or nobody says."""
        ...

    def readable(self, *, as_bytes: bool) -> list[tuple[Any, ...]]:
        """Return the rows, where texts that are not UTF-8 are bytes, or have U+FFFD where they are not."""
        ...


Committed = Callable[[Sequence[Result]], None]
"""Told the results whose statements changed rows, in the order of the commits, before any caller is answered; also when
its own caller has gone meanwhile."""

Expected = Sequence[int | None]
"""How many rows each of some statements has to have changed or found; `None`: any number."""

Take = Callable[[Result], Awaitable[None]]
"""Takes the next rows of a result, `types` of the columns included; the rows behind them wait until it returns."""

Rows = Callable[..., Awaitable[list[tuple[Any, ...]]]]
"""Asks a database of one kind for the rows of a text and its values."""

Describe = Callable[[str], Awaitable[dict[str, Any] | None]]
"""`Database.describe` of one database."""

S = TypeVar("S", bound=Statement)
S_contra = TypeVar("S_contra", bound=Statement, contravariant=True)


Conclude = Callable[[Sequence[Result]], tuple[S, list[Any]]]
"""Makes a statement and its values of results, on whichever thread; may be called again."""


class Transaction(Protocol[S_contra]):
    """A transaction over several calls; its calls run one after another.

    Attributes:
        id: As `begin` was told.
        ended: It is over, and its connection given back.
    """

    id: str
    ended: bool

    async def query(self, statement: S_contra, parameters: list[Any], *, tell_change: bool = False) -> Result:
        """Run a statement inside it for its rows, `types` of the columns included; otherwise as `execute`."""
        ...

    async def execute(self, statement: S_contra, parameters: list[Any], *, tell_change: bool = False) -> Result:
        """Run a statement inside it; the result has its `change` only if that is wanted.

        Raises:
            TransactionNotFound: It has ended, or ends now because the database rolled it back.
            DriverError: The database refused the statement; the transaction goes on without it.
            InvalidParam: As `Database.execute`.
            ResultTooLarge: As `Database.query`.
        """
        ...

    async def commit(self, committed: Callable[[], None]) -> None:
        """Write it; `committed` is called before anybody else's writes go on. Must not be cancelled.

        Raises:
            TransactionNotFound: It has ended.
            DriverError: It could not be committed and has been rolled back.
            OutcomeUnknown: It may be written or not.
        """
        ...

    async def roll_back(self, why: str) -> None:
        """Stop the statement that runs and end it without a trace; harmless when it has ended.

        `why` is how the sentence "transaction `...` was rolled back ..." goes on for who still uses it.
        """
        ...


class RowChange(NamedTuple):
    """A row that somebody has changed.

    Attributes:
        table: Its table, without schema.
        op: What was done.
        old: The row before, by column; `None` for one that was inserted.
        new: The row afterwards; `None` for one that was deleted.
        at: In milliseconds since the epoch.
    """

    table: str
    op: Op
    old: dict[str, Any] | None
    new: dict[str, Any] | None
    at: int


TakeChange = Callable[[RowChange], Awaitable[None]]
"""Takes the next change of a table; the ones behind it wait until it returns."""


class Capture(Protocol):
    """Changes of tables, whoever makes them."""

    async def read(self, table: str, reader: str, take: TakeChange, ready: Callable[[], object]) -> None:
        """Hand over the changes of a table from now on, or from where `reader` has been, until it is cancelled.

        Of one row they come in order; each at least once. Of readers with one name, of all engines, one is told. A
        server that is away is waited for. `ready` is called when changes are captured, or the server is waited for.

        Raises:
            LinklyError: The table cannot be captured.
        """
        ...

    async def forget(self, table: str, reader: str) -> None:
        """Forget where a reader has been, and leave nothing in a table that nobody reads."""
        ...


class Database(Protocol[S]):
    """One open database. Its methods are called on one event loop, by any number of callers at once.

    `timeout_ms` is how long a call may wait and run, 0: no limit. `committed` is told what it changed; without it
    nobody has to find out.

    Attributes:
        name: As the config calls it.
        driver: What kind it is, for listings and for `details.driver`.
        url: Where it is, without a password.
        dialect: How it reads SQL.
        copy_side: What `database::copy` needs of it; `None`: it can be no side of a copy.
    """

    name: str
    driver: str
    url: str
    dialect: Dialect

    @property
    def copy_side(self) -> CopySide | None:  # noqa: D102
        ...

    @property
    def capture(self) -> Capture | None:
        """Return what tells of everybody's changes; `None`: it tells only of what goes through `committed`."""
        ...

    @property
    def waiting_writes(self) -> int:
        """Count the writes that wait for their turn."""
        ...

    @property
    def idle_connections(self) -> int:
        """Count the open connections that nobody uses."""
        ...

    def trouble(self) -> str | None:
        """Return why writes do not go through now, in one clause; `None` if nothing is known against it."""
        ...

    def statement(self, sql: str) -> S:
        """Return the statement of a text; nothing is asked of the database, and calling it again costs a look-up.

        Raises:
            DriverError: There is no statement in it.
            InvalidParam: Callers may not send it, as far as the text tells.
        """
        ...

    async def check(self, statement: S) -> None:
        """Compile a statement without running it.

        Raises:
            DriverError: It cannot be compiled.
            InvalidParam: Callers may not send it.
        """
        ...

    async def query(
        self, statement: S, parameters: list[Any], timeout_ms: int, committed: Committed | None = None
    ) -> Result:
        """Run a statement for its rows, `types` of the columns included; one that writes is written as by `execute`.

        Raises:
            DriverError, ResultTooLarge, InvalidParam, QueryTimeout, PoolTimeout: See above.
        """
        ...

    async def read_only(self, statement: S, parameters: list[Any], timeout_ms: int) -> Result:
        """Run a statement that must not write for its rows, `types` of the columns included.

        Raises:
            StatementWrites: It writes; nothing was written.
            DriverError, ResultTooLarge, InvalidParam, QueryTimeout, PoolTimeout: See above.
        """
        ...

    async def stream(self, statement: S, parameters: list[Any], timeout_ms: int, take: Take) -> None:
        """Run a statement that must not write, and hand its rows over in order, in batches of about `BATCH_BYTES`.

        All rows are of one snapshot. `take` has at least one batch, also if there are no rows. Not more than a batch is
        kept, whatever the size of the result (a database in memory may keep the result). What `take` raises ends the
        statement on the server and is raised. `timeout_ms` holds for all of it.

        Raises:
            StatementWrites: It writes; nothing was written.
            ResultTooLarge: One batch is larger than `max_result_bytes`.
            DriverError, InvalidParam, QueryTimeout, PoolTimeout: See above.
        """
        ...

    async def execute(
        self, statement: S, parameters: list[Any], timeout_ms: int, committed: Committed | None = None
    ) -> Result:
        """Run one statement that changes something; answered when it is on disk.

        Raises:
            DriverError, ResultTooLarge, InvalidParam, QueryTimeout, OutcomeUnknown, Overloaded: See above.
        """
        ...

    async def transaction(
        self,
        statements: Sequence[tuple[S, list[Any]]],
        timeout_ms: int,
        committed: Committed | None = None,
        isolation: str | None = None,
        expected: Expected = (),
        conclude: Conclude[S] | None = None,
    ) -> Sequence[Result]:
        """Run statements with their values all or not at all; answered when they are on disk.

        `isolation` is as for `begin`. `expected` is empty, or has the `rows_of` that each statement has to have.
        `conclude` makes one more statement of the results of the others, which is the last; its result is not returned.

        Raises:
            ExpectationFailed: One has not; nothing was written, and nothing behind it was run.
            DriverError: One failed, or the commit; `details.failed_index` says which statement, if it was one.
            ResultTooLarge, InvalidParam, QueryTimeout, OutcomeUnknown, Overloaded: See above.
        """
        ...

    async def begin(self, transaction_id: str, isolation: str | None) -> Transaction[S]:
        """Open a transaction over several calls; it has to be ended.

        `isolation` is `read_committed`, `repeatable_read` or `serializable` at least; `None`: what the database does.

        Raises:
            PoolTimeout: No connection became free.
            DriverError: The database does not let anybody in.
        """
        ...

    async def begin_alone(self, transaction_id: str, lock_timeout_ms: int) -> Transaction[S]:
        """Open a transaction that only one caller at a time can have, of all engines that share the database.

        Each statement in it sees what was committed before it. Where statements wait for locks of others, none in this
        transaction waits longer than `lock_timeout_ms` either.

        Raises:
            LockTimeout: Somebody else had one for all of `lock_timeout_ms`.
            PoolTimeout, DriverError: As `begin`.
        """
        ...

    async def tables(self) -> list[tuple[str, str]]:
        """Return name and kind (`table`, `view`, ...) of the tables, by name; without those of the database itself."""
        ...

    async def describe(self, table: str) -> dict[str, Any] | None:
        """Describe a table, whose name is compared as the database compares names; `None`: there is none.

        The keys are `name`, `type`, `columns`, `primary_key`, `indexes` and `foreign_keys`.
        """
        ...

    async def plan(self, statement: S, parameters: list[Any]) -> list[dict[str, Any]]:
        """Return how the database would run a statement: one `id`, `parent` and `detail` for each step.

        Raises:
            DriverError, InvalidParam: The statement cannot be compiled.
        """
        ...
