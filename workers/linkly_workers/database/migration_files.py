"""Numbered files of SQL: what their names and first lines say, and which of them a database has not had yet.

It knows texts and rows, no database.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from linkly_workers._sql.statements import Piece, statements_of
from linkly_workers._sql.tokens import Dialect
from linkly_workers.database.errors import MigrationError
from linkly_workers.database.shapes import MigrationText

_NAME = re.compile(r"([0-9]{1,18})_[^/\\]+\.sql")
_DIRECTIVE = re.compile(r"--[ \t]*linkly[ \t]*:[ \t]*(.*)")
NO_TRANSACTION = "no-transaction"


class Migration(msgspec.Struct, frozen=True):
    """One file.

    Attributes:
        id: The number that its name begins with.
        name: Of the file.
        sql: What is in it.
        checksum: SHA-256 of that, whatever ends its lines.
        in_transaction: Its statements happen all or not at all.
    """

    id: int
    name: str
    sql: str
    checksum: str
    in_transaction: bool

    def statements(self, dialect: Dialect) -> list[Piece]:
        """Return the statements in it."""
        return statements_of(self.sql, dialect)


class Row(NamedTuple):
    """What a database says of one file; `applied_at` is `None` from the begin of one without transaction to its end."""

    id: int
    name: str
    checksum: str
    applied_at: str | None


class Unfinished(MigrationError):
    """A file without transaction has begun and not ended."""


def migrations_of(given: Sequence[MigrationText]) -> list[Migration]:
    """Return files by number.

    Raises:
        MigrationError: A name has no number, two have the same, or a first line says what nobody knows.
    """
    found: dict[int, Migration] = {}
    for each in given:
        migration = _migration(each)
        other = found.setdefault(migration.id, migration)
        if other is not migration:
            raise error(migration.name, f"has the number of `{other.name}`; give each file its own", "number")
    return [found[number] for number in sorted(found)]


def left_to_apply(migrations: Sequence[Migration], rows: Sequence[Row]) -> list[Migration]:
    """Return the files that a database has not had, in order.

    Raises:
        Unfinished: One without transaction has begun and not ended.
        MigrationError: A file was edited, renamed or removed after it was applied, or comes before one that was.
    """
    by_number = {each.id: each for each in migrations}
    for row in rows:
        migration = by_number.pop(row.id, None)
        if row.applied_at is None:
            raise Unfinished(
                f"`{row.name}` has begun and not ended: somebody runs it now, or was stopped. If nobody does, see what "
                f"of it has happened, delete the row {row.id} of linkly_migrations and migrate again",
                details={"migration": row.name, "reason": "unfinished"},
            )
        if migration is None:
            raise error(row.name, "was applied and is missing now; put it back", "missing")
        if migration.name != row.name:
            raise error(migration.name, f"was applied as `{row.name}`; give it that name again", "renamed")
        if migration.checksum != row.checksum:
            raise error(row.name, "was edited after it was applied; put the change into a new file", "edited")
    if rows:
        last = max(rows)
        for each in by_number.values():
            if each.id < last.id:
                raise error(
                    each.name, f"comes before `{last.name}`, which was applied; give it a number behind", "unordered"
                )
    return list(by_number.values())


def error(name: str, what: str, reason: str) -> MigrationError:
    """Return the error of one file."""
    return MigrationError(f"`{name}` {what}", details={"migration": name, "reason": reason})


def _migration(given: MigrationText) -> Migration:
    found = _NAME.fullmatch(given.name)
    if found is None:
        raise error(given.name, "is no name of a migration; it begins with a number, `0001_links.sql`", "name")
    text = given.sql.removeprefix("\ufeff").replace("\r\n", "\n")
    checksum = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return Migration(int(found[1]), given.name, text, checksum, _in_transaction(given.name, text))


def _in_transaction(name: str, text: str) -> bool:
    """Read the comments before the first statement."""
    inside = True
    for line in text.splitlines():
        line = line.strip()
        if line and not line.startswith("--"):
            break
        directive = _DIRECTIVE.fullmatch(line)
        if directive is not None and directive[1] != NO_TRANSACTION:
            raise error(name, f"says `{line}`; what is known is `-- linkly: {NO_TRANSACTION}`", "directive")
        inside = inside and directive is None
    return inside
