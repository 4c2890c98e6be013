"""Where the statements of a text end: at semicolons, but for those in brackets and in the bodies of what CREATE makes.

A body is the `BEGIN ... END` of a trigger (SQLite, MySQL), of a routine or an event (MySQL), or the `BEGIN ATOMIC ...
END` of a function (PostgreSQL). It ends with the END of its BEGIN, wherever that stands as a statement: the END of
`CASE ... END` follows something else, and `END IF` or `END LOOP` has a word behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from linkly_workers._sql.tokens import Dialect, tokens

_KINDS = frozenset(("TRIGGER", "FUNCTION", "PROCEDURE", "EVENT"))
_BEFORE_KIND = frozenset(("OR", "REPLACE", "TEMP", "TEMPORARY", "AGGREGATE"))
_BEFORE_STATEMENT = frozenset((";", ":", "BEGIN", "ATOMIC", "THEN", "ELSE", "DO", "LOOP", "REPEAT"))
_BEHIND_INNER_END = frozenset(("IF", "CASE", "LOOP", "WHILE", "REPEAT", "FOR"))


class Piece(NamedTuple):
    """One statement of a text, and the line on which it begins, counted from 1."""

    text: str
    line: int


def statements_of(text: str, dialect: Dialect) -> list[Piece]:
    """Return the statements of a text, without the semicolons behind them; comments alone are none."""
    return [
        Piece(text[start:end].strip(), text.count("\n", 0, begins) + 1)
        for start, begins, end in _parts(text, dialect)
        if begins is not None
    ]


def _parts(text: str, dialect: Dialect) -> Iterator[tuple[int, int | None, int]]:
    """Tell where each part starts, where in it something begins that is no comment, and where it ends."""
    start = last = brackets = 0
    begins: int | None = None
    bodies = _Bodies(dialect)
    for kind, token_start, token_end in tokens(text, dialect):
        between = text[last:token_start]
        if begins is None and between.strip():
            begins = last + len(between) - len(between.lstrip())
        brackets = max(0, brackets + between.count("(") - between.count(")"))
        last = token_end
        if kind == "comment":
            continue
        if kind == "end":
            bodies.take(";", between)
            if not brackets and not bodies.open:
                yield start, begins, token_start
                start, begins, bodies = token_end, None, _Bodies(dialect)
            continue
        begins = token_start if begins is None else begins
        bodies.take(text[token_start:token_end].upper() if kind == "word" else "", between)
    rest = text[last:]
    if begins is None and rest.strip():
        begins = last + len(rest) - len(rest.lstrip())
    yield start, begins, len(text)


class _Bodies:
    """What the words of one statement, taken in order, say of bodies.

    Attributes:
        open: How many BEGIN still wait for their END.
    """

    def __init__(self, dialect: Dialect) -> None:
        self.open = 0
        self._atomic = dialect.dollar_strings  # BEGIN alone may be a name in PostgreSQL
        self._head: Literal["create", "kind", "definer", "body", "none"] = "create"
        self._previous = ""
        self._declares = False
        self._ended = False

    def take(self, word: str, between: str) -> None:
        """Take the next word in upper case, `;`, or `""` for what is neither, and what stands before it."""
        if between.rstrip().endswith((".", ":")):
            self._previous = between.rstrip()[-1]
        if self._ended:
            self._ended = False
            if word not in _BEHIND_INNER_END:
                self.open -= 1
        if self._head == "body":
            self._take_in_body(word)
        elif word:
            self._head = self._next_head(word)
        self._previous = word

    def _next_head(self, word: str) -> Literal["create", "kind", "definer", "body", "none"]:
        if self._head == "create":
            return "kind" if word == "CREATE" else "none"
        if self._head == "none" or word in _KINDS:
            return "body" if self._head != "none" else "none"
        if word == "DEFINER" or self._head == "definer":
            return "definer"
        return "kind" if word in _BEFORE_KIND else "none"

    def _take_in_body(self, word: str) -> None:
        begins = self._previous in _BEFORE_STATEMENT
        if not self.open:
            opening = self._previous == "BEGIN" and word == "ATOMIC" if self._atomic else word == "BEGIN"
            if opening and self._previous != ".":
                self.open = 1
            return
        if begins:
            self._declares = word == "DECLARE"
        if word == "BEGIN" and (begins or self._declares):
            self.open += 1
        elif word == "END" and begins:
            self._ended = True
