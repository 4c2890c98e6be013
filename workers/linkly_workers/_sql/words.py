"""The words of a statement, outside of strings and comments, so that no spelling hides one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from linkly_workers._sql.tokens import Dialect, tokens


class Word(NamedTuple):
    """A word or a quoted name that stands outside of strings and comments.

    Attributes:
        text: A word in upper case; a quoted name with its quotes, as it is written.
        written: As it is written.
        depth: In how many brackets it stands.
        before: What stands between the one before and this one, without strings and comments.
    """

    text: str
    written: str
    depth: int
    before: str

    @property
    def dotted(self) -> bool:
        """Whether there is a dot between the one before and this one."""
        return "." in self.before

    @property
    def unquoted(self) -> str | None:
        """The name within the quotes, `None` if there are none."""
        quote = self.written[0]
        return self.written[1:-1].replace(quote * 2, quote) if quote in '"`' else None


def words_of(sql: str, dialect: Dialect) -> Iterator[Word]:
    """Tell the words of a text in order."""
    last = depth = 0
    before = ""
    name: Word | None = None
    for kind, start, end in tokens(sql, dialect):
        between, written = sql[last:start], sql[start:end]
        last = end
        if kind == "comment":
            depth += between.count("(") - between.count(")")
            before += between
            continue
        is_name = kind == "quoted" and written[0] in dialect.names
        if name is not None and is_name and not between and not before:
            name = name._replace(text=name.text + written, written=name.written + written)  # a doubled quote
            continue
        if name is not None:
            yield name
            name = None
        depth += between.count("(") - between.count(")")
        before += between
        if kind == "word":
            yield Word(written.upper(), written, depth, before)
        elif is_name:
            name = Word(written, written, depth, before)
        before = "" if kind == "word" or is_name else before + {"quoted": "''", "end": ";"}.get(kind, "?")
    if name is not None:
        yield name


def has_anything(sql: str, dialect: Dialect) -> bool:
    """Return whether there is something beside blanks, comments and semicolons."""
    last = 0
    for kind, start, end in tokens(sql, dialect):
        if sql[last:start].strip() or kind not in ("comment", "end"):
            return True
        last = end
    return bool(sql[last:].strip())


def main_of(words: Sequence[Word], verbs: Collection[str]) -> int:
    """Return the place of the word that says what a statement does: behind WITH and its brackets."""
    if words[0].text != "WITH":
        return 0
    depth = words[0].depth
    return next((at for at, word in enumerate(words) if word.depth == depth and word.text in verbs), 0)


def name_at(words: Sequence[Word], at: int, passed: Collection[str] = ()) -> tuple[Word | None, int]:
    """Return the name that begins at a place, without what it is qualified by, and the place behind it.

    Words that are `passed` may stand before it.
    """
    while at < len(words) and words[at].text in passed:
        at += 1
    if at >= len(words):
        return None, at
    while at + 1 < len(words) and words[at + 1].dotted:
        at += 1
    return words[at], at + 1
