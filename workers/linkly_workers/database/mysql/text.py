"""What a text says of its statement: which table it changes, whether it commits, why callers may not send it.

The words are found outside of strings, names and comments, so no spelling hides them. What a function or a procedure
does when it is called is the server's to say; what it leaves in the session is undone behind every call.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from linkly_workers._sql.tokens import MYSQL, tokens
from linkly_workers._sql.words import Word, has_anything, main_of, name_at, words_of
from linkly_workers.database.backend import Op

CONTROL = (
    "is transaction control; database::transaction runs statements that belong together, "
    "database::beginTransaction opens a transaction over several calls"
)
SHARED = "would change the connection that all callers share"
OUTSIDE = "moves rows through files; use INSERT and SELECT"
COMPOUND = "holds statements of its own; send them one by one, with database::transaction where they belong together"
NAMED = "is no parameter here: write `?` in order, or `$1`, `$2`, ... by number"
EXECUTED = "is code to some servers and a comment to others; write out what is meant"

_CONTROL = frozenset(("BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "XA"))
_ADMINISTERS = frozenset(("START SLAVE", "START REPLICA", "START ALL", "START GROUP_REPLICATION"))
_SHARED = frozenset(
    ("SET", "USE", "LOCK", "UNLOCK", "HANDLER", "PREPARE", "EXECUTE", "DEALLOCATE", "DROP PREPARE", "BACKUP")
)
"""BACKUP is MariaDB's lock for a whole backup."""
_COMPOUND = frozenset(("IF", "CASE", "LOOP", "REPEAT", "WHILE", "FOR", "DECLARE"))
"""MariaDB runs them outside of procedures as well."""
_LABELLED = frozenset(("BEGIN", "LOOP", "REPEAT", "WHILE", "FOR"))
"""What a label may stand before: `a: LOOP`."""
_OUTSIDE = frozenset(("LOAD", "IMPORT"))
_INTO_FILES = frozenset(("OUTFILE", "DUMPFILE"))

_CHANGES: dict[str, Op] = {"INSERT": "insert", "REPLACE": "insert", "UPDATE": "update", "DELETE": "delete"}
_READS = frozenset(("SELECT", "VALUES", "TABLE", "SHOW", "DESCRIBE", "DESC", "EXPLAIN"))
_VERBS = frozenset((*_CHANGES, *_READS))
_OF_TABLES = frozenset(("SELECT", "VALUES", "TABLE", "WITH", "CALL"))
"""Their rows have the columns of tables; what the others show has columns of its own."""
_WRITES = frozenset((*_CHANGES, "INTO", "SHARE", "ANALYZE"))
"""In a statement that reads otherwise: `FOR UPDATE`, `LOCK IN SHARE MODE`, `INTO @variable`, `EXPLAIN ANALYZE`."""
_FUNCTIONS = frozenset(("INSERT", "REPLACE"))
"""Names of functions as well."""

_COMMITS = frozenset(
    (
        *("ALTER", "CREATE", "DROP", "RENAME", "TRUNCATE", "GRANT", "REVOKE"),
        *("OPTIMIZE", "REPAIR", "CHECK", "CACHE", "FLUSH", "RESET", "PURGE", "CHANGE", "STOP", "START"),
        *("INSTALL", "UNINSTALL", "CLONE", "SHUTDOWN", "RESTART"),
        *("ANALYZE TABLE", "ANALYZE TABLES", "ANALYZE LOCAL", "ANALYZE NO_WRITE_TO_BINLOG"),
    )
)
_MAKES_TABLES = frozenset(("CREATE", "DROP"))

_BEFORE_TABLE = frozenset(("INTO", "FROM", "IGNORE", "LOW_PRIORITY", "HIGH_PRIORITY", "DELAYED", "QUICK"))
_BEHIND_TABLES = {
    "insert": frozenset(("SET", "VALUES", "VALUE", "SELECT", "WITH", "TABLE", "PARTITION")),
    "update": frozenset(("SET", "PARTITION")),
    "delete": frozenset(("WHERE", "ORDER", "LIMIT", "RETURNING", "PARTITION", "FOR")),
}
_SEVERAL = frozenset(("JOIN", "STRAIGHT_JOIN", "USING", "FROM"))
_NEEDS_OPERAND = frozenset(("SET", "WHERE", "AND", "OR", "NOT", "XOR", "ON", "BY", "LIKE", "BETWEEN", "AS", "SELECT"))


class Findings(NamedTuple):
    """What is known of a text.

    Attributes:
        refusal: Why callers may not send it, and the reason in a few words; `None` if nothing is against it.
        empty: There is no statement in it.
        reads: It neither changes nor locks a row, if the functions that it calls do not.
        commits: What commits a transaction that it stands in, in a word or two; `None` if it does not.
        target: Operation and table, `None` for a statement that changes none; without a table if it names several, or
            calls a procedure.
        returning: It has a RETURNING clause.
        of_tables: It answers columns of tables.
    """

    refusal: tuple[str, str] | None
    empty: bool
    reads: bool
    commits: str | None
    target: tuple[Op, str | None] | None
    returning: bool
    of_tables: bool


def findings_of(sql: str) -> Findings:
    """Return what a text says of its statement."""
    for kind, start, _ in tokens(sql, MYSQL):
        if kind == "executed":
            refusal = (f"`{sql[start : sql.index('!', start) + 1]} ... */` {EXECUTED}", "unclear code")
            return Findings(refusal, False, False, None, None, False, False)
    words = list(words_of(sql, MYSQL))
    if not words:
        return Findings(None, not has_anything(sql, MYSQL), False, None, None, False, False)
    first = words[0].text
    two = f"{first} {words[1].text}" if len(words) > 1 else first
    main = main_of(words, _VERBS)
    reads = words[main].text in _READS and not any(
        word.text in _WRITES and not (word.text in _FUNCTIONS and at != main) for at, word in enumerate(words)
    )
    commits = None
    if (first in _COMMITS or two in _COMMITS) and not _is_temporary(words):
        commits = first if first == "TRUNCATE" else two
    # A procedure may commit and then write, also in a transaction that only reads.
    target: tuple[Op, str | None] | None = ("other", None) if first == "CALL" else _target(words, main)
    returning = target is not None and _returns(words, main)
    of_tables = first in _OF_TABLES or returning
    return Findings(_refusal(words, first, two), False, reads, commits, target, returning, of_tables)


def _is_temporary(words: Sequence[Word]) -> bool:
    """Return whether it is a temporary table that is made or dropped; `OR REPLACE` may stand before the word."""
    at = next((at for at, word in enumerate(words[1:4], 1) if word.text == "TEMPORARY"), None)
    is_table = at is not None and len(words) > at + 1 and words[at + 1].text in ("TABLE", "TABLES")
    return words[0].text in _MAKES_TABLES and is_table


def _refusal(words: Sequence[Word], first: str, two: str) -> tuple[str, str] | None:
    if first in _CONTROL and two not in _ADMINISTERS:
        return f"`{first}` {CONTROL}", "transaction control"
    if two in ("SET TRANSACTION", "SET SESSION") and any(word.text == "TRANSACTION" for word in words[1:3]):
        return f"`SET TRANSACTION` {CONTROL}", "transaction control"
    has_mark = len(words) > 1 and words[1].before.strip() == ":"
    if has_mark and words[1].text not in _LABELLED:
        return f"`:{words[1].written}` {NAMED}", "unclear placeholders"
    if has_mark or first in _COMPOUND:
        return f"`{first}` {COMPOUND}", "several statements"
    if first in _SHARED or two in _SHARED:
        return f"`{first if first in _SHARED else two}` {SHARED}", "changes a shared connection"
    if first == "FLUSH" and any(word.text in ("LOCK", "EXPORT") for word in words):
        return f"`FLUSH ... {'WITH READ LOCK' if words[-1].text == 'LOCK' else words[-1].text}` {SHARED}", (
            "changes a shared connection"
        )
    if first in _OUTSIDE and two != "LOAD INDEX":
        return f"`{two}` {OUTSIDE}", "reaches outside the database"
    for word, behind in itertools.pairwise(words):
        if word.text == "INTO" and behind.text in _INTO_FILES:
            return f"`INTO {behind.text}` {OUTSIDE}", "reaches outside the database"
    return None


def _target(words: Sequence[Word], main: int) -> tuple[Op, str | None] | None:
    op = _CHANGES.get(words[main].text)
    if op is None:
        return None
    name, behind = name_at(words, main + 1, _BEFORE_TABLE)
    if name is None:
        return op, None
    depth = words[main].depth
    for word in words[behind:]:
        if word.depth != depth:
            continue
        if word.text in _BEHIND_TABLES[op]:
            break
        if word.text in _SEVERAL or ("," in word.before and op != "insert"):
            return op, None
    return op, name.unquoted or name.written


def _returns(words: Sequence[Word], main: int) -> bool:
    """Return whether there is a RETURNING that is a clause: to MySQL it may be the name of a column."""
    for previous, word in zip(words[main:], words[main + 1 :], strict=False):
        if word.text == "RETURNING" and word.depth == words[main].depth:
            before = word.before.rstrip()
            if previous.text not in _NEEDS_OPERAND and (not before or before[-1] in ")?'"):
                return True
    return False
