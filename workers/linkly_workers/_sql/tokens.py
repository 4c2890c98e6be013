"""Cuts SQL into placeholders, words and ends of statements, and what only looks like them from inside.

One regular expression is made of the description of a dialect. It is no parser: an unfinished string goes on to the end
of the text, and the database says what is wrong with that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Literal, NamedTuple, cast

import msgspec


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How a database reads SQL, as far as placeholders and the ends of statements depend on it.

    Attributes:
        driver: What `database::listDatabases` calls it.
        form: How its driver takes placeholders; `?`: in order.
        strings: The quotes of strings.
        names: The quotes of names, `[` for `[name]`.
        backslash: A backslash escapes the next character of a string.
        e_strings: It does so in `E'...'`.
        dollar_strings: `$tag$ ... $tag$` is a string.
        named: `:name`, `@name`, `$name` and `#name` are placeholders.
        operators: There are operators with `?` in them, where callers write `??`.
        nested_comments: `/* /* */ */` is one comment.
        executed_comments: `/*! ... */` is code.
        hash_comments: `#` begins a comment, and `--` only before a blank.
        line_ends: What ends a comment that begins so.
        dollar_in_numbers: `1$2` is one word.
        mark_is_blank: U+FEFF begins no word.
    """

    driver: str
    form: Literal["$n", "?n", "?"]
    strings: str = "'"
    names: str
    backslash: bool = False
    e_strings: bool = False
    dollar_strings: bool = False
    named: bool = False
    operators: bool = False
    nested_comments: bool = False
    executed_comments: bool = False
    hash_comments: bool = False
    line_ends: str = "\n"
    dollar_in_numbers: bool = True
    mark_is_blank: bool = False


POSTGRES = Dialect(
    driver="postgres",
    form="$n",
    names='"',
    e_strings=True,
    dollar_strings=True,
    operators=True,
    nested_comments=True,
    line_ends="\n\r",
    dollar_in_numbers=False,
)
"""With `standard_conforming_strings` on, its default."""

SQLITE = Dialect(driver="sqlite", form="?n", names='"`[', named=True, mark_is_blank=True)

MYSQL = Dialect(
    driver="mysql",
    form="?",
    strings="'\"",
    names="`",
    backslash=True,
    executed_comments=True,
    hash_comments=True,
)
"""MySQL and MariaDB, whose `sql_mode` has neither ANSI_QUOTES nor NO_BACKSLASH_ESCAPES."""

Kind = Literal["quoted", "executed", "comment", "word", "operator", "placeholder", "end"]


class Token(NamedTuple):
    """One piece of a text; `quoted` is a string or a quoted name, `operator` a `?` written twice, `end` a semicolon."""

    kind: Kind
    start: int
    end: int


def tokens(sql: str, dialect: Dialect) -> Iterator[Token]:
    """Tell the tokens of a text in order; blanks, brackets and operators without `?` are none."""
    search = _pattern(dialect).search
    at = 0
    while found := search(sql, at):
        kind = cast("Kind", found.lastgroup)
        at = found.end()
        if dialect.nested_comments and sql.startswith("/*", found.start()):
            at = _end_of_comment(sql, at)
        yield Token(kind, found.start(), at)


_COMMENT_EDGE = re.compile(r"/\*|\*/")


def _end_of_comment(sql: str, start: int) -> int:
    depth = 1
    for edge in _COMMENT_EDGE.finditer(sql, start):
        depth += 1 if edge[0] == "/*" else -1
        if not depth:
            return edge.end()
    return len(sql)


_IN_WORD = r"[A-Za-z0-9_$\u0080-\U0010ffff]"
_IN_TAG = r"[A-Za-z0-9_\u0080-\U0010ffff]"


@cache
def _pattern(dialect: Dialect) -> re.Pattern[str]:
    """Return an expression with one group for each kind. No alternative can fail late, so it takes linear time."""
    begins = r"[A-Za-z_\u0080-\ufefe\uff00-\U0010ffff]" if dialect.mark_is_blank else r"[A-Za-z_\u0080-\U0010ffff]"
    kinds: dict[Kind, list[str]] = {
        "quoted": [
            *_quoted(dialect),
            *([rf"(?P<tag>\$(?:{begins}{_IN_TAG}*+)?\$).*?(?:(?P=tag)|\Z)"] if dialect.dollar_strings else []),
        ],
        "executed": [r"/\*M?!.*?(?:\*/|\Z)"] if dialect.executed_comments else [],
        "comment": _comments(dialect),
        "word": [begins + _IN_WORD + "*+", "[0-9]" + (_IN_WORD if dialect.dollar_in_numbers else _IN_TAG) + "*+"],
        "operator": [r"\?\?"] if dialect.operators else [],
        "placeholder": [
            r"\?[0-9]*+",
            # The `::` of a cast is SQLite's to refuse.
            rf"(?<!:)[:@$#](?:{_IN_WORD}|::)++(?:\([^\s)]*+\)?)?" if dialect.named else r"\$[0-9]++",
        ],
        "end": [";"],
    }
    groups = [f"(?P<{kind}>{'|'.join(alternatives)})" for kind, alternatives in kinds.items() if alternatives]
    return re.compile("|".join(groups), re.DOTALL)


def _quoted(dialect: Dialect) -> Iterator[str]:
    """Tell the patterns of strings and quoted names; a doubled quote ends one and begins the next."""
    if dialect.e_strings:
        body = r"'(?:[^'\\]++|''|\\.?)*+'?"
        comment = r"--[^\n\r]*+"
        # After a line end the string goes on with the next quote, and its backslashes still escape.
        gap = rf"(?:[ \t\f\v]|{comment})*+[\n\r](?:\s|{comment}[\n\r])*+"
        yield rf"[eE]{body}(?:{gap}{body})*+"
    for quote in dialect.strings:
        yield rf"{quote}(?:[^{quote}\\]++|\\.?)*+{quote}?" if dialect.backslash else rf"{quote}[^{quote}]*+{quote}?"
    for quote in dialect.names:
        yield r"\[[^\]]*+\]?" if quote == "[" else rf"{quote}[^{quote}]*+{quote}?"


def _comments(dialect: Dialect) -> list[str]:
    line = rf"[^{dialect.line_ends}]*+"
    dashes = r"--(?=[\x00-\x20\x7f]|\Z)" if dialect.hash_comments else "--"
    block = r"/\*" if dialect.nested_comments else r"/\*.*?(?:\*/|\Z)"
    return [dashes + line, block, *(["#" + line] if dialect.hash_comments else [])]
