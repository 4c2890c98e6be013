"""A statement, and all that is known of it: judged by its text once, learned when it runs.

The statements of one database are in one cache, which all its connections share, so a call looks its text up once and
hands the object on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from linkly_workers._sql.parameters import UnclearPlaceholders
from linkly_workers._sqlite.placeholders import Named, named_in
from linkly_workers._sqlite.text import first_word, is_vacuum, place_of, refusal_of, skip, without_end

Op = Literal["insert", "update", "delete", "other"]
Target = tuple[Op, str | None]

NO_ROWID, ROWID, SOMETIMES_ROWID = 1, 2, 3
"""What a statement does to `last_insert_rowid()` when it changes rows; upserts only sometimes insert."""

COUNT_LIMIT = 1024
LENGTH_LIMIT = 16_384
"""Longer texts are judged each time: a thousand of a megabyte each would be a gigabyte."""

CHARACTERS_LIMIT = 4_000_000
"""Characters of all the texts that are kept together."""

_SCHEMA_WORDS = ("CREATE", "ALTER", "DROP", "PRAGMA", "VACUUM")


class Statement:
    """One SQL text, immutable but for what is learned of it.

    Attributes:
        text: The statement without the semicolons around it; empty if there is none.
        word: Its first word in upper case.
        refusal: Why callers may not send it, as far as its text tells.
        unclear: Why nobody can say which values its placeholders mean; it is refused for that as well.
        place: Where it may run: `ANYWHERE`, `THREAD` or `ALONE`.
        vacuum: It is VACUUM and nothing else.
        changes_schema: It may change what tables there are.
        named: How its values are given by name; `None` if every placeholder is `?`.
        kind: What it does to `last_insert_rowid()`, 0 while it is not known.
        target: Which table it changes, and how; `None` while nobody has asked.
        types: Declared types of the columns of its result; `None` while nobody has asked.
        runs_on_thread: How many of its next reads go straight to a thread because it was slow on the loop's.
    """

    __slots__ = (
        "changes_schema",
        "kind",
        "named",
        "place",
        "refusal",
        "runs_on_thread",
        "target",
        "text",
        "types",
        "unclear",
        "vacuum",
        "word",
    )

    def __init__(self, sql: str) -> None:
        text = without_end(sql)
        start = skip(text)
        if ";" in text[:start]:
            text = text[start:]  # EXPLAIN is put before it
        self.text = text if skip(text) < len(text) else ""
        self.word = word = first_word(text)
        self.named: Named | None = None
        self.unclear: str | None = None
        try:
            self.named = named_in(text)
        except UnclearPlaceholders as error:
            self.unclear = str(error)
        self.refusal = refusal_of(text, word) or self.unclear
        self.place = place_of(text, word)
        self.vacuum = is_vacuum(text)
        self.changes_schema = word in _SCHEMA_WORDS
        self.kind = 0
        self.target: Target | None = None
        self.types: list[str] | None = None
        self.runs_on_thread = 0

    def rows_of(self, result: Any) -> int:
        """Return how many rows it has changed, or has as its result; none changes rows and answers others."""
        return result.affected_rows or len(result.rows)

    def bound(self, parameters: Sequence[Any] | dict[str, Any]) -> tuple[str, Sequence[Any] | dict[str, Any]]:
        """Return text and values as every version of sqlite3 takes them; `?` alone stays as it is.

        Raises:
            sqlite3.ProgrammingError: There are too few values, or too many.
        """
        named = self.named
        if named is None or not parameters or isinstance(parameters, dict):
            return self.text, parameters
        return named.text, named.values(parameters)


class Statements:
    """The statements of one database, by the text that callers send; the oldest gives way to the next one."""

    def __init__(self) -> None:
        self._known: dict[str, Statement] = {}
        self._characters = 0

    def of(self, sql: str) -> Statement:
        """Return the statement of a text."""
        found = self._known.get(sql)
        return self._judged(sql) if found is None else found

    def forget_tables(self) -> None:
        """Forget what statements do to tables: they change."""
        for statement in list(self._known.values()):
            statement.kind, statement.target = 0, None

    def forget_types(self) -> None:
        """Forget the types of columns: a change of the schema is on disk. Before that an old type would be learned."""
        for statement in self._known.values():
            statement.types = None

    @property
    def slow_reads(self) -> int:
        """Count the statements that are read on a thread because they were slow on the loop's."""
        return sum(statement.runs_on_thread > 0 for statement in self._known.values())

    def _judged(self, sql: str) -> Statement:
        statement = Statement(sql)
        if len(sql) > LENGTH_LIMIT:
            return statement
        known = self._known
        while known and (len(known) >= COUNT_LIMIT or self._characters + len(sql) > CHARACTERS_LIMIT):
            oldest = next(iter(known))
            del known[oldest]
            self._characters -= len(oldest)
        known[sql] = statement
        self._characters += len(sql)
        return statement
