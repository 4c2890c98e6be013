"""SQL as text: where a statement begins and ends, where it may run, and what is refused before it is compiled.

What a statement does is decided by SQLite's own compiler (see `authorizer`); the text only tells what has to be known
before that, or gives the better error message. `Statement` keeps the findings.
"""

from __future__ import annotations

import re
from itertools import chain

from linkly_workers._sql.tokens import SQLITE, Token, tokens
from linkly_workers._sqlite.authorizer import CONTROL, COPYING, HARMLESS_PRAGMAS, SHARED

TEXT_LIMIT = 4096
"""Of longer texts only the beginning is looked at where more would take long."""

# U+FEFF is blank to SQLite's tokenizer, wherever it stands.
_GAP = r"(?:[\s;\ufeff]++|--[^\n]*+|/\*.*?(?:\*/|\Z))*+"
_SKIPPED = re.compile(_GAP, re.DOTALL)
_WORD = re.compile("[A-Za-z]*")
_VACUUM = re.compile(rf"{_GAP}VACUUM\b{_GAP}(?:(?:main\b|\"main\"){_GAP})?", re.DOTALL | re.IGNORECASE)
_CONTROL = re.compile(
    r"(?:BEGIN|COMMIT|ROLLBACK|END|SAVEPOINT|RELEASE|START\s+TRANSACTION|SET\s+TRANSACTION)\b", re.IGNORECASE
)
_PRAGMA = re.compile(r"(?:\w+\s*\.\s*)?(\w+)\s*([=(]|;|\Z|--|/\*)")
_BLANK = "\ufeff" + "".join(filter(str.isspace, map(chr, range(0x3001))))


def skip(sql: str, start: int = 0) -> int:
    """Return the position after blanks, comments and semicolons."""
    found = _SKIPPED.match(sql, start)
    return start if found is None else found.end()


def first_word(sql: str) -> str:
    """Return a statement's first word in upper case, `""` if it has none."""
    found = _WORD.match(sql, skip(sql))
    return "" if found is None else found[0].upper()


def without_end(sql: str) -> str:
    """Return a statement without the semicolons behind it: Python's sqlite3 takes a second one for a second statement.

    Comments between them are seen through in texts of at most `TEXT_LIMIT` characters.
    """
    end = len(sql.rstrip(_BLANK + ";"))
    if len(sql) > TEXT_LIMIT or ";" not in sql[:end]:
        return sql[:end]
    end = last = 0
    for kind, start, stop in chain(tokens(sql, SQLITE), (Token("end", len(sql), len(sql)),)):
        between = sql[last:start].rstrip(_BLANK)
        if between:
            end = last + len(between)
        if kind not in ("comment", "end"):
            end = stop
        last = stop
    return sql[:end]


def is_vacuum(sql: str) -> bool:
    """Return whether a statement is VACUUM and nothing else: without INTO."""
    return _VACUUM.fullmatch(sql) is not None


ANYWHERE, THREAD, ALONE = 0, 1, 2
"""On the loop's thread while it is quick; on the writing thread; on the writing thread, outside a transaction."""


def place_of(sql: str, word: str) -> int:
    """Return where a statement may run, `word` being its first."""
    if word in ("VACUUM", "PRAGMA"):
        return ALONE
    # Emptying or dropping a whole table is one step, however large it is, and nothing can stop a step.
    return THREAD if word == "DROP" or (word == "DELETE" and "WHERE" not in sql.upper()) else ANYWHERE


def refusal_of(sql: str, word: str) -> str | None:
    """Return why callers may not send a statement, as far as its text tells; `None` if it says nothing against it.

    The authorizer of the connection refuses the same, whatever the text looks like.
    """
    start = skip(sql)
    rest = sql[start : start + 200]
    if _CONTROL.match(rest):
        return f"`{rest.split()[0]}` {CONTROL}"
    if word in ("ATTACH", "DETACH") or (word == "PRAGMA" and not _is_harmless_pragma(sql, start)):
        return f"`{' '.join(rest.split()[:2])}` {SHARED}"
    return COPYING if word == "VACUUM" and not is_vacuum(sql) else None


def _is_harmless_pragma(sql: str, start: int) -> bool:
    pragma = _PRAGMA.match(sql, skip(sql, start + len("PRAGMA")))
    if pragma is None:
        return False  # written so that only SQLite can read it
    # A comment may be followed by a value.
    return pragma[2] in ("", ";") or pragma[1].lower() in HARMLESS_PRAGMAS
