"""What callers may send: SQL text that does not touch what all callers share, and values as SQLite takes them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from linkly_workers.database.errors import DriverError, InvalidParam
from linkly_workers.database.shapes import Blobs, Parameters, Statement

_SKIPPED = re.compile(r"(?:\s|;|--[^\n]*(?:\n|$)|/\*.*?(?:\*/|$))*", re.DOTALL)
_CONTROL = re.compile(
    r"(?:BEGIN|COMMIT|ROLLBACK|END|SAVEPOINT|RELEASE|START\s+TRANSACTION|SET\s+TRANSACTION)\b", re.IGNORECASE
)
_SHARED = re.compile(r"(?:ATTACH|DETACH)\b", re.IGNORECASE)
_PRAGMA = re.compile(r"PRAGMA\s+(?:\w+\s*\.\s*)?(\w+)\s*([=(])?", re.IGNORECASE)
_HARMLESS_PRAGMAS = frozenset(
    [
        "user_version",
        "application_id",
        "wal_checkpoint",
        "optimize",
        "incremental_vacuum",
        "integrity_check",
        "quick_check",
        "foreign_key_check",
        "foreign_key_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "table_info",
        "table_list",
        "table_xinfo",
    ]
)
_PLAIN = frozenset((str, int, float, bool, type(None)))


@lru_cache(1024)
def check_sql(sql: str) -> str:
    """Return the statement.

    Raises:
        DriverError: There is none.
        InvalidParam: It is transaction control, or would change the connection that all callers share.
    """
    rest = sql[_skipped(sql) :]
    if not rest.strip():
        raise DriverError("empty SQL", details={"driver": "sqlite", "inner_code": None})
    if _CONTROL.match(rest):
        raise InvalidParam(
            f"`{rest.split()[0]}` is transaction control; database::transaction runs statements that belong together, "
            "database::beginTransaction opens a transaction over several calls",
            details={"index": 0, "reason": "transaction control"},
        )
    pragma = _PRAGMA.match(rest)
    if _SHARED.match(rest) or (pragma and pragma[2] and pragma[1].lower() not in _HARMLESS_PRAGMAS):
        raise InvalidParam(
            f"`{' '.join(rest.split()[:2])}` would change the connection that all callers share, and what an answered "
            "write survives; configure it instead",
            details={"index": 0, "reason": "changes a shared connection"},
        )
    return sql


def _skipped(sql: str) -> int:
    found = _SKIPPED.match(sql)
    return found.end() if found is not None else 0


@lru_cache(1024)
def changes_schema(sql: str) -> bool:
    """Tell whether a statement may change what tables there are."""
    return sql[_skipped(sql) :][:6].upper().startswith(("CREATE", "ALTER", "DROP", "PRAGMA", "VACUUM"))


def check_parameters(given: Parameters) -> list[Any]:
    """Return parameters as SQLite takes them: JSON containers become JSON text, `{"$blob": base64}` bytes.

    Raises:
        InvalidParam: They are no list, or a blob is not base64.
    """
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
        InvalidParam: They are JSON text of something else, or one cannot be used.
    """
    if isinstance(given, str):
        try:
            given = msgspec.json.decode(given, type=list[Statement | str])
        except msgspec.MsgspecError as error:
            raise InvalidParam(f"statements: expected a list of statements: {error}") from error
    statements: list[tuple[str, list[Any]]] = []
    for index, each in enumerate(given):
        try:
            if isinstance(each, str):
                statements.append((check_sql(each), []))
            else:
                statements.append((check_sql(each.sql), check_parameters(each.params)))
        except InvalidParam as error:
            raise InvalidParam(f"statements[{index}]: {error.message}", details=error.details) from error
    return statements


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


def as_rows(columns: list[str], rows: list[tuple[Any, ...]], blobs: Blobs) -> list[dict[str, Any]]:
    """Make one object of each row; of columns with equal names the last one wins."""
    if blobs == "object":
        rows = [as_values(row) for row in rows]
    return [dict(zip(columns, row, strict=True)) for row in rows]


def as_values(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Replace bytes by the form that a parameter takes."""
    return tuple({"$blob": value} if isinstance(value, bytes) else value for value in row)


def _parameter(index: int, value: Any) -> Any:
    if isinstance(value, dict) and list(value) == ["$blob"]:
        try:
            return msgspec.convert(value["$blob"], bytes)
        except msgspec.ValidationError as error:
            raise InvalidParam(f"params[{index}].$blob: {error}", details={"index": index}) from error
    if isinstance(value, (dict, list)):
        return msgspec.json.encode(value).decode()
    return value
