"""What a text says of its statement: which table it changes, whether it only reads, why callers may not send it.

The words are found outside of strings, names and comments, so no spelling hides them. What a function does when it is
called is the server's to say; what it leaves in the session is undone behind every call (`connection.RESET`).
"""

from __future__ import annotations

from typing import NamedTuple

from linkly_workers._sql.tokens import POSTGRES
from linkly_workers._sql.words import Word, has_anything, main_of, name_at, words_of
from linkly_workers.database.backend import Op

CONTROL = (
    "is transaction control; database::transaction runs statements that belong together, "
    "database::beginTransaction opens a transaction over several calls"
)
SHARED = "would change the connection that all callers share"
OUTSIDE = "moves rows through files, programs or a stream of its own; use INSERT and SELECT"

_CONTROL = frozenset(
    ("BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE", "SET TRANSACTION", "SET SESSION")
)
_SHARED = frozenset(
    (
        *("SET", "RESET", "DISCARD", "LISTEN", "UNLISTEN", "LOAD"),
        *("PREPARE", "EXECUTE", "DEALLOCATE", "DECLARE", "FETCH", "MOVE", "CLOSE"),
    )
)
_LOCAL = frozenset(("SET LOCAL", "SET CONSTRAINTS"))
"""End with the transaction."""

_CHANGES: dict[str, Op] = {"INSERT": "insert", "UPDATE": "update", "DELETE": "delete", "MERGE": "other"}
_READS = frozenset(("SELECT", "VALUES", "TABLE", "SHOW"))
_VERBS = frozenset((*_CHANGES, *_READS))
_WRITES = frozenset((*_CHANGES, "INTO"))
"""In a SELECT as well: `FOR UPDATE`, a WITH that changes rows, `INTO`."""

_BEFORE_TABLE = frozenset(("INTO", "FROM", "ONLY"))

_BEFORE_QUERY = frozenset(("AS", "MATERIALIZED"))


class Findings(NamedTuple):
    """What is known of a text.

    Attributes:
        refusal: Why callers may not send it, and the reason in a few words; `None` if nothing is against it.
        empty: There is no statement in it.
        reads: It neither changes nor locks a row, if the functions that it calls do not.
        target: Operation and table, `None` for a statement that changes none.
        inside: Operations and tables of what the WITH of a SELECT changes.
        only_changes: It changes rows and returns none.
    """

    refusal: tuple[str, str] | None
    empty: bool
    reads: bool
    target: tuple[Op, str | None] | None
    inside: tuple[tuple[Op, str | None], ...] = ()
    only_changes: bool = False


def findings_of(sql: str) -> Findings:
    """Return what a text says of its statement."""
    words = list(words_of(sql, POSTGRES))
    if not words:
        return Findings(None, not has_anything(sql, POSTGRES), False, None)
    first = words[0].text
    two = f"{first} {words[1].text}" if len(words) > 1 else first
    refusal = None
    if first in _CONTROL or two in _CONTROL or two == "PREPARE TRANSACTION":
        refusal = (f"`{two if two in _CONTROL or first == 'PREPARE' else first}` {CONTROL}", "transaction control")
    elif first in _SHARED and two not in _LOCAL:
        refusal = (f"`{two if first == 'SET' else first}` {SHARED}", "changes a shared connection")
    elif first == "COPY":
        refusal = (f"`COPY` {OUTSIDE}", "reaches outside the database")
    main = main_of(words, _VERBS)
    reads = words[main].text in _READS and not any(word.text in _WRITES for word in words)
    inside = _inside(words) if not reads and words[main].text in _READS else ()
    only_changes = words[main].text in _CHANGES and not any(word.text == "RETURNING" for word in words)
    return Findings(refusal, False, reads, _target(words, main), inside, only_changes)


def _inside(words: list[Word]) -> tuple[tuple[Op, str | None], ...]:
    """Return what the queries of a WITH change: each stands in brackets behind AS."""
    starts = (
        at
        for at, word in enumerate(words)
        if word.text in _CHANGES and at and words[at - 1].text in _BEFORE_QUERY and word.depth > words[at - 1].depth
    )
    return tuple(target for at in starts if (target := _target(words, at)) is not None)


def _target(words: list[Word], main: int) -> tuple[Op, str | None] | None:
    op = _CHANGES.get(words[main].text)
    if op is None:
        return None
    name, _ = name_at(words, main + 1, _BEFORE_TABLE)
    return op, None if name is None else name.unquoted or name.written.lower()
