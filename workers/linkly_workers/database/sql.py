"""What callers may send: SQL text that does not touch what all callers share, and values as SQLite takes them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import inf
from typing import Any

import msgspec

from linkly.context import current_invocation
from linkly.errors import InvalidPayload, LinklyError
from linkly.schema import INSTEAD
from linkly_workers._sqlite import StatementResult
from linkly_workers._sqlite.connection import DamagedText
from linkly_workers._sqlite.guard import CONTROL, COPYING, HARMLESS_PRAGMAS, SHARED
from linkly_workers._sqlite.text import first_word, is_vacuum, remembered, skip, without_end
from linkly_workers.database.errors import OUTSIDE_REASON, DriverError, InvalidParam
from linkly_workers.database.shapes import Blobs, InvalidText, Parameters, Statement

_CONTROL = re.compile(
    r"(?:BEGIN|COMMIT|ROLLBACK|END|SAVEPOINT|RELEASE|START\s+TRANSACTION|SET\s+TRANSACTION)\b", re.IGNORECASE
)
_ATTACHING = re.compile(r"(?:ATTACH|DETACH)\b", re.IGNORECASE)
_PRAGMA = re.compile(r"(?:\w+\s*\.\s*)?(\w+)\s*([=(]|;|\Z|--|/\*)")
_PLAIN = frozenset((str, int, float, bool, type(None)))


@remembered
def check_sql(sql: str) -> str:
    """Return the statement, without the semicolons around it.

    The guard of the connection refuses the same, whatever the text looks like; here it is said before anything runs.

    Raises:
        DriverError: There is none.
        InvalidParam: It is transaction control, would change the connection that all callers share, or writes a file.
    """
    sql = without_end(sql)
    start = skip(sql)
    if ";" in sql[:start]:
        sql, start = sql[start:], 0  # EXPLAIN is put before it
    rest = sql[start : start + 200]
    if not rest.strip():
        raise DriverError("empty SQL", details={"driver": "sqlite", "inner_code": None})
    if _CONTROL.match(rest):
        raise InvalidParam(f"`{rest.split()[0]}` {CONTROL}", details={"index": 0, "reason": "transaction control"})
    if _ATTACHING.match(rest) or (first_word(sql) == "PRAGMA" and not _is_harmless_pragma(sql, start)):
        raise InvalidParam(
            f"`{' '.join(rest.split()[:2])}` {SHARED}", details={"index": 0, "reason": "changes a shared connection"}
        )
    if first_word(sql) == "VACUUM" and not is_vacuum(sql):
        raise InvalidParam(COPYING, details={"index": 0, "reason": OUTSIDE_REASON})
    return sql


def _is_harmless_pragma(sql: str, start: int) -> bool:
    pragma = _PRAGMA.match(sql, skip(sql, start + len("PRAGMA")))
    if pragma is None:
        return False  # written so that only SQLite can read it
    # A comment may be followed by a value.
    return pragma[2] in ("", ";") or pragma[1].lower() in HARMLESS_PRAGMAS


@remembered
def changes_schema(sql: str) -> bool:
    """Tell whether a statement may change what tables there are."""
    return first_word(sql) in ("CREATE", "ALTER", "DROP", "PRAGMA", "VACUUM")


def check_parameters(given: Parameters) -> list[Any]:
    """Return parameters as SQLite takes them: JSON containers become JSON text, `{"$blob": base64}` bytes.

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


def check_statements(given: list[Statement | str] | str) -> list[tuple[str, list[Any]]]:
    """Return the statements of a transaction.

    Raises:
        InvalidParam: They are JSON text of something else, or one cannot be used; `details.failed_index` says which.
        DriverError: One is empty.
    """
    if isinstance(given, str):
        try:
            given = msgspec.json.decode(given, type=list[Statement | str])
        except msgspec.MsgspecError as error:
            raise InvalidParam(f"statements: expected a list of statements: {error}") from error
    statements: list[tuple[str, list[Any]]] = []
    for index, each in enumerate(given):
        sql, parameters = (each, []) if isinstance(each, str) else (each.sql, each.params)
        try:
            sql = check_sql(sql)
        except (DriverError, InvalidParam) as error:
            raise _in_statement(index, error, {"index": index}) from error
        try:
            statements.append((sql, check_parameters(parameters)))
        except InvalidParam as error:
            raise _in_statement(index, error, {}) from error
    return statements


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


def as_rows(result: StatementResult, blobs: Blobs, invalid_text: InvalidText = "replace") -> list[dict[str, Any]]:
    """Make one object of each row; of columns with equal names the last one wins."""
    columns = result.columns
    return [dict(zip(columns, row, strict=True)) for row in as_values(result, blobs, invalid_text)]


def finite(result: StatementResult) -> StatementResult:
    """Make infinity null in rows that become somebody's payload (workers-data.md 7.4), where it is refused."""
    rows = [tuple(None if value in (inf, -inf) else value for value in row) for row in result.rows]
    return msgspec.structs.replace(result, rows=rows)


def as_values(
    result: StatementResult, blobs: Blobs, invalid_text: InvalidText = "replace"
) -> Iterable[tuple[Any, ...]]:
    """Return the rows of a result in the form that the caller has asked for.

    Args:
        result: What a statement has answered.
        blobs: `object`: bytes become the form that a parameter takes.
        invalid_text: What is no UTF-8 gets U+FFFD where it is not, or stays the bytes that it is.
    """
    rows: Iterable[tuple[Any, ...]] = result.rows
    if result.damaged:
        repair = bytes if invalid_text == "blob" else DamagedText.text
        rows = [tuple(repair(value) if type(value) is DamagedText else value for value in row) for row in rows]
    if blobs == "object":
        rows = [tuple({"$blob": value} if isinstance(value, bytes) else value for value in row) for row in rows]
    return rows


def _parameter(index: int, value: Any) -> Any:
    if isinstance(value, dict) and list(value) == ["$blob"]:
        try:
            return msgspec.convert(value["$blob"], bytes)
        except msgspec.ValidationError as error:
            raise InvalidParam(f"params[{index}].$blob: {error}", details={"index": index}) from error
    if isinstance(value, (dict, list)):
        return msgspec.json.encode(value).decode()
    return value
