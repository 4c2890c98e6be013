"""SQL as text: where a statement begins, and findings about texts, remembered as long as the text is short.

What a statement does is decided by SQLite's own compiler (see `guard`); the text only tells what has to be known before
it is compiled, or gives the better error message.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

TEXT_LIMIT = 4096
"""Longer texts are not remembered: a thousand of a megabyte each would be a gigabyte."""

TEXTS = 1024

# U+FEFF is blank to SQLite's tokenizer, wherever it stands.
_SKIPPED = re.compile(r"(?:[\s;\ufeff]|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z))*", re.DOTALL)
_WORD = re.compile("[A-Za-z]*")
_TOKEN = re.compile(
    r"""(?P<skipped>[\s;\ufeff]+|--[^\n]*|/\*.*?(?:\*/|\Z))"""
    r"""|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|\w+|.""",
    re.DOTALL,
)
_END = " \t\n\r\f\v;\ufeff"


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
    end = len(sql.rstrip(_END))
    if len(sql) <= TEXT_LIMIT and ";" in sql[:end]:
        for token in _TOKEN.finditer(sql):
            if token["skipped"] is None:
                end = token.end()
    return sql[:end]


def remembered(find: Callable[[str], T]) -> Callable[[str], T]:
    """Remember what a function finds out about short texts.

    Not `lru_cache`, which would keep long ones as well.
    """
    known: dict[str, T] = {}

    def recall(sql: str) -> T:
        try:
            return known[sql]
        except KeyError:
            found = find(sql)
            if len(sql) <= TEXT_LIMIT:
                if len(known) >= TEXTS:
                    known.clear()
                known[sql] = found
            return found

    recall.__doc__ = find.__doc__
    return recall


@remembered
def is_vacuum(sql: str) -> bool:
    """Tell whether a statement is VACUUM and nothing else: without INTO."""
    if first_word(sql) != "VACUUM":
        return False
    words = [token[0].lower() for token in _TOKEN.finditer(sql) if token["skipped"] is None]
    return "".join(words) in ("vacuum", "vacuummain", 'vacuum"main"')


ANYWHERE, THREAD, ALONE = 0, 1, 2
"""On the loop's thread while it is quick; on the writing thread; there, and in no transaction."""


@remembered
def place_of(sql: str) -> int:
    """Tell where a statement may run."""
    word = first_word(sql)
    if word in ("VACUUM", "PRAGMA"):
        return ALONE
    # Emptying or dropping a whole table is one step, however large it is, and nothing can stop a step.
    return THREAD if word == "DROP" or (word == "DELETE" and "WHERE" not in sql.upper()) else ANYWHERE
