"""What is known of the file behind the open connections: whether it is still there, and whether the last write is.

A deleted or replaced file swallows writes without a word: the connections go on with the old one, which has no name any
more. So device and inode of the database and of its log are compared after each commit, before anybody is answered (two
`stat`, 3 us a commit, beside some 150 us for the disk).

When the disk refuses a commit (a failed fsync, no room for the last page), its database pages may be in the log all the
same, and a restart would find them. `resolve` overwrites them, after which nothing of the refused commit is left. Only
where that fails as well nobody can know, and the answer says so (`OutcomeUnknown`).
"""

from __future__ import annotations

import logging
import os
import sqlite3

from linkly.errors import LinklyError, OutcomeUnknown
from linkly_workers._sqlite.connection import Connection

log = logging.getLogger("linkly.sqlite")

_NOT_WRITTEN = frozenset(
    (
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_ABORT,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_AUTH,
    )
)
"""Of the primary codes with which a COMMIT fails, those that come before anything is written."""

Identity = tuple[int, int]


class DataFileLost(LinklyError):
    """A database's file was deleted or replaced while it is open; nothing is written any more until it is reopened."""

    code = "DATA_FILE_LOST"


class DataFile:
    """One database file and its log.

    Args:
        path: File name, or `:memory:`, which cannot get lost.

    Attributes:
        lost: What has happened to it, if it was lost; it stays lost until it is opened anew.
        doubtful: A commit was refused, and it is not known what is left of it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.lost: str | None = None
        self.doubtful = False
        # Absolute: somebody may change the working directory. The name is not resolved, so that a link that is turned
        # to another file is noticed; the log's is, because SQLite keeps it beside the file itself.
        self._named = os.path.abspath(path)
        self._log_path = f"{os.path.realpath(path)}-wal"
        self._identity: Identity | None = None
        self._log_identity: Identity | None = None

    def opened(self, connection: Connection) -> None:
        """Remember which file it is, and which log.

        Raises:
            OSError: It cannot be told.
            sqlite3.Error: It cannot be read.
        """
        self.lost, self.doubtful, self._log_identity = None, False, None
        if self.path != ":memory:":
            # A read opens the log. One that is deleted before the first commit has to be missed as well.
            connection.own("PRAGMA user_version").fetchone()
            self._identity, self._log_identity = _identity(self._named), _identity(self._log_path)

    def is_there(self) -> bool:
        """Look whether the open file is still the one that its path names."""
        if self.lost is not None:
            return False
        if self._identity is None:
            return True
        try:
            if _identity(self._named) != self._identity:
                self._lose(self._named)
            elif self._log_identity is not None and _identity(self._log_path) != self._log_identity:
                self._lose(self._log_path)
        except OSError:
            return True  # the disk does not say; the next commit will
        return self.lost is None

    def check(self) -> None:
        """Refuse to go on without the file.

        Raises:
            DataFileLost: It was deleted or replaced.
        """
        if not self.is_there():
            raise self.error()

    def error(self) -> DataFileLost:
        """Return what is answered to who wants to write to a lost file."""
        return DataFileLost(
            f"{self.lost} while it was open; nothing was written. Put the right file in place and restart the worker",
            details={"path": self.path},
        )

    def commit(self, connection: Connection) -> None:
        """Commit what a connection has written, and make sure of it.

        Raises:
            OutcomeUnknown: It may have been written or not.
            sqlite3.Error: Nothing was written; the transaction is over.
        """
        try:
            connection.own("COMMIT").close()
        except sqlite3.Error as error:
            self.refused(connection, error)
            if self.doubtful:
                try:
                    self.resolve(connection)
                except sqlite3.Error:
                    raise self.unknown(error) from error
            raise
        self.committed()

    def refused(self, connection: Connection, error: sqlite3.Error) -> None:
        """Note that a COMMIT has failed, and end its transaction; it is `doubtful` if it may be on disk."""
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF not in _NOT_WRITTEN:
            self.doubtful = True
        if connection.in_transaction:
            connection.own("ROLLBACK")

    def committed(self) -> None:
        """Note that a COMMIT has succeeded.

        Raises:
            OutcomeUnknown: In a file that has no name any more, or another one.
        """
        self.doubtful = False
        if self._identity is None:
            return
        if not self.is_there():
            raise OutcomeUnknown(
                f"{self.lost} while it was written to: whether anything of this is kept is unknown",
                details={"path": self.path},
            )

    def resolve(self, connection: Connection) -> None:
        """Overwrite what a refused commit may have left in the log, so that it has not happened.

        Raises:
            sqlite3.Error: The disk refuses this as well, or another program has locked the file.
        """
        version = connection.own("PRAGMA user_version").fetchone()[0]
        connection.own("PRAGMA user_version = ", version).close()  # SQLite writes it although it is the same
        self.doubtful = False

    def unknown(self, why: BaseException) -> OutcomeUnknown:
        """Return what is answered to whose commit was refused and could not be resolved."""
        log.error("the disk has refused a commit to %s (%s); whether it is written is unknown", self.path, why)
        return OutcomeUnknown(
            f"the disk has refused a commit to {self.path} ({why}): it may be written or not",
            details={"path": self.path, "inner_code": getattr(why, "sqlite_errorname", None)},
        )

    def _lose(self, path: str) -> None:
        found = _identity(path)
        self.lost = f"{path} was {'deleted' if found is None else 'replaced by another file'}"
        log.error(
            "%s while it is open: writes are refused from now on. Put the right file in place, with its own -wal file "
            "or none, and restart the worker",
            self.lost,
        )


def _identity(path: str) -> Identity | None:
    """Return device and inode of a file, `None` if there is none.

    Raises:
        OSError: It cannot be told.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
