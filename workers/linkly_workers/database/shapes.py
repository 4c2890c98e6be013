"""Requests and results of the database worker (workers-data.md 7.2)."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec

from linkly_workers.database.errors import InvalidParam

Parameters = list[Any] | str
Select = Annotated[str, msgspec.Meta(examples=["SELECT name FROM sqlite_master"])]
Change = Annotated[str, msgspec.Meta(examples=["CREATE TABLE IF NOT EXISTS notes (text)"])]

_CONTROL = re.compile(
    r"\s*(?:BEGIN|COMMIT|ROLLBACK|END|SAVEPOINT|RELEASE|START\s+TRANSACTION|SET\s+TRANSACTION)\b",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"\s*(?:--[^\n]*(?:\n|$)|/\*.*?(?:\*/|$))", re.DOTALL)


class Query(msgspec.Struct, kw_only=True):
    """A statement whose rows are wanted.

    Attributes:
        db: Name of a configured database; may be left out if there is only one, or one called primary.
        sql: One statement, with ? for parameters.
        params: Values of the parameters.
        timeout_ms: The statement is interrupted after this time.
    """

    sql: Select
    db: str | None = None
    params: Parameters = []
    timeout_ms: int = 30_000


class Column(msgspec.Struct):
    """One column of a result; `type` is `""` where SQLite does not say."""

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


class Execute(msgspec.Struct, kw_only=True):
    """A statement that changes something; the answer comes when the change is on disk.

    Attributes:
        db: Name of a configured database; may be left out if there is only one, or one called primary.
        sql: One statement, with ? for parameters.
        params: Values of the parameters.
        returning: A non-empty list asks for the rows of the statement's RETURNING clause.
    """

    sql: Change
    db: str | None = None
    params: Parameters = []
    returning: list[str] = []


class ExecuteResult(msgspec.Struct):
    """What a statement changed.

    Attributes:
        affected_rows: Rows inserted, updated or deleted.
        last_insert_id: Rowid of an INSERT as text, else null.
        returned_rows: Rows of the RETURNING clause.
    """

    affected_rows: int
    last_insert_id: str | None
    returned_rows: list[dict[str, Any]]


class Statement(msgspec.Struct, kw_only=True):
    """One statement of a transaction."""

    sql: str
    params: Parameters = []


class Transaction(msgspec.Struct, kw_only=True):
    """Statements that happen all or not at all.

    Attributes:
        statements: In order; each is an object of sql and params, or just SQL text.
        db: Name of a configured database; may be left out if there is only one, or one called primary.
        isolation: On SQLite every transaction is serializable; the others are accepted and give that too.
    """

    statements: Annotated[
        list[Statement | str] | str,
        msgspec.Meta(examples=[["CREATE TABLE IF NOT EXISTS notes (text)", "INSERT INTO notes VALUES ('one')"]]),
    ]
    db: str | None = None
    isolation: Literal["read_committed", "repeatable_read", "serializable"] | None = None


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


def check_sql(sql: str) -> str:
    """Return the statement.

    Raises:
        InvalidParam: It is transaction control, which would break the transaction all callers share.
    """
    rest = sql
    while (comment := _COMMENT.match(rest)) and comment.end() > 0:
        rest = rest[comment.end() :]
    if _CONTROL.match(rest):
        raise InvalidParam(
            f"`{rest.split()[0]}` is transaction control; database::transaction runs statements that belong together",
            details={"index": 0, "reason": "transaction control"},
        )
    return sql


def check_parameters(given: Parameters) -> list[Any]:
    """Return parameters as SQLite takes them: JSON containers become JSON text, `{"$blob": base64}` bytes.

    Raises:
        InvalidParam: They are no list, or a blob is not base64.
    """
    values: Any = given
    if isinstance(given, str):
        try:
            values = msgspec.json.decode(given)
        except msgspec.DecodeError as error:
            raise InvalidParam(f"params: expected a list, got text that is no JSON: {error}") from error
    if not isinstance(values, list):
        raise InvalidParam("params: expected a list")
    return [_parameter(index, value) for index, value in enumerate(values)]


def _parameter(index: int, value: Any) -> Any:
    if isinstance(value, dict) and list(value) == ["$blob"]:
        try:
            return msgspec.convert(value["$blob"], bytes)
        except msgspec.ValidationError as error:
            raise InvalidParam(f"params[{index}].$blob: {error}", details={"index": index}) from error
    if isinstance(value, (dict, list)):
        return msgspec.json.encode(value).decode()
    return value
