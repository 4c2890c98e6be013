"""The errors of asyncpg and of the server, translated."""

from __future__ import annotations

import re
import ssl
from typing import Any

import asyncpg

from linkly.errors import LinklyError
from linkly_workers.database._server.driver import Driver
from linkly_workers.database.errors import DriverError
from linkly_workers.database.postgres.parameters import refused_value

FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, EOFError)
"""What a statement of a caller may raise."""

OUTDATED = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError)
"""A table or a type has been altered since the statement was compiled; the server has not run it."""

OTHER_TYPES = (asyncpg.DatatypeMismatchError, asyncpg.UndefinedFunctionError)
"""A parameter has a type that does not fit; if it did when the statement was compiled, its column has changed."""

STOPPED = "57014"
"""The statement was told to stop, and has written nothing."""

READ_ONLY = "25006"
LOCK_NOT_AVAILABLE = "55P03"
NOT_IN_TRANSACTION = frozenset(("25001", "2D000"))
"""The statement cannot run inside a transaction block: VACUUM and its kind, a procedure that commits by itself."""

RETRYABLE = frozenset(
    (
        *("40001", "40P01"),  # serialization failure, deadlock
        *(
            LOCK_NOT_AVAILABLE,
            "53300",
            "57P01",
            "57P02",
            "57P03",
            "57P05",
        ),  # a lock, connections, a server that stops or starts
        *("08000", "08001", "08003", "08004", "08006"),
        READ_ONLY,  # elsewhere there is a server that writes
    )
)
_FINAL = frozenset(("28000", "28P01", "3D000", "08P01"))
"""Wrong user, wrong password, no such database, a pooler that refuses a setting."""

_LOST = frozenset(("08000", "08001", "08003", "08006", "57P01", "57P02", "57P03", "57P05"))
_PARAMETER = re.compile(r"(?:portal \"[^\"]*\"|unnamed portal) parameter \$([0-9]+)")
_ARGUMENT = re.compile(r"invalid input .*?\$([0-9]+)", re.DOTALL)


def code_of(error: BaseException) -> str | None:
    """Return the SQLSTATE of an error of the server."""
    found = getattr(error, "sqlstate", None)
    return found if isinstance(found, str) else None


def is_lost(error: BaseException) -> bool:
    """Return whether the connection is gone with an error."""
    if isinstance(error, asyncpg.InternalClientError):
        return True  # the server said goodbye to an idle connection, and the driver is still reading that
    if isinstance(error, asyncpg.InterfaceError):
        return "connection" in str(error) and "closed" in str(error)
    return isinstance(error, (OSError, EOFError, asyncpg.PostgresConnectionError)) or code_of(error) in _LOST


def is_final(error: BaseException) -> bool:
    """Return whether no connection can be made until somebody changes something: waiting does not help."""
    return isinstance(error, ssl.SSLCertVerificationError) or code_of(error) in _FINAL


def driver_error(error: BaseException) -> LinklyError:
    """Translate what asyncpg raised."""
    if isinstance(error, LinklyError):
        return error
    code, text = code_of(error), str(getattr(error, "message", None) or error) or type(error).__name__
    found = _PARAMETER.search(getattr(error, "context", None) or "") or (
        _ARGUMENT.match(text) if isinstance(error, asyncpg.InterfaceError) else None
    )
    if found is not None:
        return refused_value(int(found[1]) - 1, text)
    if code == "42601" and "multiple commands" in text:
        code, text = "MULTI_STATEMENT", "one statement at a time: use database::transaction for several"
    details: dict[str, Any] = {"driver": "postgres", "inner_code": code}
    if code in RETRYABLE or is_lost(error):
        details["retryable"] = True
    for name in ("detail", "hint", "constraint_name", "table_name", "column_name"):
        value = getattr(error, name, None)
        if value:
            details[name.removesuffix("_name")] = value
    if is_lost(error):
        text = f"the connection to the server was lost: {text}; nothing was written, it may be tried again"
    elif hint := getattr(error, "hint", None):
        text = f"{text} ({hint})"
    return DriverError(text, details=details)


def described(error: BaseException) -> str:
    """Return an error in one clause, with the server's code if it has one; without user or password."""
    code = code_of(error)
    text = str(error) or type(error).__name__
    if "unsupported startup parameter" in text:
        text += "; that is how a pooler refuses what a session begins with: say `pooler: transaction`"
    return text if code is None else f"{text} ({code})"


def _only_reads(error: BaseException) -> bool:
    return code_of(error) == READ_ONLY


DRIVER = Driver(
    name="postgres",
    failures=FAILURES,
    outdated=OUTDATED,
    unreachable="08001",
    rolled_back="25P02",
    alone=NOT_IN_TRANSACTION,
    ends_transaction=is_lost,
    code_of=code_of,
    is_lost=is_lost,
    is_final=is_final,
    only_reads=_only_reads,
    writes=_only_reads,
    translated=driver_error,
    described=described,
)
