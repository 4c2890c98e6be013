"""Errors of the database worker (workers-data.md 7.5), and the translation of SQLite's own."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from linkly.errors import LinklyError
from linkly_workers._sqlite import statement
from linkly_workers._sqlite.guard import OUTSIDE


class UnknownDatabase(LinklyError):
    """No database of this name is configured."""

    code = "UNKNOWN_DB"


class MissingDatabase(LinklyError):
    """No database was named and it is not clear which one is meant."""

    code = "MISSING_DB"


class DriverError(LinklyError):
    """The database refused a statement; `details.inner_code` is its own code."""

    code = "DRIVER_ERROR"


class ResultTooLarge(DriverError):
    """The rows of a call are larger than `max_result_bytes`; a write of which they are a part has not happened."""

    code = "RESULT_TOO_LARGE"


class InvalidParam(LinklyError):
    """A parameter or an option cannot be used; `details.index` is its position."""

    code = "INVALID_PARAM"


class QueryTimeout(LinklyError):
    """A statement took longer than its `timeout_ms`; it was interrupted."""

    code = "QUERY_TIMEOUT"


class PoolTimeout(LinklyError):
    """No connection became free within `acquire_timeout_ms`."""

    code = "POOL_TIMEOUT"


class StatementNotFound(LinklyError):
    """A handle is unknown or has expired."""

    code = "STATEMENT_NOT_FOUND"


class TransactionNotFound(LinklyError):
    """A transaction is unknown, has ended or has been rolled back at its deadline."""

    code = "TRANSACTION_NOT_FOUND"


class DatabaseConfigError(LinklyError):
    """A trigger's config cannot be used."""

    code = "CONFIG_ERROR"


OUTSIDE_REASON = "reaches outside the database"


def driver_error(error: Exception, parameters: Sequence[Any] = ()) -> LinklyError:
    """Translate what sqlite3 raised.

    Args:
        error: What it was.
        parameters: Of the statement that failed.
    """
    if isinstance(error, LinklyError):
        return error
    if isinstance(error, OverflowError):
        for index, value in enumerate(parameters):
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                return InvalidParam(
                    f"params[{index}]: {value} does not fit 64 bits; send it as text",
                    details={"index": index, "reason": "does not fit 64 bits"},
                )
        return InvalidParam(f"a parameter does not fit 64 bits: {error}", details={"reason": str(error)})
    if isinstance(error, statement.ResultTooLarge):
        return ResultTooLarge(str(error), details={"driver": "sqlite", "max_result_bytes": error.limit})
    name = getattr(error, "sqlite_errorname", None)
    inner = str(name) if name is not None else None
    text = str(error)
    if inner == "SQLITE_AUTH":  # the guard's words, see `_sqlite.guard`
        reason = "changes a shared connection"
        if "transaction control" in text:
            reason = "transaction control"
        elif OUTSIDE in text or "all callers, so" in text:
            reason = OUTSIDE_REASON
        return InvalidParam(text, details={"index": 0, "reason": reason})
    if isinstance(error, (sqlite3.Warning, sqlite3.ProgrammingError)) and "one statement" in text:
        inner, text = "MULTI_STATEMENT", "one statement at a time: use database::transaction for several"
    if inner == "SQLITE_TOOBIG":
        text += "; a value may have 64 MiB, and as much as the setting `max_result_bytes` of the database worker"
    return DriverError(text, details={"driver": "sqlite", "inner_code": inner})
