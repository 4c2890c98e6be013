"""Requests and results of the database worker (docs/workers.md#database)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from linkly.channel import ChannelRef
from linkly_workers.database.backends import Integers

Parameters = list[Any] | str
Db = Annotated[str | None, msgspec.Meta(examples=["primary"])]
Blobs = Literal["base64", "object"]
InvalidText = Literal["replace", "blob"]
Milliseconds = Annotated[int, msgspec.Meta(ge=1)]
Timeout = Annotated[int, msgspec.Meta(ge=0)]
DEFAULT_TIMEOUT_MS = 30_000
Select = Annotated[str, msgspec.Meta(examples=["SELECT 1 AS one"])]
Change = Annotated[str, msgspec.Meta(examples=["CREATE TABLE IF NOT EXISTS notes (text)"])]


class Query(msgspec.Struct, kw_only=True):
    """A statement whose rows are wanted.

    Attributes:
        db: Name of a configured database; may be left out if there is only one, or one called primary.
        sql: One statement. Parameters are ? in order, or $1, $2 by number.
        params: Values of the parameters.
        timeout_ms: The statement is interrupted after this time, at most an hour; 0 for no limit of its own.
        read_only: It must not write; one that does is refused, and nothing of it happens.
        blobs: How bytes are answered: `base64` text, or `object`: {"$blob": base64}, which can go back as a parameter.
        invalid_text: How a text that is not UTF-8 is answered: with U+FFFD in it, or as a `blob`.
        integers: How columns of 64-bit integers are answered: `number` or `string`; as the setting says if left out.
    """

    sql: Select
    db: Db = None
    params: Parameters = []
    timeout_ms: Timeout = DEFAULT_TIMEOUT_MS
    read_only: bool = False
    blobs: Blobs = "base64"
    invalid_text: InvalidText = "replace"
    integers: Integers | None = None


class Column(msgspec.Struct):
    """One column of a result; `type` is `""` where the database does not say."""

    name: str
    type: str = ""


class QueryResult(msgspec.Struct):
    """Rows of a query.

    Attributes:
        rows: One object a row; of columns with equal names the last one wins.
        row_count: How many rows.
        columns: Their columns, in order.
    """

    rows: list[dict[str, Any]]
    row_count: int
    columns: list[Column]


class Stream(msgspec.Struct, kw_only=True):
    """A statement whose rows go through a channel.

    The reader gets a text message {"type": "columns", "columns": [...]}, the rows as data, each a JSON object and a
    line end, and a text message {"type": "end", "row_count": n} or {"type": "error", "error": {...}}. A channel that
    ends without one of these two was cut short.

    Attributes:
        db: Name of a configured database; may be left out if there is only one, or one called primary.
        sql: One statement that reads. Parameters are ? in order, or $1, $2 by number.
        writer: Writing end of a channel of the caller.
        params: Values of the parameters.
        timeout_ms: It is stopped after this time, however slow its reader is; at most an hour; 0: no limit of its own.
        blobs: How bytes are written: `base64` text, or `object`: {"$blob": base64}.
        invalid_text: How a text that is not UTF-8 is written: with U+FFFD in it, or as a `blob`.
        integers: How columns of 64-bit integers are written: `number` or `string`; as the setting says if left out.
    """

    sql: Select
    writer: ChannelRef
    db: Db = None
    params: Parameters = []
    timeout_ms: Timeout = 0
    blobs: Blobs = "base64"
    invalid_text: InvalidText = "replace"
    integers: Integers | None = None


class Streamed(msgspec.Struct):
    """What was written to a channel: how many rows, and their columns, in order."""

    row_count: int
    columns: list[Column]


class Execute(msgspec.Struct, kw_only=True):
    """A statement that changes something; the answer comes when the change is on disk.

    Attributes:
        db: Name of a configured database; may be left out if there is only one, or one called primary.
        sql: One statement. Parameters are ? in order, or $1, $2 by number.
        params: Values of the parameters.
        returning: A non-empty list asks for the rows of the statement's RETURNING clause.
        timeout_ms: It may wait and run for this time, at most an hour; 0 for no limit of its own.
        blobs: How bytes are answered: `base64` text, or `object`: {"$blob": base64}.
        origin: Who changes it, in a word of his own; `database::row-changed` tells it, and can leave it out.
        invalid_text: How a text that is not UTF-8 is answered: with U+FFFD in it, or as a `blob`.
        integers: How columns of 64-bit integers are answered: `number` or `string`; as the setting says if left out.
    """

    sql: Change
    db: Db = None
    params: Parameters = []
    returning: list[str] = []
    timeout_ms: Timeout = DEFAULT_TIMEOUT_MS
    blobs: Blobs = "base64"
    origin: str | None = None
    invalid_text: InvalidText = "replace"
    integers: Integers | None = None


class ExecuteResult(msgspec.Struct):
    """What a statement changed.

    Attributes:
        affected_rows: Rows inserted, updated or deleted.
        last_insert_id: Of an INSERT, as text: the rowid, the AUTO_INCREMENT, or what it returns as `id`; else null.
        returned_rows: Rows of the RETURNING clause.
    """

    affected_rows: int
    last_insert_id: str | None
    returned_rows: list[dict[str, Any]]


class Statement(msgspec.Struct, kw_only=True):
    """One statement of a transaction.

    Attributes:
        sql: One statement. Parameters are ? in order, or $1, $2 by number.
        params: Values of the parameters.
        expect_rows: So many rows it has to change, or to answer if it changes none by its nature; otherwise the
            transaction is rolled back.
    """

    sql: str
    params: Parameters = []
    expect_rows: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Transaction(msgspec.Struct, kw_only=True):
    """Statements that happen all or not at all.

    Attributes:
        statements: In order; each is an object of sql, params and expect_rows, or just SQL text.
        db: Name of a configured database; may be left out if there is only one, or one called primary.
        isolation: What is given at least; a database that has only serializable transactions gives that.
        timeout_ms: It may wait and run for this time, at most an hour; 0 for no limit of its own.
        blobs: How bytes are answered: `base64` text, or `object`: {"$blob": base64}.
        origin: Who changes it, in a word of his own; `database::row-changed` tells it, and can leave it out.
        invalid_text: How a text that is not UTF-8 is answered: with U+FFFD in it, or as a `blob`.
        integers: How columns of 64-bit integers are answered: `number` or `string`; as the setting says if left out.
    """

    statements: Annotated[
        list[Statement | str] | str,
        msgspec.Meta(examples=[["CREATE TABLE IF NOT EXISTS notes (text)", "INSERT INTO notes VALUES ('one')"]]),
    ]
    db: Db = None
    isolation: str | None = None
    timeout_ms: Timeout = DEFAULT_TIMEOUT_MS
    blobs: Blobs = "base64"
    origin: str | None = None
    invalid_text: InvalidText = "replace"
    integers: Integers | None = None


class StatementOutcome(msgspec.Struct):
    """One statement of a committed transaction; `rows` are positional."""

    affected_rows: int
    rows: list[list[Any]]


class TransactionResult(msgspec.Struct, omit_defaults=True):
    """How a transaction ended.

    Attributes:
        committed: Whether it is on disk; otherwise nothing of it is.
        results: One entry a statement, if it was committed.
        failed_index: Which statement failed, if one did.
        error: Its error body.
    """

    committed: bool
    results: list[StatementOutcome] | msgspec.UnsetType = msgspec.UNSET
    failed_index: int | None = None
    error: dict[str, Any] | None = None


class Prepare(msgspec.Struct, kw_only=True):
    """A statement to run often.

    Attributes:
        sql: One statement; it is checked now. Parameters are ? in order, or $1, $2 by number.
        db: Name of a configured database; may be left out if there is only one, or one called primary.
        ttl_seconds: How long the handle works, at most a day.
    """

    sql: Select
    db: Db = None
    ttl_seconds: Annotated[int, msgspec.Meta(ge=1)] = 3600


class RunStatement(msgspec.Struct, kw_only=True):
    """A prepared statement to run.

    Attributes:
        handle_id: The id that prepareStatement answered.
        params: Values of the parameters.
        blobs: How bytes are answered: `base64` text, or `object`: {"$blob": base64}.
        invalid_text: How a text that is not UTF-8 is answered: with U+FFFD in it, or as a `blob`.
        integers: How columns of 64-bit integers are answered: `number` or `string`; as the setting says if left out.
    """

    handle_id: str
    params: Parameters = []
    blobs: Blobs = "base64"
    invalid_text: InvalidText = "replace"
    integers: Integers | None = None


class Begin(msgspec.Struct, kw_only=True):
    """A transaction over several calls.

    Attributes:
        db: Name of a configured database; may be left out if there is only one, or one called primary.
        isolation: read_committed, repeatable_read or serializable: what is given at least. A database with one writer
            keeps others from writing from the start if it is serializable, else from the first write on.
        timeout_ms: It is rolled back after this time, at most 300000.
    """

    db: Db = None
    isolation: str | None = None
    timeout_ms: Milliseconds = 30_000


class TransactionStatement(msgspec.Struct, kw_only=True):
    """A statement inside a transaction.

    Attributes:
        transaction_id: The id that beginTransaction answered.
        sql: One statement. Parameters are ? in order, or $1, $2 by number.
        params: Values of the parameters.
        returning: A non-empty list asks for the rows of the statement's RETURNING clause.
        blobs: How bytes are answered: `base64` text, or `object`: {"$blob": base64}.
        invalid_text: How a text that is not UTF-8 is answered: with U+FFFD in it, or as a `blob`.
        integers: How columns of 64-bit integers are answered: `number` or `string`; as the setting says if left out.
    """

    transaction_id: str
    sql: Select
    params: Parameters = []
    returning: list[str] = []
    blobs: Blobs = "base64"
    invalid_text: InvalidText = "replace"
    integers: Integers | None = None


class Explain(msgspec.Struct, kw_only=True):
    """A statement whose plan is wanted.

    Attributes:
        sql: One statement.
        db: Name of a configured database; may be left out if there is only one, or one called primary.
        params: Values of the parameters.
        analyze: Run it too, and answer how long it took; only for a statement that reads.
    """

    sql: Select
    db: Db = None
    params: Parameters = []
    analyze: bool = False


class MigrationText(msgspec.Struct):
    """One file of SQL.

    Attributes:
        name: Of the file, which begins with its number: 0001_links.sql.
        sql: What is in it: any number of statements.
    """

    name: str
    sql: str


class Migrate(msgspec.Struct, kw_only=True):
    """Files that a database has to have had, all that there ever were.

    Attributes:
        migrations: The files, each an object of name and sql, in any order; the number in front of the name counts.
        db: Name of a configured database; may be left out if there is only one, or one called primary.
        dry_run: Run nothing; answer what would be run.
        steps: Run at most so many files.
        lock_timeout_ms: How long to wait while somebody else migrates, and for a table that somebody uses.
    """

    migrations: Annotated[
        list[MigrationText],
        msgspec.Meta(examples=[[{"name": "0001_notes.sql", "sql": "CREATE TABLE notes (text TEXT);"}]]),
    ]
    db: Db = None
    dry_run: bool = False
    steps: Annotated[int, msgspec.Meta(ge=1)] | None = None
    lock_timeout_ms: Milliseconds = 30_000


class AppliedMigration(msgspec.Struct):
    """A file that was run."""

    id: int
    name: str
    took_ms: float


class MigrateResult(msgspec.Struct):
    """What was run.

    Attributes:
        db: Name of the database.
        url: Where it is, without a password.
        applied: The files that were run by this call, in order.
        pending: Names of the files that have still to be run.
    """

    db: str
    url: str
    applied: list[AppliedMigration]
    pending: list[str]


class Copy(msgspec.Struct, kw_only=True, rename={"source": "from", "target": "to"}):
    """Tables that another database has to have.

    Attributes:
        tables: Only these, all that there are if left out.
        replace: Rows of the target with the same primary key get the values that are copied; else a table that has
            rows which were not copied is an error.
        dry_run: Write nothing; answer what would be made, and how many rows there are.
        for_ms: Stop after about so long and answer how far it is, to be called again.
    """

    source: Annotated[str, msgspec.Meta(description="Name of the database that has them.", examples=["primary"])]
    target: Annotated[
        str,
        msgspec.Meta(
            description="Name of the database that gets them; tables that it has not are made.", examples=["other"]
        ),
    ]
    tables: list[str] | None = None
    replace: bool = False
    dry_run: bool = False
    for_ms: Milliseconds | None = None


class CopiedTable(msgspec.Struct):
    """A table of a copy: how many rows it has, how many of them are copied, whether it is made by this call."""

    name: str
    rows: int
    copied: int
    made: bool


class CopyResult(msgspec.Struct):
    """What was copied.

    Attributes:
        tables: In the order in which they are written.
        complete: All rows are there and their numbers compared.
        left_out: What the target does not get, a clause each: views, triggers, partial indexes, defaults.
        statements: What would make tables, if `dry_run` asks for it.
    """

    tables: list[CopiedTable]
    complete: bool
    left_out: list[str]
    statements: list[str]
