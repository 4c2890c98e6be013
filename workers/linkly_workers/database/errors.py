"""Errors of the database worker (docs/workers.md#database); backends translate those of their drivers into these."""

from __future__ import annotations

from linkly.atomic import ExpectationFailed as ExpectationFailed
from linkly.errors import LinklyError


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


class StatementWrites(DriverError):
    """A statement that had to read only writes; nothing was written."""


class InvalidParam(LinklyError):
    """A parameter or an option cannot be used; `details.index` is its position."""

    code = "INVALID_PARAM"


class QueryTimeout(LinklyError):
    """A statement took longer than its `timeout_ms`; it was interrupted."""

    code = "QUERY_TIMEOUT"


class PoolTimeout(LinklyError):
    """No connection became free within `acquire_timeout_ms`."""

    code = "POOL_TIMEOUT"


class LockTimeout(LinklyError):
    """Somebody else had a lock for longer than the caller wanted to wait; nothing was written."""

    code = "LOCK_TIMEOUT"


class MigrationError(LinklyError):
    """The files of a migration and what a database has had of them do not fit; `details.migration` names the file."""

    code = "MIGRATION_ERROR"


class CopyError(LinklyError):
    """A table cannot be copied as it is; `details.table` names it."""

    code = "COPY_ERROR"


class StatementNotFound(LinklyError):
    """A handle is unknown or has expired."""

    code = "STATEMENT_NOT_FOUND"


class TransactionNotFound(LinklyError):
    """A transaction is unknown, has ended or has been rolled back at its deadline."""

    code = "TRANSACTION_NOT_FOUND"


class DatabaseConfigError(LinklyError):
    """A trigger's config cannot be used."""

    code = "CONFIG_ERROR"
