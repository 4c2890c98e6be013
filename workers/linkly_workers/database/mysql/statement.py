"""A statement, and what its text says."""

from __future__ import annotations

import msgspec

from linkly_workers._sql.parameters import Parameters, text_around
from linkly_workers._sql.statements import statements_of
from linkly_workers._sql.tokens import MYSQL
from linkly_workers.database._server.result import Result
from linkly_workers.database._server.statements import parameters_to_send
from linkly_workers.database.backend import Op
from linkly_workers.database.errors import DriverError, InvalidParam
from linkly_workers.database.mysql.text import findings_of


class Statement(msgspec.Struct, eq=False):
    """One statement of a caller.

    Attributes:
        text: As it was sent.
        parameters: Its placeholders.
        around: Its text around them, one piece more than there are.
        reads: It may run outside a transaction: whoever stops it does not care whether it had an effect.
        commits: What commits a transaction that it stands in, in a word or two; `None` if it does not.
        target: Operation and table of what it changes.
        returning: It has a RETURNING clause.
        may_lose_digits: The text protocol may have fewer digits of what it answers than there are: see `binary`. What
            the server says of its columns settles that.
    """

    text: str
    parameters: Parameters
    around: list[str]
    reads: bool
    commits: str | None
    target: tuple[Op, str | None] | None
    returning: bool
    may_lose_digits: bool

    @property
    def compiled(self) -> str:
        """Its text as the server compiles it, with `?` for each placeholder."""
        return self.parameters.text

    @property
    def calls(self) -> bool:
        """Whether it calls a procedure, which may commit."""
        return self.target is not None and self.target[0] == "other"

    def rows_of(self, result: Result) -> int:
        """Return how many rows it has changed or found: see `backend.Statement`."""
        return len(result.rows) if self.target is None else result.affected_rows

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

    def check_in_transaction(self) -> None:
        """Check that it may stand in a transaction.

        Raises:
            InvalidParam: It would end it.
        """
        if self.commits is not None:
            raise InvalidParam(
                f"`{self.commits}` commits by itself on MySQL and MariaDB, and with it all that came before it in the "
                "transaction; run it with database::execute, outside",
                details={"index": 0, "reason": "commits by itself"},
            )


def statement_of(sql: str) -> Statement:
    """Return the statement of a text.

    Raises:
        DriverError: There is none in it, or more than one.
        InvalidParam: Callers may not send it, or its placeholders are unclear.
    """
    found = findings_of(sql)
    parameters = parameters_to_send(sql, MYSQL, empty=found.empty, refusal=found.refusal)
    if len(statements_of(sql, MYSQL)) > 1:
        raise DriverError(
            "one statement at a time: use database::transaction for several",
            details={"driver": "mysql", "inner_code": "MULTI_STATEMENT"},
        )
    around = text_around(sql, parameters)
    return Statement(
        sql, parameters, around, found.reads, found.commits, found.target, found.returning, found.of_tables
    )
