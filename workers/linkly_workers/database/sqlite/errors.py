"""The errors of SQLite and of its authorizer, translated."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from linkly.errors import LinklyError
from linkly_workers._sqlite import execution
from linkly_workers._sqlite.authorizer import CONTROL, OUTSIDE
from linkly_workers.database.errors import DriverError, InvalidParam, ResultTooLarge, StatementWrites

FAILURES = (sqlite3.Error, sqlite3.Warning, OverflowError, UnicodeEncodeError)
"""What a statement of a caller may raise."""


def driver_error(error: Exception, parameters: Sequence[Any] = ()) -> LinklyError:
    """Translate what sqlite3 raised."""
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
    if isinstance(error, UnicodeEncodeError):
        return InvalidParam(f"a text cannot be written as UTF-8: {error}", details={"reason": str(error)})
    if isinstance(error, execution.ResultTooLarge):
        return ResultTooLarge(str(error), details={"driver": "sqlite", "max_result_bytes": error.limit})
    name = getattr(error, "sqlite_errorname", None)
    inner = str(name) if name is not None else None
    text = str(error)
    if inner == "SQLITE_AUTH":
        return refused(text)
    if is_write(error):
        return StatementWrites(text, details={"driver": "sqlite", "inner_code": inner})
    if isinstance(error, (sqlite3.Warning, sqlite3.ProgrammingError)) and "one statement" in text:
        inner, text = "MULTI_STATEMENT", "one statement at a time: use database::transaction for several"
    if inner == "SQLITE_TOOBIG":
        text += "; a value may have 64 MiB, and as much as the setting `max_result_bytes` of the database worker"
    return DriverError(text, details={"driver": "sqlite", "inner_code": inner})


def refused(why: str, *, unclear: bool = False) -> InvalidParam:
    """Return the error for what callers may not send, in the words of the authorizer, or of `unclear` placeholders."""
    reason = "changes a shared connection"
    if unclear:
        reason = "unclear placeholders"
    elif CONTROL in why:
        reason = "transaction control"
    elif OUTSIDE in why or "all callers, so" in why:
        reason = "reaches outside the database"
    return InvalidParam(why, details={"index": 0, "reason": reason})


def is_write(error: BaseException) -> bool:
    """Return whether a reading connection refused a statement because it writes: not known by its text."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY
