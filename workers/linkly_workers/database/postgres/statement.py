"""A statement, and what its text says."""

from __future__ import annotations

import msgspec

from linkly_workers._sql.parameters import Parameters
from linkly_workers._sql.tokens import POSTGRES
from linkly_workers.database._server.result import Result
from linkly_workers.database._server.statements import parameters_to_send
from linkly_workers.database.backend import Op
from linkly_workers.database.postgres.text import findings_of


class Statement(msgspec.Struct, frozen=True, eq=False):
    """One statement of a caller.

    Attributes:
        text: As it was sent.
        parameters: Its placeholders, and the text as the driver takes it.
        reads: It may run outside a transaction block: whoever stops it does not care whether it had an effect.
        target: Operation and table of what it changes.
        inside: The same of what the WITH of a SELECT changes.
        only_changes: It is an INSERT, UPDATE, DELETE or MERGE, and returns no rows.
    """

    text: str
    parameters: Parameters
    reads: bool
    target: tuple[Op, str | None] | None
    inside: tuple[tuple[Op, str | None], ...] = ()
    only_changes: bool = False

    def rows_of(self, result: Result) -> int:
        """Return how many rows it has changed or found: see `backend.Statement`."""
        return len(result.rows) if self.target is None and not self.inside else result.affected_rows


def statement_of(sql: str) -> Statement:
    """Return the statement of a text.

    Raises:
        DriverError: There is none in it.
        InvalidParam: Callers may not send it, or its placeholders are unclear.
    """
    found = findings_of(sql)
    parameters = parameters_to_send(sql, POSTGRES, empty=found.empty, refusal=found.refusal)
    return Statement(sql, parameters, found.reads, found.target, found.inside, found.only_changes)
