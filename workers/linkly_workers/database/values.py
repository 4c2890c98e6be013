"""Parameters as databases take them, and rows as callers get them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Any, Protocol, TypeVar

import msgspec

from linkly.context import current_invocation
from linkly.errors import InvalidPayload, LinklyError
from linkly.schema import INSTEAD
from linkly_workers.database.backend import Database, Expected, Result, S
from linkly_workers.database.backends import Integers
from linkly_workers.database.errors import DriverError, ExpectationFailed, InvalidParam, StatementWrites
from linkly_workers.database.shapes import (
    Blobs,
    Column,
    Execute,
    ExecuteResult,
    InvalidText,
    Parameters,
    QueryResult,
    Statement,
    TransactionStatement,
)

T = TypeVar("T")


class Form(Protocol):
    """What a request says of the form of its rows: see `Query`."""

    blobs: Blobs
    invalid_text: InvalidText


_PLAIN = frozenset((str, int, float, bool, type(None)))


def check_parameters(given: Parameters) -> list[Any]:
    """Return parameters as databases take them: JSON containers become JSON text, `{"$blob": base64}` bytes.

    Raises:
        InvalidParam: They are no list, or a blob is not base64.
        InvalidPayload: The caller has sent NaN or Infinity.
    """
    invocation = current_invocation.get()
    if invocation is not None and invocation.not_finite:
        raise InvalidPayload(f"params: there is NaN or Infinity among them, and JSON has no such number; {INSTEAD}")
    if type(given) is list and _PLAIN.issuperset(map(type, given)):
        return given
    values: Any = given
    if isinstance(given, str):
        try:
            values = msgspec.json.decode(given)
        except msgspec.DecodeError as error:
            raise InvalidParam(f"params: expected a list, got text that is no JSON: {error}") from error
    if not isinstance(values, list):
        raise InvalidParam("params: expected a list")
    return [_parameter(index, each) for index, each in enumerate(values)]


def check_statements(
    given: list[Statement | str] | str, statement: Callable[[str], T]
) -> tuple[list[tuple[T, list[Any]]], list[int | None]]:
    """Return the statements of a transaction with the values of each, and the rows that they expect, if any does.

    Raises:
        InvalidParam: They are JSON text of something else, or one cannot be used; `details.failed_index` says which.
        DriverError: One is empty.
    """
    if isinstance(given, str):
        try:
            given = msgspec.json.decode(given, type=list[Statement | str])
        except msgspec.MsgspecError as error:
            raise InvalidParam(f"statements: expected a list of statements: {error}") from error
    statements: list[tuple[T, list[Any]]] = []
    expected: list[int | None] = []
    for index, each in enumerate(given):
        sql, parameters = (each, []) if isinstance(each, str) else (each.sql, each.params)
        try:
            checked = statement(sql)
        except (DriverError, InvalidParam) as error:
            raise _in_statement(index, error, {"index": index}) from error
        try:
            statements.append((checked, check_parameters(parameters)))
        except InvalidParam as error:
            raise _in_statement(index, error, {}) from error
        expected.append(None if isinstance(each, str) else each.expect_rows)
    return statements, expected if any(rows is not None for rows in expected) else []


def check_rows(index: int, expected: Expected, actual: int) -> None:
    """Check how many rows a statement of a transaction has changed or found.

    Raises:
        ExpectationFailed: Others were expected; `details.failed_index` is the statement's place.
    """
    if expected[index] not in (None, actual):
        raise ExpectationFailed(
            f"statements[{index}]: expect_rows is {expected[index]}, and it changed or found {actual}; "
            "nothing was written",
            details={"expected": expected[index], "actual": actual, "failed_index": index},
        )


def _in_statement(index: int, error: LinklyError, more: dict[str, Any]) -> LinklyError:
    details = {**error.details, **more, "failed_index": index}
    return type(error)(f"statements[{index}]: {error.message}", details=details)


def check_isolation(isolation: str | None) -> None:
    """Check the name of an isolation level.

    Raises:
        InvalidParam: There is no such level.
    """
    known = ("read_committed", "repeatable_read", "serializable")
    if isolation is not None and isolation not in known:
        raise InvalidParam(
            f"isolation `{isolation}` is unknown; use one of {', '.join(known)}",
            details={"index": 0, "reason": "unknown isolation level"},
        )


async def reading(database: Database[S], statement: S, parameters: list[Any], timeout_ms: int, what_is: str) -> Result:
    """Run a statement that must not write; `what_is` begins the sentence of the error.

    Raises:
        InvalidParam: It writes; nothing was written.
    """
    try:
        return await database.read_only(statement, parameters, timeout_ms)
    except StatementWrites as error:
        raise InvalidParam(
            f"{what_is} for statements that only read", details={"index": 0, "reason": "the statement writes"}
        ) from error


def as_rows(result: Result, form: Form, integers: Integers) -> list[dict[str, Any]]:
    """Make one object of each row; of columns with equal names the last one wins."""
    columns = result.columns
    return [dict(zip(columns, row, strict=True)) for row in as_values(result, form, integers)]


def as_queried(result: Result, form: Form, integers: Integers) -> QueryResult:
    """Make the answer of a query."""
    rows = as_rows(result, form, integers)
    return QueryResult(rows, len(rows), columns_of(result))


def columns_of(result: Result) -> list[Column]:
    """Return name and type of each column, in order."""
    return [Column(*each) for each in zip(result.columns, result.types, strict=True)]


def as_executed(result: Result, request: Execute | TransactionStatement, integers: Integers) -> ExecuteResult:
    """Make the answer of a statement that changes something."""
    returned = as_rows(result, request, integers) if request.returning else []
    inserted = None if result.last_insert_id is None else str(result.last_insert_id)
    return ExecuteResult(result.affected_rows, inserted, returned)


def as_payload(result: Result, integers: Integers) -> list[dict[str, Any]]:
    """Make objects of the rows for somebody's payload, where infinity is refused: it is null (docs/workers.md)."""
    rows = as_rows(result, Execute(sql=""), integers)
    return [{name: None if value in (inf, -inf) else value for name, value in row.items()} for row in rows]


def as_values(result: Result, form: Form, integers: Integers) -> Iterable[tuple[Any, ...]]:
    """Return the rows of a result in the form that the caller has asked for: see `Query`."""
    rows = result.readable(as_bytes=form.invalid_text == "blob")
    if form.blobs == "object":
        rows = [tuple({"$blob": value} if isinstance(value, bytes) else value for value in row) for row in rows]
    if integers == "string" and (places := frozenset(result.big_integers)):
        rows = [tuple(_digits(value) if at in places else value for at, value in enumerate(row)) for row in rows]
    return rows


def _digits(value: Any) -> Any:
    if isinstance(value, list):
        return [_digits(item) for item in value]
    return str(value) if type(value) is int else value


def _parameter(index: int, value: Any) -> Any:
    if isinstance(value, dict) and list(value) == ["$blob"]:
        try:
            return msgspec.convert(value["$blob"], bytes)
        except msgspec.ValidationError as error:
            raise InvalidParam(f"params[{index}].$blob: {error}", details={"index": index}) from error
    if isinstance(value, (dict, list)):
        return msgspec.json.encode(value).decode()
    return value
