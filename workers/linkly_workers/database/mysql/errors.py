"""The errors of asyncmy and of the server, translated."""

from __future__ import annotations

import ssl
from typing import Any

from asyncmy import errors

from linkly.errors import LinklyError
from linkly_workers.database._server.driver import Driver
from linkly_workers.database.errors import DriverError

FAILURES: tuple[type[BaseException], ...] = (errors.MySQLError, OSError, EOFError)
"""What a statement of a caller may raise."""

INTERRUPTED = 1317
"""The statement was stopped by KILL QUERY."""

UNKNOWN_THREAD = 1094
NOT_PREPARABLE = (1295, 1461)
"""There is no compiling without running for this kind of statement; or the server has `max_prepared_stmt_count`
already, which may be 0."""

TOO_LARGE = 1153
"""The statement is larger than max_allowed_packet."""

READ_ONLY_TRANSACTION = 1792
_ROLLED_BACK = frozenset(
    (
        1205,  # a lock was waited for too long; InnoDB itself has rolled back the statement only
        1213,  # deadlock
        1020,  # MariaDB's innodb_snapshot_isolation: a row is newer than the snapshot
        1613,  # XA: waited too long
        1614,  # XA: deadlock
        3101,  # group replication, at the COMMIT
    )
)
"""The transaction has to be run again as a whole."""

_RETRYABLE = _ROLLED_BACK | frozenset(
    (
        *(1040, 1203, 1226),  # connections
        *(1053, 1077, 1079),  # a server that stops
        *(1047, 1158, 1159, 1160, 1161),  # Galera: this node is not ready; the network
        *(3572, 1637),  # a lock that was not waited for; too many transactions
    )
)
_LOST = frozenset((1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2002, 2003, 2006, 2013, 2055, 4031))
_FINAL = frozenset(
    (1044, 1045, 1049, 1130, 1131, 1132, 1133, 1251, 1524, 1698, 1820, 1862, 2054, 2059, 2061, 3118, 4151)
)
"""Wrong user or password, no such database, an account that is locked or has an unknown way to log in."""

_READS_ONLY = frozenset((1836, 3032))
_BY_AN_OPTION = 1290
"""The server was started with an option that does not allow the statement: `--read-only`, or another one."""


def number_of(error: BaseException) -> int | None:
    """Return the number of an error of the server or its driver."""
    if isinstance(error, errors.MySQLError) and error.args and isinstance(error.args[0], int):
        return error.args[0] or None
    return None


def code_of(error: BaseException) -> str | None:
    """Return the number as text, as callers get it."""
    number = number_of(error)
    return None if number is None else str(number)


def text_of(error: BaseException) -> str:
    """Return what the server said."""
    return str(error.args[-1] if error.args else "") or type(error).__name__


def is_lost(error: BaseException) -> bool:
    """Return whether the connection is gone with an error."""
    if isinstance(error, (OSError, EOFError)):
        return True
    if isinstance(error, (errors.InterfaceError, errors.InternalError)) and number_of(error) is None:
        return True  # it was closed before, or what it received was out of step
    return number_of(error) in _LOST


def is_final(error: BaseException) -> bool:
    """Return whether no connection can be made until somebody changes something: waiting does not help."""
    refused = error.__cause__ if number_of(error) == 2003 else error
    return isinstance(refused, ssl.SSLCertVerificationError) or number_of(error) in _FINAL


def only_reads(error: BaseException) -> bool:
    """Return whether the server takes no writes."""
    number = number_of(error)
    return number in _READS_ONLY or (number == _BY_AN_OPTION and "read-only" in text_of(error).lower())


def ends_transaction(error: BaseException) -> bool:
    """Return whether nothing of the transaction is left, or nothing of it can be kept."""
    return number_of(error) in _ROLLED_BACK or is_lost(error)


def driver_error(error: BaseException) -> LinklyError:
    """Translate what asyncmy raised."""
    if isinstance(error, LinklyError):
        return error
    details: dict[str, Any] = {"driver": "mysql", "inner_code": code_of(error)}
    if state := getattr(error, "sqlstate", None):
        details["sqlstate"] = state
    text, number = text_of(error), number_of(error)
    if number in _RETRYABLE or is_lost(error) or only_reads(error):
        details["retryable"] = True
    if is_lost(error):
        text = f"the connection to the server was lost: {text}; nothing was written, it may be tried again"
    elif number in _ROLLED_BACK:
        text = f"{text}; the transaction was rolled back, it may be tried again from its beginning"
    return DriverError(text, details=details)


def described(error: BaseException) -> str:
    """Return an error in one clause, with the server's number if it has one; without a password."""
    number = number_of(error)
    return text_of(error) if number is None else f"{text_of(error)} ({number})"


def _writes(error: BaseException) -> bool:
    return number_of(error) == READ_ONLY_TRANSACTION


DRIVER = Driver(
    name="mysql",
    failures=FAILURES,
    unreachable="2003",
    rolled_back="1180",
    ends_transaction=ends_transaction,
    code_of=code_of,
    is_lost=is_lost,
    is_final=is_final,
    only_reads=only_reads,
    writes=_writes,
    translated=driver_error,
    described=described,
)
