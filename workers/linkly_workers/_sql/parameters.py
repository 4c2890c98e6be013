"""The placeholders of one statement: which value each of them means, and how the driver takes them.

A statement has one style: `?` by order, `$n` or `?n` by number, or, on SQLite, `:name` by name (each new name means the
next value). `?` is always a placeholder; where the database has operators with it, they are written `??`, `??|`, `??&`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from typing import Literal, NamedTuple

import msgspec

from linkly_workers._sql.tokens import Dialect, tokens

Style = Literal["order", "number", "name"]


class UnclearPlaceholders(ValueError):
    """Nobody can say which value a placeholder means; the sentence says what to write instead."""


class WrongNumberOfValues(ValueError):
    """There are more values than placeholders mean, or fewer."""


class Placeholder(NamedTuple):
    """One placeholder: where it is in the text, and which value it means, counted from 1."""

    start: int
    end: int
    number: int


class Parameters(msgspec.Struct, frozen=True):
    """What a statement's text says of its values.

    Attributes:
        text: The statement as the driver takes it.
        placeholders: In the order of the caller's text.
        count: How many values belong to it.
        style: How they are told apart; `None` if there are none.
        advice: What an error about the number of values adds to its sentence.
    """

    text: str
    placeholders: tuple[Placeholder, ...]
    count: int
    style: Style | None
    advice: str

    def check(self, given: int) -> None:
        """Check the number of values.

        Raises:
            WrongNumberOfValues: It is another one.
        """
        if given != self.count:
            raise WrongNumberOfValues(
                f"Incorrect number of bindings supplied. The current statement uses {self.count}, "
                f"and there are {given} supplied.{self.advice}"
            )


def parameters_of(sql: str, dialect: Dialect) -> Parameters:
    """Return what the text of one statement says of its values.

    Raises:
        UnclearPlaceholders: It mixes styles, leaves out a number, or has placeholders that only some servers see.
    """
    found: list[tuple[int, int]] = []
    operators: list[int] = []
    executed = ""
    for kind, start, end in tokens(sql, dialect):
        if kind == "placeholder":
            found.append((start, end))
        elif kind == "operator":
            operators.append(start)
        elif kind == "executed":
            executed = sql[start : sql.index("!", start) + 1]
    if found and executed:
        raise UnclearPlaceholders(
            f"a statement with parameters cannot have `{executed} ... */`: only some servers run what is in it"
        )
    spellings = [sql[start:end] for start, end in found]
    style = _style(spellings, dialect)
    numbers = _BY_STYLE[style](spellings) if style else []
    placeholders = tuple(Placeholder(*place, number) for place, number in zip(found, numbers, strict=True))
    return Parameters(
        text=_written(sql, dialect, placeholders, operators),
        placeholders=placeholders,
        count=max(numbers, default=0),
        style=style,
        advice=_advice(sql, dialect, style),
    )


def with_nulls(sql: str, dialect: Dialect) -> str:
    """Return a statement with NULL in the place of every placeholder.

    Raises:
        UnclearPlaceholders: As `parameters_of`.
    """
    return _replaced(sql, [(start, end, "NULL") for start, end, _ in parameters_of(sql, dialect).placeholders])


def text_around(sql: str, parameters: Parameters) -> list[str]:
    """Return the text before, between and behind the placeholders of a statement, into which values can be put."""
    parts = [""]
    last = 0
    for start, end, _ in parameters.placeholders:
        before, behind = _gaps(sql, start, end)
        parts[-1] += sql[last:start] + before
        parts.append(behind)
        last = end
    parts[-1] += sql[last:]
    return parts


def _style_of(spelling: str) -> Style:
    if spelling == "?":
        return "order"
    return "number" if spelling[1:].isascii() and spelling[1:].isdigit() else "name"


def _style(spellings: list[str], dialect: Dialect) -> Style | None:
    first_of: dict[Style, str] = {}
    for spelling in spellings:
        first_of.setdefault(_style_of(spelling), spelling)
    if len(first_of) > 1:
        mixed = " with ".join(f"`{spelling}` (by {style})" for style, spelling in first_of.items())
        operator = "; an operator `?` is written `??`" if dialect.operators and "order" in first_of else ""
        raise UnclearPlaceholders(
            f"the statement mixes {mixed}; write `?` for each value in order, or `$1`, `$2`, ... by number{operator}"
        )
    return next(iter(first_of), None)


def _by_order(spellings: list[str]) -> list[int]:
    return list(range(1, len(spellings) + 1))


def _by_name(spellings: list[str]) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(spelling, len(numbers) + 1) for spelling in spellings]


def _by_number(spellings: list[str]) -> list[int]:
    # Python refuses to read a number of thousands of digits; a number larger than their count leaves one out anyhow.
    numbers = [int(spelling[1:].lstrip("0")[:18] or "0") for spelling in spellings]
    known = set(numbers)
    if 0 in known:
        raise UnclearPlaceholders(f"`{spellings[numbers.index(0)]}`: parameters are numbered from 1")
    largest = max(numbers)
    if largest > len(known):
        missing = next(number for number in count(1) if number not in known)
        mark = spellings[0][0]
        raise UnclearPlaceholders(
            f"the statement uses `{spellings[numbers.index(largest)][:20]}`, but not `{mark}{missing}`; "
            "number its parameters from 1 and leave none out"
        )
    return numbers


_BY_STYLE: dict[Style, Callable[[list[str]], list[int]]] = {
    "order": _by_order,
    "number": _by_number,
    "name": _by_name,
}


def _advice(sql: str, dialect: Dialect, style: Style | None) -> str:
    if style is None and not dialect.named and (name := _named(sql, dialect)) is not None:
        return f" `{name}` is no parameter here: write `?` in order, or `$1`, `$2`, ... by number."
    if not dialect.operators or style != "order":
        return ""
    return " `?` is always a parameter: write the operators `?`, `?|` and `?&` as `??`, `??|` and `??&`."


def _named(sql: str, dialect: Dialect) -> str | None:
    """Return what would be the first parameter with a name in a text, if it had any."""
    for found in _NAMED.finditer(sql) if ":" in sql else ():
        if not any(start <= found.start() < end for _, start, end in tokens(sql, dialect)):
            return found[0]
    return None


_NAMED = re.compile(r"(?<![:\w]):[A-Za-z_]\w*")


def _written(sql: str, dialect: Dialect, placeholders: tuple[Placeholder, ...], operators: list[int]) -> str:
    if dialect.form == "?":
        return _replaced(sql, [(start, end, "?") for start, end, _ in placeholders])
    mark = dialect.form[0]
    pieces = [(start, end, f"{mark}{number}") for start, end, number in placeholders]
    return _replaced(sql, sorted([*pieces, *((start, start + 2, "?") for start in operators)]))


def _replaced(sql: str, pieces: list[tuple[int, int, str]]) -> str:
    """Return a text with pieces put in.

    `LIMIT?` must not become the name `LIMIT$1`, nor `?and` with a number in it `5and`: what is put in stands alone. (A
    blank everywhere would make a comment of MySQL's `1--?`.) What is as it was stays where it was, so that places in
    error messages are those of the caller's text.
    """
    parts: list[str] = []
    last = 0
    for start, end, piece in pieces:
        parts.append(sql[last:start])
        if piece in (sql[start:end], "?"):
            parts.append(piece)
        else:
            before, behind = _gaps(sql, start, end)
            parts.append(f"{before}{piece}{behind}")
        last = end
    parts.append(sql[last:])
    return "".join(parts)


def _gaps(sql: str, start: int, end: int) -> tuple[str, str]:
    """Return what has to stand before and behind a piece that is put in."""
    return " " if start and _TOUCHING.match(sql, start - 1) else "", " " if _TOUCHING.match(sql, end) else ""


_TOUCHING = re.compile(r"""[A-Za-z0-9_$.?'"`\u0080-\U0010ffff]""")
