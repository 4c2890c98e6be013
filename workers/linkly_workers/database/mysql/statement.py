"""A statement, and what its text says."""

from __future__ import annotations

import msgspec

from linkly_workers._sql.parameters import Parameters, text_around
from linkly_workers._sql.statements import statements_of
from linkly_workers._sql.tokens import MYSQL
from linkly_workers.database._server.statements import StatementsByText, parameters_to_send
from linkly_workers.database.backend import Op
from linkly_workers.database.errors import DriverError
from linkly_workers.database.mysql.text import findings_of


class Statement(msgspec.Struct, frozen=True, eq=False):
    """One statement of a caller.

    Attributes:
        text: As it was sent.
        parameters: Its placeholders.
        around: Its text around them, one piece more than there are.
        reads: It may run outside a transaction: whoever stops it does not care whether it had an effect.
        commits: What commits a transaction that it stands in, in a word or two; `None` if it does not.
        target: Operation and table of what it changes.
        returning: It has a RETURNING clause.
    """

    text: str
    parameters: Parameters
    around: list[str]
    reads: bool
    commits: str | None
    target: tuple[Op, str | None] | None
    returning: bool

    @property
    def compiled(self) -> str:
        """Its text as the server compiles it, with `?` for each placeholder."""
        return self.parameters.text

    def check_for(self, *, mariadb: bool) -> None:
        """Check that the server has such a statement: an older one would take RETURNING for something else.

        Raises:
            DriverError: It has not.
        """
        if self.returning and not (mariadb and self.target is not None and self.target[0] != "update"):
            has = "MariaDB has it for INSERT, REPLACE and DELETE" if mariadb else "MySQL has none"
            raise DriverError(
                f"RETURNING: {has}; ask for the rows in a statement of its own, in the same transaction",
                details={"driver": "mysql", "inner_code": "UNSUPPORTED"},
            )


class Statements(StatementsByText[Statement]):
    """Statements by text."""

    def __init__(self) -> None:
        super().__init__(_found)


def _found(sql: str) -> Statement:
    found = findings_of(sql)
    parameters = parameters_to_send(sql, MYSQL, empty=found.empty, refusal=found.refusal)
    if len(statements_of(sql, MYSQL)) > 1:
        raise DriverError(
            "one statement at a time: use database::transaction for several",
            details={"driver": "mysql", "inner_code": "MULTI_STATEMENT"},
        )
    around = text_around(sql, parameters)
    return Statement(sql, parameters, around, found.reads, found.commits, found.target, found.returning)
