"""A statement: what its text says, found once and kept."""

from __future__ import annotations

import msgspec

from linkly_workers._sql.parameters import Parameters, UnclearPlaceholders, parameters_of
from linkly_workers._sql.tokens import POSTGRES
from linkly_workers.database.backend import Op
from linkly_workers.database.errors import DriverError, InvalidParam
from linkly_workers.database.postgres.text import findings_of

KEPT = 1000
LONGEST_KEPT = 10_000


class Statement(msgspec.Struct, frozen=True, eq=False):
    """One statement of a caller.

    Attributes:
        text: As it was sent.
        parameters: Its placeholders, and the text as the driver takes it.
        reads: It may run outside a transaction block: whoever stops it does not care whether it had an effect.
        target: Operation and table of what it changes.
        inside: The same of what the WITH of a SELECT changes.
    """

    text: str
    parameters: Parameters
    reads: bool
    target: tuple[Op, str | None] | None
    inside: tuple[tuple[Op, str | None], ...] = ()


class Statements:
    """Statements by text; the oldest goes when there are `KEPT`."""

    def __init__(self) -> None:
        self._kept: dict[str, Statement] = {}

    def of(self, sql: str) -> Statement:
        """Return the statement of a text.

        Raises:
            DriverError: There is none in it.
            InvalidParam: Callers may not send it, or its placeholders are unclear.
        """
        statement = self._kept.get(sql)
        if statement is None:
            statement = _found(sql)
            if len(sql) <= LONGEST_KEPT:
                if len(self._kept) >= KEPT:
                    del self._kept[next(iter(self._kept))]
                self._kept[sql] = statement
        return statement


def _found(sql: str) -> Statement:
    found = findings_of(sql)
    if found.empty:
        raise DriverError("empty SQL", details={"driver": "postgres", "inner_code": None})
    if found.refusal is not None:
        why, reason = found.refusal
        raise InvalidParam(why, details={"index": 0, "reason": reason})
    try:
        parameters = parameters_of(sql, POSTGRES)
    except UnclearPlaceholders as error:
        raise InvalidParam(str(error), details={"index": 0, "reason": "unclear placeholders"}) from error
    return Statement(sql, parameters, found.reads, found.target, found.inside)
